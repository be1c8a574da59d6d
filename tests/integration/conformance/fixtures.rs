//! The tools, resources and prompts that the conformance suite asks for by name, beside those of the product: the handler
//! answers everything else itself. Those that make tasks are jobs in the real store, told of by the real code.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jesse_jobs::mcp::Handler;
use jobs::{
    CacheKey, CacheMode, JobId, JobState, Kind, Queue, Submission, TenantId, Treatment, documents::Documents,
};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CancelTaskParams, ClientCapabilities, CompleteRequestParams,
        CompleteResult, CompletionInfo, DetailedTask, GetPromptRequestParams, GetPromptResponse,
        GetPromptResult, GetTaskParams, GetTaskResult, InitializeRequestParams, InitializeResult,
        InputRequests, InputRequiredResult, ListPromptsResult, ListResourceTemplatesResult,
        ListResourcesResult, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam,
        ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ServerConfig,
        SubscriptionFilter, TaskPayload, Tool, UpdateTaskParams,
    },
    service::{RequestContext, SubscriptionContext},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The smallest image there is.
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";
/// What is answered of each job's questions.
pub type Answers = BTreeMap<String, Value>;
pub const ANSWERS: &str = "conformance";

/// The product with fixtures.
#[derive(Clone)]
pub struct Fixtures {
    pub product: Handler,
    pub queue: Queue,
    pub answers: Arc<Documents<Answers>>,
}

/// What a job of a fixture is asked to do, and under which name answers to its questions are kept.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Work {
    pub tool: String,
    pub name: String,
    #[serde(default)]
    pub arguments: Value,
}

impl Work {
    /// What it asks its client, by key.
    pub fn questions(&self) -> &'static [&'static str] {
        match self.tool.as_str() {
            "confirm_delete" => &["confirm"],
            "multi_input" => &["first", "second"],
            _ => &[],
        }
    }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value).map_err(|error| internal(&error))
}

fn internal(error: &dyn std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

fn question(message: &str) -> Value {
    json!({"method": "elicitation/create", "params": {
        "mode": "form", "message": message,
        "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}, "confirm": {"type": "boolean"}}},
    }})
}

fn tools() -> Result<Vec<Tool>, ErrorData> {
    let none = json!({"type": "object", "properties": {}});
    let with = |properties: Value| json!({"type": "object", "properties": properties});
    let mut described: Vec<(&str, Value)> = [
        "failing_job",
        "protocol_error_job",
        "confirm_delete",
        "multi_input",
        "test_tool_with_task",
        "test_missing_capability",
        "test_streaming_elicitation",
        "test_logging_tool",
        "test_simple_text",
        "test_image_content",
        "test_audio_content",
        "test_embedded_resource",
        "test_multiple_content_types",
        "test_tool_with_progress",
        "test_error_handling",
    ]
    .map(|name| (name, none.clone()))
    .into();
    described.push(("greet", with(json!({"name": {"type": "string"}}))));
    described
        .push(("slow_compute", with(json!({"seconds": {"type": "number"}, "label": {"type": "string"}}))));
    described.push((
        "json_schema_2020_12_tool",
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {
                "street": {"type": "string"}, "city": {"type": "string"}}}},
            "properties": {
                "name": {"type": "string"}, "address": {"$ref": "#/$defs/address"},
                "contactMethod": {"type": "string", "enum": ["phone", "email"]},
                "phone": {"type": "string"}, "email": {"type": "string"}},
            "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
            "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
            "then": {"required": ["phone"]}, "else": {"required": ["email"]}, "additionalProperties": false,
        }),
    ));
    let tool = |(name, schema): (&str, Value)| {
        read(json!({"name": name, "description": "A fixture.", "inputSchema": schema}))
    };
    described.into_iter().map(tool).collect()
}

