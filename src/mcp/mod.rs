//! The MCP endpoint: Streamable HTTP, stateless, so that any instance answers any request of any protocol version.
//!
//! A call that submits waits a little for the job and mostly brings the result itself; when it does not, it answers a
//! handle with what to do next. A client that declares the tasks extension gets a task instead, see [`tasks`]. A client
//! that goes away ends its call, never the job.

mod aliases;
mod app;
mod arguments;
mod audit;
pub(crate) mod batch;
#[cfg(test)]
mod guide;
mod headers;
mod lookup;
mod permissions;
mod prompts;
mod resources;
mod risk;
pub(crate) mod stdio;
mod subscriptions;
pub(crate) mod table;
mod tasks;
mod tools;
mod webhooks;

use std::{sync::Arc, time::Duration};

use access::{Caller, Scope};
use analysis::ledger::Figures;
use axum::{Router, middleware};
use jiff::Timestamp;
use jobs::{Accepted, JobId, JobView, Kind, TenantId};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams,
        CompleteRequestParams, CompleteResult, CreateTaskResult, GetPromptRequestParams, GetPromptResponse,
        GetTaskParams, GetTaskResult, Implementation, InitializeRequestParams, InitializeResult,
        ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
        PaginatedRequestParams, ProgressNotificationParam, ReadResourceRequestParams, ReadResourceResponse,
        ServerCapabilities, ServerConfig, SubscriptionFilter, Tool, UpdateTaskParams,
    },
    service::{RequestContext, SubscriptionContext},
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    callers::{Callers, require},
    errors::{Code, ServiceError},
    metrics::Metrics,
    service::{Invalidate, Service, Window},
    views::JobAnswer,
};
use arguments::{Job, Read, Submitting, Written};
use batch::SubmittingBatch;

const INSTRUCTIONS: &str = "Runs Jesse backtests as durable jobs. Start with strategy_list and candles_list, then call backtest: it \
    usually answers with the metrics; if it answers with a state that is not final, call job_get with the job_id. The same \
    backtest again is answered from the cache. Jobs go on when a call ends. Many backtests: one backtest_batch. Trades, equity curve and logs \
    are resources: job://{job_id}/trades, /equity_curve, /logs; job_chart draws. More: guide://agents.";

/// The most source text of one answer, in bytes: about 8,000 tokens.
const MOST_SOURCE: usize = 32 << 10;

/// How long clients may keep the list of tools.
const TOOLS_TTL_MS: u64 = 300_000;

/// The endpoint's route, which ends waiting calls early once `stop` is cancelled.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(
    handler: impl ServerHandler + Clone,
    stop: CancellationToken,
) -> Router<S> {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        // Host names are checked for all routes alike.
        .disable_allowed_hosts()
        .with_max_request_body_bytes(headers::MAX_BODY)
        .with_cancellation_token(stop);
    let endpoint = StreamableHttpService::new(
        move || Ok(handler.clone()),
        NeverSessionManager::default().into(),
        config,
    );
    Router::new().route_service("/mcp", endpoint).layer(middleware::from_fn(headers::name_task))
}

