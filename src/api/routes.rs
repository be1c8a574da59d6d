//! The one table of all routes, with what each needs and what the OpenAPI document says of it. What is not in it is not served, and a
//! test goes through all of it with the key of another tenant.

use access::Scope;
use axum::{
    extract::DefaultBodyLimit,
    handler::Handler,
    http::Method,
    routing::{self, MethodRouter, Route as AxumRoute},
};
use jobs::ErrorCode;
use serde_json::{Value, json};
use tower::layer::layer_fn;

use super::{
    Api, BATCHES, MAX_BATCH_BODY, audit, batches, cache, campaigns, docs, events,
    guard::{Door, Guard, Needs, guard},
    health, jobs as job, listing, lists,
    openapi::{self, Operation, OperationHandler, Schemas},
    queue, report, resource, strategies, webhooks,
};
use crate::{console, errors::Code};

use Needs::{LocalOrAdmin, Nothing};

const READ_JOBS: Needs = Needs::Scope(Scope::JobsRead);
const WRITE_JOBS: Needs = Needs::Scope(Scope::JobsWrite);
const READ_STRATEGIES: Needs = Needs::Scope(Scope::StrategiesRead);
const WRITE_STRATEGIES: Needs = Needs::Scope(Scope::StrategiesWrite);
const WEBHOOKS: Needs = Needs::Scope(Scope::Webhooks);
const CACHE: Needs = Needs::Scope(Scope::Cache);
const ADMIN: Needs = Needs::Scope(Scope::Admin);

/// A route.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its method; GET serves HEAD too.
    pub method: Method,
    /// Its path, with parameters in braces.
    pub path: &'static str,
    /// What a call needs.
    pub needs: Needs,
    /// Who it is for.
    pub door: Door,
    pub(super) serves: MethodRouter<Api>,
    /// What the types of its handler say.
    pub(super) describe: fn(&mut Operation, &mut Schemas),
    /// Nothing for what is for people in a browser.
    pub(super) docs: Option<Docs>,
}

impl Route {
    fn new<H, T>(method: Method, path: &'static str, needs: Needs, handler: H, docs: Docs) -> Self
    where
        H: Handler<T, Api> + OperationHandler<T>,
        T: 'static,
    {
        let route = Self::for_people(method, path, needs, handler);
        Self { describe: H::describe, docs: Some(docs), ..route }
    }

    fn for_people<H, T>(method: Method, path: &'static str, needs: Needs, handler: H) -> Self
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        let serves = match method {
            Method::GET => routing::get(handler),
            Method::POST => routing::post(handler),
            Method::PATCH => routing::patch(handler),
            _ => routing::delete(handler),
        };
        Self { method, path, needs, door: Door::Api, serves, describe: |_, _| (), docs: None }
    }

    /// What serves it, behind its guard.
    pub(super) fn guarded(self, api: &Api) -> (&'static str, MethodRouter<Api>) {
        let serves = match self.path {
            BATCHES => self.serves.layer(DefaultBodyLimit::max(MAX_BATCH_BODY)),
            _ => self.serves,
        };
        if self.needs == Nothing && self.door == Door::Api {
            return (self.path, serves);
        }
        let state = Guard { api: api.clone(), needs: self.needs, door: self.door };
        (self.path, serves.route_layer(layer_fn(move |route: AxumRoute| guard(route, state.clone()))))
    }
}

/// What the document says of an operation beside what its types say.
#[derive(Debug, Clone, Default)]
pub(super) struct Docs {
    /// Its name in clients that are generated.
    pub(super) id: &'static str,
    /// In a few words.
    pub(super) summary: &'static str,
    /// What else there is to know.
    pub(super) about: &'static str,
    /// Errors of its own.
    pub(super) codes: &'static [Code],
    /// Bodies to try; a test sends them.
    pub(super) examples: Option<fn() -> Value>,
}

impl Docs {
    const fn new(id: &'static str, summary: &'static str) -> Self {
        Self { id, summary, about: "", codes: &[], examples: None }
    }

    const fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    const fn fails(self, codes: &'static [Code]) -> Self {
        Self { codes, ..self }
    }

