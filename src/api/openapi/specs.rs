//! What the `spec` of a job may be, for each kind: the fields of a backtest and those of what is made of it, side by side in one object;
//! or those of an analysis, as its tool has them.

use jesse::{
    candles::exchange::job::ImportRequest,
    monte_carlo::ScenariosRequest,
    optimize::{spec::SearchRequest, walk_forward::WindowsRequest},
    significance::BootstrapRequest,
    spec::BacktestRequest,
};
use jobs::Kind;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::pascal;
use crate::mcp;

/// The kinds of job that can be submitted, and the schema of the spec of each.
fn specs(schemas: &mut SchemaGenerator) -> Vec<(Kind, Schema)> {
    let backtest = schemas.subschema_for::<BacktestRequest>();
    let own = BacktestRequest::json_schema(schemas);
    let (search, windows) = (SearchRequest::json_schema(schemas), WindowsRequest::json_schema(schemas));
    let bootstrap = BootstrapRequest::json_schema(schemas);
    let mut specs = vec![
        (Kind::Backtest, backtest),
        (Kind::Optimize, merged(&[&own, &search])),
        (Kind::WalkForward, merged(&[&own, &search, &windows])),
        (Kind::SignificanceTest, merged(&[&own, &bootstrap])),
        (Kind::CandlesImport, ImportRequest::json_schema(schemas)),
    ];
    let scenarios = merged(&[&own, &ScenariosRequest::json_schema(schemas)]);
    let resampled = "The returns or trades of a result, in another order: `job_id` (or `jobs`, or `returns` with `period`) and `method`, \
        which is returns or trades";
    let of_result = analysis(
        &json!({
            "job_id": {"type": "string"},
            "jobs": {"type": "array", "items": {"type": "object"}},
            "returns": {"type": "array", "items": {"type": "number"}},
            "period": {"type": "string"},
            "method": {"type": "string", "enum": ["returns", "trades"]},
            "paths": {"type": "integer"},
            "steps": {"type": "integer"},
            "seed": {"type": "integer"},
        }),
        resampled,
    );
    specs.push((Kind::MonteCarlo, object(json!({"anyOf": [scenarios, of_result]}))));
    for (kind, properties, about) in mcp::analyses() {
        specs.push((kind, analysis(&Value::Object(properties), &about)));
    }
    let named = |(kind, schema): (Kind, Schema)| {
        if kind == Kind::Backtest {
            return (kind, schema);
        }
        let name = format!("{}Spec", pascal(kind.as_str()));
        let reference = object(json!({"$ref": format!("#/components/schemas/{name}")}));
        schemas.definitions_mut().insert(name, schema.into());
        (kind, reference)
    };
    specs.into_iter().map(named).collect()
}

/// An analysis takes more than is said: how each result is weighted, where returns begin, and bounds of its methods.
fn analysis(properties: &Value, about: &str) -> Schema {
    object(json!({"type": "object", "description": about, "properties": properties}))
}

fn object(schema: Value) -> Schema {
    Schema::try_from(schema).unwrap_or_default()
}

/// One object with the fields of several.
fn merged(parts: &[&Schema]) -> Schema {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for part in parts {
        properties.extend(part.get("properties").and_then(Value::as_object).cloned().unwrap_or_default());
        required.extend(part.get("required").and_then(Value::as_array).cloned().unwrap_or_default());
    }
    object(json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    }))
}

/// The spec of a job whose kind is not known: of one or another. See [`one_of_each_kind`].
pub(crate) fn spec_of_any_kind(schemas: &mut SchemaGenerator) -> Schema {
    let all: Vec<_> =
        specs(schemas).into_iter().map(|(kind, schema)| json!({"kind": kind, "spec": schema})).collect();
    object(json!({ BY_KIND: all }))
}

/// Holds kinds and specs between the two.
const BY_KIND: &str = "x-by-kind";

/// Turns an object with a `kind` and a spec of any kind into alternatives, each of one kind and with its spec.
pub(crate) fn one_of_each_kind(schema: &mut Schema) {
    let Some(Value::Array(specs)) = schema.pointer("/properties/spec").map(|spec| spec[BY_KIND].clone())
    else {
        return;
    };
    let description = schema.remove("description");
    let about_spec = schema.pointer("/properties/spec/description").cloned();
    let of_kind = |part: &Value| {
        let (kind, mut spec) = (part["kind"].as_str().unwrap_or_default(), part["spec"].clone());
        let mut variant = schema.clone();
        if let Some(Value::Object(properties)) = variant.get_mut("properties") {
            properties.insert("kind".into(), json!({"type": "string", "const": kind}));
            if let Some(about) = &about_spec {
                spec["description"] = about.clone();
            }
            properties.insert("spec".into(), spec);
        }
        variant.insert("title".into(), format!("{}Job", pascal(kind)).into());
        Value::from(variant)
    };
    let variants: Vec<_> = specs.iter().map(of_kind).collect();
    *schema = object(json!({"description": description, "oneOf": variants}));
}