/// Answers MCP requests.
#[derive(Debug, Clone)]
pub struct Handler {
    service: Service,
    callers: Callers,
    metrics: Arc<Metrics>,
    tools: Arc<Vec<Tool>>,
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(
            ServerCapabilities::builder()
                .enable_tools()
                .enable_resources()
                .enable_resources_subscribe()
                .enable_prompts()
                .enable_completions()
                .enable_tasks()
                .build(),
        )
        .with_server_info(Implementation::new("jesse-jobs", env!("CARGO_PKG_VERSION")))
        .with_instructions(INSTRUCTIONS)
    }

    /// Clients of earlier versions are not promised what they cannot use.
    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        context.peer.set_peer_info(request.clone());
        let mut info = self.negotiate_initialize(&request)?;
        info.capabilities.extensions = None;
        // They have another call for it, which would need a session.
        if let Some(resources) = &mut info.capabilities.resources {
            resources.subscribe = None;
        }
        Ok(info)
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        let view = self.task(&context, &request.task_id).await?;
        let caller = permissions::caller(&context)?;
        let campaign = self.service.campaign_of_job(&caller.tenant, &view).await;
        let campaign = campaign.map_err(tasks::protocol_error)?;
        let task = tasks::detailed(view, self.kept(), now_ms(), |view| answer(view, campaign))
            .map_err(tasks::protocol_error)?;
        Ok(GetTaskResult::new(task))
    }

    /// No task ever asks its client for anything, so there is nothing to take in.
    async fn update_task(
        &self,
        request: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.task(&context, &request.task_id).await.map(drop)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let caller = permissions::caller(&context)?;
        require(caller, Scope::JobsWrite).map_err(tasks::protocol_error)?;
        let job = tasks::job(&request.task_id)?;
        let cancelled = self.service.cancel(&caller.tenant, job).await;
        let outcome = cancelled.as_ref().err().map(|error| error.code);
        audit::note(&self.callers, &context, "tasks/cancel", job.to_string(), outcome).await;
        cancelled.map(drop).map_err(tasks::protocol_error)
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let caller = permissions::caller(&context)?;
        // What only apps call is nothing to a model whose client shows none.
        let apps = app::may_be_shown(&context);
        let listed =
            |tool: &&Tool| permissions::may(caller, &tool.name) && (apps || tool.name != tools::JOB_SERIES);
        let tools = ListToolsResult::with_all_items(self.tools.iter().filter(listed).cloned().collect());
        // What is listed depends on who asks.
        Ok(tools.with_ttl_ms(TOOLS_TTL_MS).with_cache_scope(CacheScope::Private))
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(resources::list().with_ttl_ms(TOOLS_TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn list_resource_templates(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(resources::templates().with_ttl_ms(TOOLS_TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let caller = permissions::caller(&context)?;
        let read = resources::read(&self.service, caller, &request.uri).await?;
        Ok(read.into())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(subscriptions::accepted(requested))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let caller = permissions::caller(context.request_context())?;
        require(caller, Scope::JobsRead).map_err(tasks::protocol_error)?;
        let tenant = caller.tenant.clone();
        subscriptions::listen(&self.service, &tenant, context).await
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let caller = permissions::caller(&context)?;
        resources::complete(&self.service, caller, &request.r#ref, &request.argument).await
    }

    async fn list_prompts(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(prompts::list().with_ttl_ms(TOOLS_TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompts::get(&request.name, request.arguments.as_ref()).map(GetPromptResponse::from)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let started = std::time::Instant::now();
        let Some(tool) = self.tools.iter().find(|tool| tool.name == request.name) else {
            let name: String = request.name.chars().take(80).collect();
            return Err(ErrorData::invalid_params(format!("unknown tool {name:?}"), None));
        };
        let caller = permissions::caller(&context)?;
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let changes = permissions::changes(&tool.name) && permissions::may(caller, &tool.name);
        let named = changes.then(|| audit::named(&arguments));
        let span = permissions::tool_span(&context, &tool.name);
        let answer = self.allowed(caller, &tool.name, arguments, &context).instrument(span).await;
        if let Some(named) = named {
            let target = answer.as_ref().ok().and_then(audit::made).unwrap_or(named);
            let outcome = answer.as_ref().err().map(|error| error.code);
            audit::note(&self.callers, &context, &format!("tool {}", tool.name), target, outcome).await;
        }
        self.metrics.tool(&tool.name, started.elapsed());
        Ok(answer.unwrap_or_else(|error| {
            self.metrics.error(&audit::name_of(error.code));
            CallToolResult::structured_error(json!({ "error": error })).into()
        }))
    }
}

/// The kinds of risk analysis, with the arguments of each and what it is for.
pub(crate) fn analyses() -> Vec<(Kind, serde_json::Map<String, Value>, String)> {
    let told = |(kind, tool): (Kind, Tool)| {
        let arguments = tool.input_schema.get("properties").and_then(Value::as_object).cloned();
        (kind, arguments.unwrap_or_default(), tool.description.unwrap_or_default().into_owned())
    };
    risk::KINDS.into_iter().zip(risk::all()).map(told).collect()
}

/// What a tool submits, if it submits a job that the client is to follow.
fn submitted(tool: &str) -> Option<Kind> {
    match tool {
        tools::BACKTEST => Some(Kind::Backtest),
        tools::OPTIMIZE => Some(Kind::Optimize),
        tools::MONTE_CARLO => Some(Kind::MonteCarlo),
        tools::WALK_FORWARD => Some(Kind::WalkForward),
        tools::SIGNIFICANCE_TEST => Some(Kind::SignificanceTest),
        tools::CANDLES_IMPORT => Some(Kind::CandlesImport),
        other => risk::kind(other),
    }
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// What a job's state means for the call: a job that did not succeed is the tool's error.
fn answer(view: JobView, campaign: Option<Figures>) -> Result<CallToolResult, ServiceError> {
    let (failed, kind) = (view.error.is_some(), view.kind);
    let mut value = serde_json::to_value(JobAnswer::brief(view).in_campaign(campaign))
        .map_err(|error| ServiceError::internal("a job cannot be shown", &error))?;
    if risk::KINDS.contains(&kind) {
        risk::brief(&mut value);
    }
    Ok(if failed { CallToolResult::structured_error(value) } else { CallToolResult::structured(value) })
}

fn structured(answer: &impl serde::Serialize) -> Result<CallToolResult, ServiceError> {
    let value = serde_json::to_value(answer)
        .map_err(|error| ServiceError::internal("an answer cannot be shown", &error))?;
    Ok(CallToolResult::structured(value))
}

/// An answer that tells which arguments have other names here.
fn noted(answer: CallToolResult, notes: Vec<String>) -> CallToolResult {
    let Some(Value::Object(mut fields)) = answer.structured_content.clone().filter(|_| !notes.is_empty())
    else {
        return answer;
    };
    fields.insert("notes".to_owned(), notes.into());
    let fields = Value::Object(fields);
    if answer.is_error == Some(true) {
        CallToolResult::structured_error(fields)
    } else {
        CallToolResult::structured(fields)
    }
}

impl Handler {
    /// A handler that calls this service for these callers.
    pub fn new(service: Service, callers: Callers, metrics: Arc<Metrics>) -> Self {
        let tools = Arc::new(tools::all(service.strategies_are_writable(), service.candles_are_imported()));
        Self { service, callers, metrics, tools }
    }

    /// Calls a tool, if the caller's key allows it.
    async fn allowed(
        &self,
        caller: &Caller,
        tool: &str,
        arguments: Value,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ServiceError> {
        if let Some(scope) = permissions::scope_of(tool) {
            require(caller, scope)?;
        }
        match submitted(tool) {
            Some(kind) => self.submit(caller, kind, arguments, context).await,
            None => self.call(caller, tool, arguments, context).await.map(CallToolResponse::from),
        }
    }

    async fn call(
        &self,
        caller: &Caller,
        tool: &str,
        arguments: Value,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ServiceError> {
        let tenant = caller.tenant.clone();
        match tool {
            tools::JOB_GET => self.get_jobs(&tenant, arguments::parse(arguments)?, context).await,
            tools::JOB_LIST => {
                structured(&lookup::list(&self.service, &tenant, arguments::parse(arguments)?).await?)
            }
            tools::JOB_CHART => app::picture(&self.service, &tenant, arguments::parse(arguments)?).await,
            tools::JOB_SERIES => app::series(&self.service, &tenant, arguments::parse(arguments)?).await,
            tools::BACKTEST_BATCH => self.submit_batch(caller, arguments, context).await,
            tools::JOB_CANCEL => {
                let Job { job_id } = arguments::parse(arguments)?;
                answer(self.service.cancel(&tenant, arguments::job_id(&job_id)?).await?, None)
            }
            tools::CACHE_INVALIDATE => {
                let which: Invalidate = arguments::parse(arguments)?;
                let invalidated = serde_json::to_value(self.service.invalidate(caller, which).await?)
                    .map_err(|error| ServiceError::internal("an answer cannot be shown", &error))?;
                Ok(CallToolResult::structured(invalidated))
            }
            tools::STRATEGY_LIST => {
                let arguments::Nothing {} = arguments::parse(arguments)?;
                Ok(CallToolResult::structured(json!({ "strategies": self.service.strategies().await? })))
            }
            tools::STRATEGY_READ => {
                let Read { name, file } = arguments::parse(arguments)?;
                structured(&self.service.strategy(&name, file.as_deref(), MOST_SOURCE).await?)
            }
            tools::STRATEGY_VALIDATE => {
                let Written { draft, wait, .. } = Written::parse(arguments, false)?;
                let validating = self.service.validate(&tenant, draft, wait);
                structured(&self.until_gone(context, validating).await?)
            }
            tools::STRATEGY_WRITE => {
                let Written { draft, replace, wait } = Written::parse(arguments, true)?;
                let writing = self.service.write(&tenant, draft, replace, wait);
                structured(&self.until_gone(context, writing).await?)
            }
            tools::HEALTH => {
                let arguments::Nothing {} = arguments::parse(arguments)?;
                structured(&self.service.health(true).await)
            }
            webhooks::NAME => {
                self.until_gone(context, webhooks::call(&self.service, &tenant, arguments)).await
            }
            tools::CANDLES_LIST => {
                let arguments::Nothing {} = arguments::parse(arguments)?;
                Ok(CallToolResult::structured(json!({ "candles": self.service.candles().await? })))
            }
            other => Err(ServiceError::new(Code::Internal, format!("the tool {other:?} has no code"))),
        }
    }

    /// How long a job's record is kept after its end.
    fn kept(&self) -> Duration {
        self.service.queue().retention().jobs
    }

    /// The job behind a task, as it stands.
    async fn task(&self, context: &RequestContext<RoleServer>, task_id: &str) -> Result<JobView, ErrorData> {
        let caller = permissions::caller(context)?;
        require(caller, Scope::JobsRead).map_err(tasks::protocol_error)?;
        let job = tasks::job(task_id)?;
        let view = self.service.job(&caller.tenant, job, Duration::ZERO, |_| {}).await;
        view.map_err(tasks::protocol_error)
    }

    /// Submits a job and waits a little for its result; a client that follows tasks gets one if that takes longer.
    async fn submit(
        &self,
        caller: &Caller,
        kind: Kind,
        arguments: Value,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ServiceError> {
        let tenant = caller.tenant.clone();
        let Submitting { wanted, mut options, wait, notes } = Submitting::parse(kind, arguments)?;
        options.by = Some(caller.key.clone());
        let (job, accepted) =
            self.service.submit(&tenant, &wanted, &options, Window::default(), None).await?;
        let wait = if accepted == Accepted::Cached { Duration::ZERO } else { wait };
        self.follow(&tenant, job, wait, notes, context).await
    }

    /// Waits a little for a job and answers it with these notes; a client that follows tasks gets one if it takes longer.
    pub async fn follow(
        &self,
        tenant: &TenantId,
        job: JobId,
        wait: Duration,
        notes: Vec<String>,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ServiceError> {
        if !tasks::are_understood(context) {
            let view = self.wait(tenant, job, wait, context).await?;
            return Ok(noted(self.answer(tenant, view).await?, notes).into());
        }
        // No progress is told here: a call that ends in a task must not.
        let view =
            self.until_gone(context, self.service.job(tenant, job, wait.min(tasks::GRACE), |_| {})).await?;
        if !view.state.is_terminal() {
            let task = tasks::created(&view, self.kept(), now_ms(), &notes);
            return Ok(CreateTaskResult::new(task).into());
        }
        Ok(noted(self.answer(tenant, view).await?, notes).into())
    }

    /// Submits a batch and waits a little for its table.
    async fn submit_batch(
        &self,
        caller: &Caller,
        arguments: Value,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ServiceError> {
        let SubmittingBatch { request, mut options, rank_by, wait, notes } =
            SubmittingBatch::parse(arguments)?;
        options.by = Some(caller.key.clone());
        let tenant = &caller.tenant;
        let (batch, _) = self.service.submit_batch(tenant, request, &options, None).await?;
        let view = self.wait(tenant, batch, wait, context).await?;
        let table = batch::answer(&self.service, tenant, &view, rank_by).await?;
        structured(&table).map(|answer| noted(answer, notes))
    }

    /// One job, the table of a batch, or a row for each of several jobs.
    async fn get_jobs(
        &self,
        tenant: &TenantId,
        get: lookup::Get,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ServiceError> {
        let wait = get.wait()?;
        let job = match get.jobs()? {
            lookup::Wanted::One(job) => job,
            lookup::Wanted::Several(jobs) => {
                let several = lookup::several(&self.service, tenant, &jobs, get.until, wait);
                return structured(&self.until_gone(context, several).await?);
            }
        };
        let view = self.wait(tenant, job, wait, context).await?;
        if get.detail {
            let campaign = self.service.campaign_of_job(tenant, &view).await?;
            return structured(&lookup::detailed(view).in_campaign(campaign));
        }
        if lookup::is_batch(&view) {
            return structured(&batch::answer(&self.service, tenant, &view, get.rank_by).await?);
        }
        self.answer(tenant, view).await
    }

    /// A job, and what the trials of its campaign leave of what it found.
    async fn answer(&self, tenant: &TenantId, view: JobView) -> Result<CallToolResult, ServiceError> {
        let campaign = self.service.campaign_of_job(tenant, &view).await?;
        answer(view, campaign)
    }

    /// Waits for a job; tells the client how far it is, if it gave a token for that.
    async fn wait(
        &self,
        tenant: &TenantId,
        job: JobId,
        limit: Duration,
        context: &RequestContext<RoleServer>,
    ) -> Result<JobView, ServiceError> {
        let Some(token) = context.meta.get_progress_token() else {
            return self.until_gone(context, self.service.job(tenant, job, limit, |_| {})).await;
        };
        let (sender, mut steps) = mpsc::channel(4);
        let mut last = -1.0;
        let waiting = self.service.job(tenant, job, limit, move |view| {
            if let Some(progress) = view.progress.clone().filter(|progress| progress.fraction > last) {
                last = progress.fraction;
                // A slow client misses steps, not the end.
                let _full = sender.try_send(progress);
            }
        });
        let telling = async {
            while let Some(step) = steps.recv().await {
                let step = ProgressNotificationParam::new(token.clone(), step.fraction)
                    .with_total(1.0)
                    .with_message(step.message);
                if context.peer.notify_progress(step).await.is_err() {
                    break;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            view = self.until_gone(context, waiting) => view,
            never = telling => never,
        }
    }

    async fn until_gone<T>(
        &self,
        context: &RequestContext<RoleServer>,
        waiting: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        let gone = || {
            ServiceError::new(
                Code::Unavailable,
                "the call was ended; the job goes on: ask again with job_get",
            )
        };
        context.ct.run_until_cancelled(waiting).await.ok_or_else(gone)?
    }
}