/// What the fixtures that neither wait nor ask answer.
fn content(tool: &str, arguments: &Value) -> Option<Value> {
    let text = |text: &str| json!({"type": "text", "text": text});
    let image = json!({"type": "image", "data": PNG, "mimeType": "image/png"});
    let embedded = |uri: &str| json!({"type": "resource", "resource": {"uri": uri, "mimeType": "text/plain", "text": "embedded"}});
    let content = match tool {
        "greet" => json!([text(&format!("Hello, {}!", arguments["name"].as_str().unwrap_or("you")))]),
        "test_simple_text" => json!([text("This is a simple text response for testing.")]),
        "test_image_content" => json!([image]),
        "test_audio_content" => json!([{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]),
        "test_embedded_resource" => json!([embedded("test://embedded-resource")]),
        "test_multiple_content_types" => {
            json!([text("Multiple content types test:"), image, embedded("test://mixed-content-resource")])
        }
        "test_error_handling" => json!([text("This tool intentionally returns an error for testing")]),
        "test_streaming_elicitation" | "test_logging_tool" | "test_tool_with_progress" => {
            json!([text("done")])
        }
        _ => return None,
    };
    Some(json!({"content": content, "isError": tool == "test_error_handling", "resultType": "complete"}))
}

fn resource(uri: &str) -> Option<Value> {
    let shown = match uri {
        "test://static-text" => {
            json!({"mimeType": "text/plain", "text": "This is the content of the static text resource."})
        }
        "test://static-binary" => json!({"mimeType": "image/png", "blob": PNG}),
        _ => {
            let id = uri.strip_prefix("test://template/")?.strip_suffix("/data")?;
            let text =
                json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")}).to_string();
            json!({"mimeType": "application/json", "text": text})
        }
    };
    let mut shown = shown;
    shown["uri"] = uri.into();
    Some(json!({"contents": [shown], "ttlMs": 0, "cacheScope": "private", "resultType": "complete"}))
}

fn prompt(name: &str, arguments: &Value) -> Option<Value> {
    let argument = |name: &str| arguments[name].as_str().unwrap_or_default();
    let text = |text: String| json!({"role": "user", "content": {"type": "text", "text": text}});
    let messages = match name {
        "test_simple_prompt" => json!([text("This is a simple prompt for testing.".into())]),
        "test_prompt_with_arguments" => {
            let said =
                format!("Prompt with arguments: arg1='{}', arg2='{}'", argument("arg1"), argument("arg2"));
            json!([text(said)])
        }
        "test_prompt_with_embedded_resource" => json!([
            {"role": "user", "content": {"type": "resource", "resource": {
                "uri": argument("resourceUri"), "mimeType": "text/plain", "text": "Embedded resource content for testing."}}},
            text("Please process the embedded resource above.".into()),
        ]),
        "test_prompt_with_image" => json!([
            {"role": "user", "content": {"type": "image", "data": PNG, "mimeType": "image/png"}},
            text("Please analyze the image above.".into()),
        ]),
        _ => return None,
    };
    Some(json!({"messages": messages, "resultType": "complete"}))
}

impl Fixtures {
    /// Makes a job of the call and tells of it as of any other.
    async fn submit(
        &self,
        tool: &str,
        arguments: Value,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        // A tool that cannot do without tasks says so before anything is queued.
        let follows = context.client_capabilities().is_some_and(|client| client.supports_tasks());
        if tool == "failing_job" && !follows {
            let needed = ClientCapabilities::builder().enable_tasks().build();
            return Err(ErrorData::missing_required_client_capability(needed));
        }
        let name = JobId::generate().to_string();
        let work = Work { tool: tool.to_owned(), name: name.clone(), arguments };
        let request = serde_json::to_string(&work).map_err(|error| internal(&error))?;
        let submission = Submission {
            tenant: TenantId::default_tenant(),
            kind: Kind::Backtest,
            treatment: Treatment { cache: CacheMode::Off, max_attempts: 1, ..Treatment::default() },
            cache_key: CacheKey::new(name),
            plan: "{}".into(),
            request,
            start_at_ms: None,
            deadline_ms: None,
            idempotency: None,
            instead_of: None,
            trial_of: Vec::new(),
        };
        let (job, _) = self.queue.submit(&submission).await.map_err(|error| internal(&error))?;
        let followed = self
            .product
            .follow(&TenantId::default_tenant(), job, Duration::from_secs(25), Vec::new(), context)
            .await;
        followed.map_err(|error| internal(&error))
    }

    /// What a fixture's job is asked to do, if this is one of them, and its answers so far.
    async fn work(&self, task: &str) -> Result<Option<(Work, JobState, Answers)>, ErrorData> {
        let Ok(job) = task.parse::<JobId>() else { return Ok(None) };
        let Ok(view) = self.queue.get(job, &TenantId::default_tenant()).await else { return Ok(None) };
        let Ok(work) = serde_json::from_str::<Work>(view.request.get()) else { return Ok(None) };
        let answers = self.answers.get(&work.name).await.map_err(|error| internal(&error))?;
        Ok(Some((work, view.state, answers.map(|answers| answers.value.clone()).unwrap_or_default())))
    }
}

impl ServerHandler for Fixtures {
    fn get_info(&self) -> ServerConfig {
        self.product.get_info()
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        self.product.initialize(request, context).await
    }

    async fn list_tools(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let mut listed = self.product.list_tools(page, context).await?;
        listed.tools.extend(tools()?);
        Ok(listed)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let mut arguments = Value::Object(request.arguments.clone().unwrap_or_default());
        let tool = request.name.to_string();
        if tool == "test_tool_with_progress"
            && let Some(token) = context.meta.get_progress_token()
        {
            for step in [0.0, 50.0, 100.0] {
                let step = ProgressNotificationParam::new(token.clone(), step).with_total(100.0);
                context.peer.notify_progress(step).await.map_err(|error| internal(&error))?;
            }
        }
        if let Some(answer) = content(&tool, &arguments) {
            return Ok(CallToolResponse::Complete(read(answer)?));
        }
        match tool.as_str() {
            "test_missing_capability" => {
                let needed: ClientCapabilities = read(json!({"sampling": {}}))?;
                Err(ErrorData::missing_required_client_capability(needed))
            }
            "test_tool_with_task" => {
                let Some(name) = request.input_responses.and_then(|given| given.get("user_name").cloned())
                else {
                    let asked: InputRequests = read(json!({"user_name": question("What is your name?")}))?;
                    return Ok(CallToolResponse::InputRequired(InputRequiredResult::from_input_requests(
                        asked,
                    )));
                };
                arguments["user_name"] = name;
                self.submit(&tool, arguments, &context).await
            }
            "slow_compute" | "failing_job" | "protocol_error_job" | "confirm_delete" | "multi_input" => {
                self.submit(&tool, arguments, &context).await
            }
            _ => self.product.call_tool(request, context).await,
        }
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        let fixture = self.work(&request.task_id).await?;
        let told = self.product.get_task(request, context).await?;
        let Some((work, state, answers)) = fixture else { return Ok(told) };
        let task = told.task.task;
        let mut open = json!({});
        for key in work.questions().iter().filter(|key| !answers.contains_key(**key)) {
            open[key] = question(key);
        }
        let payload = match state {
            JobState::Failed if work.tool == "protocol_error_job" => {
                TaskPayload::Failed { error: read(json!({"code": -32603, "message": "as it was asked to"}))? }
            }
            state if !state.is_terminal() && open != json!({}) => {
                TaskPayload::InputRequired { input_requests: read(open)? }
            }
            _ => told.task.payload,
        };
        Ok(GetTaskResult::new(DetailedTask::new(task, payload)))
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let Some((work, _, _)) = self.work(&request.task_id).await? else {
            return self.product.update_task(request, context).await;
        };
        loop {
            let before = self.answers.get(&work.name).await.map_err(|error| internal(&error))?;
            let mut answers = before.as_ref().map(|before| before.value.clone()).unwrap_or_default();
            answers.extend(request.input_responses.clone());
            answers.retain(|key, _| work.questions().contains(&key.as_str()));
            let hash = before.as_ref().map(|before| before.hash.as_str());
            if self.answers.replace(&work.name, hash, &answers).await.map_err(|error| internal(&error))? {
                return Ok(());
            }
        }
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.product.cancel_task(request, context).await
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        self.product.accepted_subscription_filter(requested)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.product.listen(context).await
    }

    async fn list_resources(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let mut listed = self.product.list_resources(page, context).await?;
        for name in ["static-text", "static-binary"] {
            listed.resources.push(read(json!({"uri": format!("test://{name}"), "name": name}))?);
        }
        Ok(listed)
    }

    async fn list_resource_templates(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let mut listed = self.product.list_resource_templates(page, context).await?;
        let template = json!({"uriTemplate": "test://template/{id}/data", "name": "template"});
        listed.resource_templates.push(read(template)?);
        Ok(listed)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        match resource(&request.uri) {
            Some(fixture) => Ok(read::<ReadResourceResult>(fixture)?.into()),
            None => self.product.read_resource(request, context).await,
        }
    }

    async fn list_prompts(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let mut listed = self.product.list_prompts(page, context).await?;
        for (name, arguments) in [
            ("test_simple_prompt", &[][..]),
            ("test_prompt_with_arguments", &["arg1", "arg2"]),
            ("test_prompt_with_embedded_resource", &["resourceUri"]),
            ("test_prompt_with_image", &[]),
        ] {
            let arguments: Vec<_> =
                arguments.iter().map(|name| json!({"name": name, "required": true})).collect();
            listed
                .prompts
                .push(read(json!({"name": name, "description": "A fixture.", "arguments": arguments}))?);
        }
        Ok(listed)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let arguments = serde_json::to_value(&request.arguments).map_err(|error| internal(&error))?;
        match prompt(&request.name, &arguments) {
            Some(fixture) => Ok(read::<GetPromptResult>(fixture)?.into()),
            None => self.product.get_prompt(request, context).await,
        }
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let about = serde_json::to_value(&request.r#ref).map_err(|error| internal(&error))?;
        if about["name"] == "test_prompt_with_arguments" {
            return Ok(CompleteResult::new(CompletionInfo::default()));
        }
        self.product.complete(request, context).await
    }
}
