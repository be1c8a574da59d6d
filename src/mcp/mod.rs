//! The MCP endpoint: Streamable HTTP, stateless, so that any instance answers any request of any protocol version.
//!
//! A call that submits waits a little for the job and mostly brings the result itself; when it does not, it answers a
//! handle with what to do next. A client that goes away ends its call, never the job.

mod arguments;
mod risk;
mod tools;

use std::{sync::Arc, time::Duration};

use jobs::{Accepted, JobId, JobView, Kind, TenantId};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, ListToolsResult,
        PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    errors::{Code, ServiceError},
    metrics::Metrics,
    service::{Invalidate, Service, Window},
    views::JobAnswer,
};
use arguments::{Job, Read, Submitting, Waiting, Written};

const INSTRUCTIONS: &str = "Runs Jesse backtests as durable jobs. Start with strategy_list and candles_list, then call backtest: it \
    usually answers with the metrics; if it answers with a state that is not final, call job_get with the job_id. The same \
    backtest again is answered from the cache. Jobs go on when a call ends.";

/// The most source text of one answer, in bytes: about 8,000 tokens.
const MOST_SOURCE: usize = 32 << 10;

/// How long clients may keep the list of tools.
const TOOLS_TTL_MS: u64 = 300_000;

/// The endpoint as a tower service, which ends waiting calls early once `stop` is cancelled.
pub(crate) fn endpoint(
    service: Service,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> StreamableHttpService<Handler, NeverSessionManager> {
    let mut tools = tools::all(service.strategies_are_writable());
    tools.extend(risk::all());
    let tools = Arc::new(tools);
    let handler = Handler { service, metrics, tools };
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        // Host names are checked for all routes alike.
        .disable_allowed_hosts()
        .with_max_request_body_bytes(1 << 20)
        .with_cancellation_token(stop);
    StreamableHttpService::new(move || Ok(handler.clone()), NeverSessionManager::default().into(), config)
}

/// Answers MCP requests.
#[derive(Debug, Clone)]
pub(crate) struct Handler {
    service: Service,
    metrics: Arc<Metrics>,
    tools: Arc<Vec<Tool>>,
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("jesse-jobs", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = ListToolsResult::with_all_items(self.tools.to_vec());
        Ok(tools.with_ttl_ms(TOOLS_TTL_MS).with_cache_scope(CacheScope::Public))
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
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let answer = self.call(&tool.name, arguments, &context).await;
        self.metrics.tool(&tool.name, started.elapsed());
        let result = answer.unwrap_or_else(|error| {
            let code = serde_json::to_value(error.code).ok();
            self.metrics.error(code.as_ref().and_then(Value::as_str).unwrap_or("internal"));
            CallToolResult::structured_error(json!({ "error": error }))
        });
        Ok(result.into())
    }
}

/// What a job's state means for the call: a job that did not succeed is the tool's error.
fn answer(view: JobView) -> Result<CallToolResult, ServiceError> {
    let failed = view.error.is_some();
    let value = serde_json::to_value(JobAnswer::brief(view))
        .map_err(|error| ServiceError::internal("a job cannot be shown", &error))?;
    Ok(if failed { CallToolResult::structured_error(value) } else { CallToolResult::structured(value) })
}

fn structured(answer: &impl serde::Serialize) -> Result<CallToolResult, ServiceError> {
    let value = serde_json::to_value(answer)
        .map_err(|error| ServiceError::internal("an answer cannot be shown", &error))?;
    Ok(CallToolResult::structured(value))
}

impl Handler {
    async fn call(
        &self,
        tool: &str,
        arguments: Value,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ServiceError> {
        let tenant = TenantId::default_tenant();
        match tool {
            tools::BACKTEST => self.submit(Kind::Backtest, arguments, context).await,
            tools::OPTIMIZE => self.submit(Kind::Optimize, arguments, context).await,
            tools::MONTE_CARLO => self.submit(Kind::MonteCarlo, arguments, context).await,
            tools::WALK_FORWARD => self.submit(Kind::WalkForward, arguments, context).await,
            tools::JOB_GET => {
                let Waiting { job_id, wait_seconds } = arguments::parse(arguments)?;
                let (job, wait) = (arguments::job_id(&job_id)?, arguments::wait(wait_seconds, 0.0)?);
                answer(self.wait(&tenant, job, wait, context).await?)
            }
            tools::JOB_CANCEL => {
                let Job { job_id } = arguments::parse(arguments)?;
                answer(self.service.cancel(&tenant, arguments::job_id(&job_id)?).await?)
            }
            tools::CACHE_INVALIDATE => {
                let which: Invalidate = arguments::parse(arguments)?;
                let invalidated = serde_json::to_value(self.service.invalidate(&tenant, which).await?)
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
            tools::CANDLES_LIST => {
                let arguments::Nothing {} = arguments::parse(arguments)?;
                Ok(CallToolResult::structured(json!({ "candles": self.service.candles().await? })))
            }
            other => {
                let unknown = || ServiceError::new(Code::Internal, format!("the tool {other:?} has no code"));
                let kind = risk::kind(other).ok_or_else(unknown)?;
                let mut result = self.submit(kind, arguments, context).await?;
                if let Some(mut answer) = result.structured_content.take() {
                    risk::brief(&mut answer);
                    result = if result.is_error == Some(true) {
                        CallToolResult::structured_error(answer)
                    } else {
                        CallToolResult::structured(answer)
                    };
                }
                Ok(result)
            }
        }
    }

    /// Submits a job and waits a little for its result.
    async fn submit(
        &self,
        kind: Kind,
        arguments: Value,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ServiceError> {
        let tenant = TenantId::default_tenant();
        let Submitting { wanted, options, wait } = Submitting::parse(kind, arguments)?;
        let (job, accepted) =
            self.service.submit(&tenant, &wanted, &options, Window::default(), None).await?;
        let wait = if accepted == Accepted::Cached { Duration::ZERO } else { wait };
        answer(self.wait(&tenant, job, wait, context).await?)
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
