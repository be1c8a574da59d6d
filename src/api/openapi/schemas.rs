//! The schemas of what is sent and answered: those that the types derive for MCP too. JSON Schema 2020-12 is the dialect of OpenAPI 3.1,
//! so they go into the document as they are; the document's types that crates offer would lose keywords that they do not know.

use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::SchemaSettings,
    transform::{Transform, transform_subschemas},
};
use serde_json::{Map, Value, json};

/// Collects the schemas that a document refers to. What is read and what is written may differ in what is required.
#[derive(Debug)]
pub(crate) struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    })
}

impl Schemas {
    /// None yet.
    pub(super) fn new() -> Self {
        let read = settings().with_transform(Tidy { written: false }).for_deserialize();
        let written = settings().with_transform(Tidy { written: true }).for_serialize();
        Self { read: read.into_generator(), written: written.into_generator() }
    }

    /// That of what clients send.
    pub(crate) fn requested<T: JsonSchema>(&mut self) -> Value {
        self.read.subschema_for::<T>().into()
    }

    /// That of what is answered.
    pub(crate) fn answered<T: JsonSchema>(&mut self) -> Value {
        let mut schema = self.written.subschema_for::<T>();
        Tidy { written: true }.transform(&mut schema);
        schema.into()
    }

    /// The fields of a type as parameters of a query.
    pub(super) fn parameters<T: JsonSchema>(&mut self) -> Vec<Value> {
        let mut schema = T::json_schema(&mut self.read);
        Tidy { written: true }.transform(&mut schema);
        let required = schema.get("required").cloned().unwrap_or_default();
        let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let parameter = |(name, mut schema): (String, Value)| {
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let required = required.as_array().is_some_and(|all| all.contains(&json!(name)));
            json!({"name": name, "in": "query", "required": required, "description": description, "schema": schema})
        };
        properties.into_iter().map(parameter).collect()
    }

    /// All that were referred to. An error names one that is read in another form than it is written in: it needs two types.
    pub(super) fn components(mut self) -> Result<Map<String, Value>, String> {
        let mut all = self.read.take_definitions(true);
        for (name, schema) in self.written.take_definitions(true) {
            if all.get(&name).is_some_and(|known| *known != schema) {
                return Err(format!("{name} is one thing in requests and another in answers"));
            }
            all.insert(name, schema);
        }
        Ok(all)
    }
}

/// Makes schemas say what clients want to know, in the form that generators of clients read best.
#[derive(Debug, Clone)]
struct Tidy {
    /// What is left out of an answer is not null in it.
    written: bool,
}

impl Transform for Tidy {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        enumerate(schema);
        // The size of a machine's words says nothing; bounds stand beside it.
        if schema.get("format").is_some_and(|format| format == "uint") {
            schema.remove("format");
        }
        if self.written {
            without_null(schema);
        } else {
            with_null(schema);
        }
    }
}

/// Alternatives that are single words are an `enum`; what each means goes into the description.
fn enumerate(schema: &mut Schema) {
    let Some(Value::Array(parts)) = schema.get("oneOf") else { return };
    let (mut words, mut said) = (Vec::new(), Vec::new());
    for part in parts {
        match (&part["const"], &part["enum"]) {
            (Value::String(word), _) => {
                words.push(json!(word));
                if let Value::String(meaning) = &part["description"] {
                    said.push(format!("* `{word}`: {meaning}"));
                }
            }
            (_, Value::Array(plain)) if plain.iter().all(Value::is_string) => words.extend(plain.clone()),
            _ => return,
        }
    }
    let about = schema.get("description").and_then(Value::as_str).map(str::to_owned);
    let description: Vec<String> =
        about.into_iter().chain([said.join("\n")]).filter(|text| !text.is_empty()).collect();
    schema.remove("oneOf");
    schema.insert("type".into(), "string".into());
    schema.insert("enum".into(), words.into());
    if !description.is_empty() {
        schema.insert("description".into(), description.join("\n\n").into());
    }
}

/// Fields that may be left out and have no default are options, which may be null too. Some say so only where MCP does not read it.
fn with_null(schema: &mut Schema) {
    if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        return;
    }
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    for (_, property) in properties.iter_mut().filter(|(name, _)| !required.contains(&json!(name))) {
        let Value::Object(property) = property else { continue };
        if property.get("default").is_some_and(Value::is_null) {
            property.remove("default");
        }
        if property.contains_key("default") {
            continue;
        }
        if let Some(of_type) = property.get_mut("type").filter(|of_type| of_type.is_string()) {
            *of_type = json!([of_type, "null"]);
            if let Some(Value::Array(words)) = property.get_mut("enum") {
                words.push(Value::Null);
            }
        } else if let Some(reference) = property.remove("$ref") {
            property.insert("anyOf".into(), json!([{"$ref": reference}, {"type": "null"}]));
        }
    }
}

/// Fields that may be left out are left out rather than null.
fn without_null(schema: &mut Schema) {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    for (_, property) in properties.iter_mut().filter(|(name, _)| !required.contains(&json!(name))) {
        let Value::Object(property) = property else { continue };
        property.retain(|name, value| name != "default" || !value.is_null());
        if let Some(Value::Array(types)) = property.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                property.insert("type".into(), only);
            }
        }
        if let Some(Value::Array(parts)) = property.get_mut("anyOf") {
            parts.retain(|part| part["type"] != "null");
            if let [Value::Object(only)] = parts.as_slice() {
                let only = only.clone();
                property.remove("anyOf");
                property.extend(only);
            }
        }
    }
}