    const fn examples(self, examples: fn() -> Value) -> Self {
        Self { examples: Some(examples), ..self }
    }
}

/// What a job that cannot be computed is refused with.
const REFUSED: &[Code] = &[
    Code::EngineStarting,
    Code::QueueFull,
    Code::UrlNotAllowed,
    Code::ImportsNotAllowed,
    Code::HeldOut,
    Code::JobNotFound,
    Code::ResultNotReady,
    Code::ResultEvicted,
    Code::Job(ErrorCode::StrategyNotFound),
    Code::Job(ErrorCode::StrategyError),
    Code::Job(ErrorCode::CandlesMissing),
    Code::Job(ErrorCode::InvalidSpec),
    Code::Job(ErrorCode::UnfitData),
];
const OF_A_JOB: &[Code] = &[Code::JobNotFound];
const OF_A_RESULT: &[Code] = &[Code::JobNotFound, Code::ResultNotReady, Code::ResultEvicted];
const OF_A_WEBHOOK: &[Code] = &[Code::WebhookNotFound];
const OF_A_DRAFT: &[Code] = &[
    Code::EngineStarting,
    Code::QueueFull,
    Code::ResultEvicted,
    Code::Job(ErrorCode::StrategyError),
    Code::Job(ErrorCode::InvalidSpec),
];

/// A table of routes: method, path, what it needs, handler, what is said of it.
macro_rules! table {
    ($($method:ident $path:expr, $needs:expr => $handler:expr, $docs:expr;)+) => {
        vec![$(Route::new(Method::$method, $path, $needs, $handler, $docs)),+]
    };
}

/// The same of pages, of which the document says nothing.
macro_rules! pages {
    ($($method:ident $path:expr, $needs:expr => $handler:expr;)+) => {
        vec![$(Route::for_people(Method::$method, $path, $needs, $handler)),+]
    };
}

/// All routes but `/mcp`.
pub fn routes() -> Vec<Route> {
    let mut routes = of_jobs();
    routes.extend(of_batches());
    routes.extend(of_inputs());
    routes.extend(of_webhooks());
    routes.extend(of_the_deployment());
    routes.extend([
        Route::for_people(Method::GET, "/docs", Nothing, docs::enter),
        Route::for_people(Method::GET, "/docs/", Nothing, docs::page),
        Route::for_people(Method::GET, "/docs/{*file}", Nothing, docs::part),
        // Files that are the same for everybody need no guard.
        Route::for_people(Method::GET, "/console/assets/{file}", Nothing, console::asset),
    ]);
    routes.extend(of_the_console().into_iter().map(|route| Route { door: Door::Page, ..route }));
    routes
}

fn of_jobs() -> Vec<Route> {
    table! {
        GET "/v1/jobs", READ_JOBS => listing::list, Docs::new("listJobs", "List jobs, newest first").fails(OF_A_JOB);
        POST "/v1/jobs", WRITE_JOBS => job::submit, Docs::new("submitJob", "Submit a job")
            .about("Answers 202 with the job, or 200 if it has ended already: a stored result answers at once, and with `wait` the end is \
                    waited for. The same call again, while its job has not ended, answers that job.")
            .fails(REFUSED).examples(jobs_to_try);
        POST "/v1/jobs/requeue", WRITE_JOBS => listing::requeue_many, Docs::new("requeueJobs", "Run jobs once more that ended badly")
            .about("Backtests that are in these states (by default dead) and have these tags, a page at a time.")
            .fails(&[Code::EngineStarting, Code::QueueFull]);
        GET "/v1/jobs/{id}", READ_JOBS => job::get, Docs::new("getJob", "Read a job, or wait for its end").fails(OF_A_JOB);
        GET "/v1/jobs/{id}/events", READ_JOBS => events::follow, Docs::new("followJob", "Follow a job as server-sent events").fails(OF_A_JOB);
        POST "/v1/jobs/{id}/requeue", WRITE_JOBS => listing::requeue, Docs::new("requeueJob", "Run a job once more that ended badly")
            .about("On the code and candles of today. A repeat answers the same new job.")
            .fails(&[
                Code::JobNotFound, Code::NotRequeueable, Code::EngineStarting, Code::QueueFull, Code::UrlNotAllowed, Code::HeldOut, Code::ResultNotReady,
                Code::ResultEvicted, Code::Job(ErrorCode::StrategyNotFound), Code::Job(ErrorCode::StrategyError),
                Code::Job(ErrorCode::CandlesMissing), Code::Job(ErrorCode::InvalidSpec), Code::Job(ErrorCode::UnfitData),
            ]);
        POST "/v1/jobs/{id}/cancel", WRITE_JOBS => job::cancel, Docs::new("cancelJob", "Cancel a job")
            .about("One that has ended stays as it is.").fails(OF_A_JOB);
        GET "/v1/jobs/{id}/result", READ_JOBS => job::result, Docs::new("getJobResult", "Read what a job found").fails(OF_A_RESULT);
        GET "/v1/jobs/{id}/logs", READ_JOBS => job::logs, Docs::new("getJobLogs", "Read what a job printed").fails(OF_A_RESULT);
        GET "/v1/jobs/{id}/chart.svg", READ_JOBS => job::chart, Docs::new("getJobChart", "See the equity curve or the months of a backtest").fails(OF_A_RESULT);
        GET "/v1/jobs/{id}/chart.png", READ_JOBS => job::chart_png, Docs::new("getJobChartAsPng", "See it as PNG").fails(OF_A_RESULT);
        GET "/v1/jobs/{id}/report.md", READ_JOBS => report::markdown, Docs::new("getReportAsMarkdown", "Read a risk report as Markdown")
            .fails(OF_A_RESULT);
        GET "/v1/jobs/{id}/report.html", READ_JOBS => report::html, Docs::new("getReportAsHtml", "Read a risk report as a page")
            .fails(OF_A_RESULT);
    }
}

fn of_batches() -> Vec<Route> {
    table! {
        POST BATCHES, WRITE_JOBS => batches::submit, Docs::new("submitBatch", "Submit many backtests")
            .about("A list of backtests, or a grid: every combination of the values given for each field. All are accepted, or none.")
            .fails(REFUSED).examples(batches_to_try);
        GET "/v1/batches/{id}", READ_JOBS => batches::get, Docs::new("getBatch", "Read a batch, or wait for its end").fails(OF_A_JOB);
        GET "/v1/batches/{id}/jobs", READ_JOBS => batches::jobs, Docs::new("listJobsOfBatch", "List the jobs of a batch, in their order")
            .fails(OF_A_JOB);
        POST "/v1/batches/{id}/cancel", WRITE_JOBS => batches::cancel, Docs::new("cancelBatch", "Cancel a batch and its jobs").fails(OF_A_JOB);
        GET "/v1/campaigns", READ_JOBS => campaigns::list, Docs::new("listCampaigns", "List campaigns, those with the latest trials first");
        GET "/v1/campaigns/{name}", READ_JOBS => campaigns::get, Docs::new("getCampaign", "Read what the trials of a campaign amount to")
            .fails(&[Code::NotFound]);
        GET "/v1/holdouts", READ_JOBS => campaigns::holdouts, Docs::new("listHoldouts", "List what is held out of research, and who looked");
        POST "/v1/holdouts", WRITE_JOBS => campaigns::open_days, Docs::new("openHeldOutDays", "Set held-out days free for research")
            .about("For good: the days before `open_until` are held out no more.").fails(&[Code::NotFound]);
    }
}

fn of_inputs() -> Vec<Route> {
    table! {
        GET "/v1/strategies", READ_STRATEGIES => strategies::list, Docs::new("listStrategies", "List strategies").fails(&[Code::EngineStarting]);
        POST "/v1/strategies", WRITE_STRATEGIES => strategies::write, Docs::new("writeStrategy", "Validate a strategy and make it one that can be run")
            .about("Where the deployment allows it (`--allow-strategy-write`).")
            .fails(&[
                Code::WritingNotAllowed, Code::StrategyExists, Code::EngineStarting, Code::QueueFull, Code::ResultEvicted,
                Code::Job(ErrorCode::StrategyError), Code::Job(ErrorCode::InvalidSpec),
            ]);
        // To look whether code runs is to run it.
        POST "/v1/strategies/validate", WRITE_STRATEGIES => strategies::validate, Docs::new("validateStrategy", "Look for what is wrong with a strategy")
            .about("Without storing it. Its code is run only where writing is allowed.").fails(OF_A_DRAFT).examples(drafts_to_try);
        GET "/v1/strategies/{name}", READ_STRATEGIES => strategies::get, Docs::new("getStrategy", "Read the source of a strategy")
            .fails(&[Code::NotFound, Code::EngineStarting]);
        DELETE "/v1/strategies/{name}", WRITE_STRATEGIES => strategies::delete, Docs::new("deleteStrategy", "Take back a strategy that was written")
            .fails(&[Code::NotFound, Code::WritingNotAllowed, Code::StrategyExists, Code::EngineStarting]);
        GET "/v1/candles", Needs::Key => lists::candles, Docs::new("listCandles", "List candles");
    }
}

fn of_webhooks() -> Vec<Route> {
    table! {
        GET "/v1/webhooks", WEBHOOKS => webhooks::list, Docs::new("listWebhooks", "List webhooks");
        POST "/v1/webhooks", WEBHOOKS => webhooks::create, Docs::new("createWebhook", "Make a webhook")
            .about("The answer has its secret.").fails(&[Code::WebhooksFull, Code::UrlNotAllowed]).examples(webhooks_to_try);
        GET "/v1/webhooks/{id}", WEBHOOKS => webhooks::get, Docs::new("getWebhook", "Read a webhook").fails(OF_A_WEBHOOK);
        PATCH "/v1/webhooks/{id}", WEBHOOKS => webhooks::change, Docs::new("changeWebhook", "Change what is given of a webhook")
            .fails(&[Code::WebhookNotFound, Code::UrlNotAllowed]);
        DELETE "/v1/webhooks/{id}", WEBHOOKS => webhooks::delete, Docs::new("deleteWebhook", "Forget a webhook").fails(OF_A_WEBHOOK);
        GET "/v1/webhooks/{id}/secret", WEBHOOKS => webhooks::secret, Docs::new("getWebhookSecret", "Read what messages are signed with")
            .fails(OF_A_WEBHOOK);
        POST "/v1/webhooks/{id}/rotate", WEBHOOKS => webhooks::rotate, Docs::new("rotateWebhookSecret", "Give a webhook another secret")
            .about("For 24 hours messages are signed with the old one too.").fails(OF_A_WEBHOOK);
        POST "/v1/webhooks/{id}/test", WEBHOOKS => webhooks::test, Docs::new("testWebhook", "Send a webhook a test, and wait for what comes of it")
            .fails(&[Code::WebhookNotFound, Code::WebhookDisabled]);
        GET "/v1/webhooks/{id}/deliveries", WEBHOOKS => webhooks::deliveries, Docs::new("listDeliveries", "List deliveries, newest first")
            .fails(OF_A_WEBHOOK);
        GET "/v1/webhooks/{id}/deliveries/{delivery}", WEBHOOKS => webhooks::delivery, Docs::new("getDelivery", "Read a delivery and its attempts")
            .fails(OF_A_WEBHOOK);
        POST "/v1/webhooks/{id}/resend", WEBHOOKS => webhooks::resend, Docs::new("resendDeliveries", "Send deliveries again")
            .about("One (`delivery`), those of a time (`since`, `until`), or those that were given up (`failed`).")
            .fails(&[Code::WebhookNotFound, Code::WebhookDisabled]).examples(resends_to_try);
    }
}

fn of_the_deployment() -> Vec<Route> {
    table! {
        GET "/v1/cache", CACHE => cache::get, Docs::new("getCache", "Read how the stored results are doing");
        POST "/v1/cache/invalidate", CACHE => cache::invalidate, Docs::new("invalidateResults", "Invalidate stored results")
            .about("`key` or `all` alone, or some of the others, which must all fit. Results that tenants share are for admins.")
            .fails(&[Code::CacheBusy]).examples(invalidations_to_try);
        GET "/v1/queue", READ_JOBS => queue::get, Docs::new("getQueue", "Read how long the queue is");
        POST "/v1/queue/pause", ADMIN => queue::pause, Docs::new("pauseQueue", "Start nothing any more")
            .about("What runs goes on, and jobs are accepted.");
        POST "/v1/queue/resume", ADMIN => queue::resume, Docs::new("resumeQueue", "Start jobs again");
        GET "/v1/audit", ADMIN => audit::list, Docs::new("listAudit", "List who changed what, newest first");
        GET "/health", Nothing => health::health, Docs::new("getHealth", "Read whether it works")
            .about("With a key it tells more.");
        GET "/health/live", Nothing => health::live, Docs::new("getLiveness", "Ask whether the process runs");
        GET "/health/ready", Nothing => health::ready, Docs::new("getReadiness", "Ask whether a backtest would be accepted")
            .fails(&[Code::EngineStarting, Code::Unavailable]);
        GET "/metrics", LocalOrAdmin => health::metrics, Docs::new("getMetrics", "Read the figures for Prometheus");
        GET resource::PATH, Nothing => resource::get, Docs::new("getResourceMetadata", "Read who issues tokens for this server")
            .about("Where the deployment takes tokens of an external issuer (RFC 9728).").fails(&[Code::NotFound]);
        GET resource::PATH_OF_MCP, Nothing => resource::get, Docs::new("getResourceMetadataOfMcp", "Read who issues tokens for the MCP endpoint")
            .about("The same, where clients of MCP look for it.").fails(&[Code::NotFound]);
        GET openapi::PATH, Nothing => openapi::get, Docs::new("getOpenApi", "Read this document");
    }
}

/// A month of the demo's strategy on the demo's candles.
fn month() -> Value {
    json!({
        "strategy": "SmaCross", "exchange": "Binance Perpetual Futures", "symbol": "BTC-USDT", "timeframe": "1h",
        "start_date": "2023-02-01", "finish_date": "2023-03-01",
    })
}

fn jobs_to_try() -> Value {
    let mut search = month();
    search["trials"] = 4.into();
    json!({
        "backtest": {"summary": "A backtest", "value": {"kind": "backtest", "spec": month()}},
        "optimize": {"summary": "A search for hyperparameters", "value": {"kind": "optimize", "spec": search, "priority": "batch"}},
        "risk": {"summary": "Value at risk of returns", "value": {
            "kind": "var_calculation",
            "spec": {"returns": [0.01, -0.02, 0.015, -0.005, 0.003, 0.012, -0.018, 0.007, 0.002, -0.001, 0.009, -0.011], "period": "1D"},
        }},
    })
}

fn batches_to_try() -> Value {
    let grid =
        json!({"grid": {"timeframe": ["30m", "1h"]}, "base": month(), "labels": {"purpose": "example"}});
    json!({
        "list": {"summary": "A list of backtests", "value": {"jobs": [month()]}},
        "grid": {"summary": "Every combination of some values", "value": grid},
    })
}

fn drafts_to_try() -> Value {
    let source = "from jesse.strategies import Strategy\n\n\nclass Idle(Strategy):\n    def should_long(self):\n        return False\n\n    \
                  def go_long(self):\n        pass\n";
    json!({"source": {"summary": "A strategy that never trades", "value": {"source": source}}})
}

fn webhooks_to_try() -> Value {
    json!({"failures": {"summary": "Told of what goes wrong", "value": {
        "url": "https://hooks.example/jesse", "events": ["job.failed", "job.dead"], "description": "example",
    }}})
}

fn resends_to_try() -> Value {
    json!({"failed": {"summary": "All that were given up", "value": {"failed": true}}})
}

fn invalidations_to_try() -> Value {
    json!({"strategy": {"summary": "All results of a strategy", "value": {"strategy": "SmaCross"}}})
}

fn of_the_console() -> Vec<Route> {
    pages! {
        GET "/", READ_JOBS => console::overview::page;
        GET "/console/live", READ_JOBS => console::overview::live;
        POST "/console/queue/pause", ADMIN => console::overview::pause;
        POST "/console/queue/resume", ADMIN => console::overview::resume;
        GET "/console/login", Nothing => console::login::page;
        POST "/console/login", Nothing => console::login::log_in;
        POST "/console/logout", Needs::Key => console::login::log_out;
        GET "/console/submit", WRITE_JOBS => console::submit::page;
        POST "/console/submit", WRITE_JOBS => console::submit::submit;
        GET "/console/jobs", READ_JOBS => console::jobs::page;
        GET "/console/jobs/live", READ_JOBS => console::jobs::live;
        GET "/console/jobs/{id}", READ_JOBS => console::job::page;
        GET "/console/jobs/{id}/live", READ_JOBS => console::job::live;
        GET "/console/jobs/{id}/log", READ_JOBS => job::logs;
        GET "/console/jobs/{id}/chart.svg", READ_JOBS => job::chart;
        GET "/console/jobs/{id}/report", READ_JOBS => report::html;
        POST "/console/jobs/{id}/cancel", WRITE_JOBS => console::job::cancel;
        POST "/console/jobs/{id}/again", WRITE_JOBS => console::job::again;
        GET "/console/batches/{id}", READ_JOBS => console::batch::page;
        GET "/console/batches/{id}/live", READ_JOBS => console::batch::live;
        POST "/console/batches/{id}/cancel", WRITE_JOBS => console::batch::cancel;
        GET "/console/compare", READ_JOBS => console::compare::page;
        GET "/console/dead", READ_JOBS => console::dead::page;
        POST "/console/dead/requeue", WRITE_JOBS => console::dead::requeue;
        GET "/console/webhooks", WEBHOOKS => console::webhooks::list;
        POST "/console/webhooks", WEBHOOKS => console::webhooks::create;
        GET "/console/webhooks/{id}", WEBHOOKS => console::webhooks::page;
        POST "/console/webhooks/{id}/test", WEBHOOKS => console::webhooks::test;
        POST "/console/webhooks/{id}/resend", WEBHOOKS => console::webhooks::resend;
        GET "/console/cache", CACHE => console::cache::page;
        POST "/console/cache/invalidate", CACHE => console::cache::invalidate;
        GET "/console/keys", ADMIN => console::keys::page;
        POST "/console/keys", ADMIN => console::keys::create;
        POST "/console/keys/{id}/rotate", ADMIN => console::keys::rotate;
        POST "/console/keys/{id}/revoke", ADMIN => console::keys::revoke;
        GET "/console/campaigns", READ_JOBS => console::campaigns::list;
        GET "/console/campaigns/{name}", READ_JOBS => console::campaigns::page;
    }
}
