//! The one table of all routes, with what each needs. What is not in it is not served, and a test goes through all of it with
//! the key of another tenant.

use access::Scope;
use axum::{
    extract::DefaultBodyLimit,
    handler::Handler,
    http::Method,
    middleware,
    routing::{self, MethodRouter},
};

use super::{
    Api, BATCHES, MAX_BATCH_BODY, audit, batches, cache, campaigns, events,
    guard::{Door, Guard, Needs, guard},
    health, jobs, listing, lists, queue, report, strategies, webhooks,
};

use crate::console;

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
}

impl Route {
    fn new<H, T>(method: Method, path: &'static str, needs: Needs, handler: H) -> Self
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
        Self { method, path, needs, door: Door::Api, serves }
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
        (self.path, serves.route_layer(middleware::from_fn_with_state(state, guard)))
    }
}

/// A table of routes: method, path, what it needs, handler.
macro_rules! table {
    ($($method:ident $path:expr, $needs:expr => $handler:expr;)+) => {
        vec![$(Route::new(Method::$method, $path, $needs, $handler)),+]
    };
}

/// All routes but `/mcp`.
pub fn routes() -> Vec<Route> {
    let mut routes = of_jobs();
    routes.extend(of_webhooks());
    routes.extend(of_the_deployment());
    routes.extend(of_the_console().into_iter().map(|route| Route { door: Door::Page, ..route }));
    // Files that are the same for everybody need no guard.
    routes.extend(table! { GET "/console/assets/{file}", Nothing => console::asset; });
    routes
}

fn of_jobs() -> Vec<Route> {
    table! {
        GET "/v1/jobs", READ_JOBS => listing::list;
        POST "/v1/jobs", WRITE_JOBS => jobs::submit;
        POST "/v1/jobs/requeue", WRITE_JOBS => listing::requeue_many;
        GET "/v1/jobs/{id}", READ_JOBS => jobs::get;
        GET "/v1/jobs/{id}/events", READ_JOBS => events::follow;
        POST "/v1/jobs/{id}/requeue", WRITE_JOBS => listing::requeue;
        POST "/v1/jobs/{id}/cancel", WRITE_JOBS => jobs::cancel;
        GET "/v1/jobs/{id}/result", READ_JOBS => jobs::result;
        GET "/v1/jobs/{id}/logs", READ_JOBS => jobs::logs;
        GET "/v1/jobs/{id}/chart.svg", READ_JOBS => jobs::chart;
        GET "/v1/jobs/{id}/report.md", READ_JOBS => report::markdown;
        GET "/v1/jobs/{id}/report.html", READ_JOBS => report::html;
        POST BATCHES, WRITE_JOBS => batches::submit;
        GET "/v1/batches/{id}", READ_JOBS => batches::get;
        GET "/v1/batches/{id}/jobs", READ_JOBS => batches::jobs;
        POST "/v1/batches/{id}/cancel", WRITE_JOBS => batches::cancel;
        GET "/v1/campaigns", READ_JOBS => campaigns::list;
        GET "/v1/campaigns/{name}", READ_JOBS => campaigns::get;
        GET "/v1/strategies", READ_STRATEGIES => strategies::list;
        POST "/v1/strategies", WRITE_STRATEGIES => strategies::write;
        // To look whether code runs is to run it.
        POST "/v1/strategies/validate", WRITE_STRATEGIES => strategies::validate;
        GET "/v1/strategies/{name}", READ_STRATEGIES => strategies::get;
        DELETE "/v1/strategies/{name}", WRITE_STRATEGIES => strategies::delete;
        GET "/v1/candles", Needs::Key => lists::candles;
    }
}

fn of_webhooks() -> Vec<Route> {
    table! {
        GET "/v1/webhooks", WEBHOOKS => webhooks::list;
        POST "/v1/webhooks", WEBHOOKS => webhooks::create;
        GET "/v1/webhooks/{id}", WEBHOOKS => webhooks::get;
        PATCH "/v1/webhooks/{id}", WEBHOOKS => webhooks::change;
        DELETE "/v1/webhooks/{id}", WEBHOOKS => webhooks::delete;
        GET "/v1/webhooks/{id}/secret", WEBHOOKS => webhooks::secret;
        POST "/v1/webhooks/{id}/rotate", WEBHOOKS => webhooks::rotate;
        POST "/v1/webhooks/{id}/test", WEBHOOKS => webhooks::test;
        GET "/v1/webhooks/{id}/deliveries", WEBHOOKS => webhooks::deliveries;
        GET "/v1/webhooks/{id}/deliveries/{delivery}", WEBHOOKS => webhooks::delivery;
        POST "/v1/webhooks/{id}/resend", WEBHOOKS => webhooks::resend;
    }
}

fn of_the_deployment() -> Vec<Route> {
    table! {
        GET "/v1/cache", CACHE => cache::get;
        POST "/v1/cache/invalidate", CACHE => cache::invalidate;
        GET "/v1/queue", READ_JOBS => queue::get;
        POST "/v1/queue/pause", ADMIN => queue::pause;
        POST "/v1/queue/resume", ADMIN => queue::resume;
        GET "/v1/audit", ADMIN => audit::list;
        GET "/health", Nothing => health::health;
        GET "/health/live", Nothing => health::live;
        GET "/health/ready", Nothing => health::ready;
        GET "/metrics", LocalOrAdmin => health::metrics;
    }
}

fn of_the_console() -> Vec<Route> {
    table! {
        GET "/", READ_JOBS => console::overview::page;
        GET "/console/live", READ_JOBS => console::overview::live;
        POST "/console/queue/pause", ADMIN => console::overview::pause;
        POST "/console/queue/resume", ADMIN => console::overview::resume;
        GET "/console/login", Nothing => console::login::page;
        POST "/console/login", Nothing => console::login::log_in;
        POST "/console/logout", Needs::Key => console::login::log_out;
        GET "/console/jobs", READ_JOBS => console::jobs::page;
        GET "/console/jobs/live", READ_JOBS => console::jobs::live;
        GET "/console/jobs/{id}", READ_JOBS => console::job::page;
        GET "/console/jobs/{id}/live", READ_JOBS => console::job::live;
        GET "/console/jobs/{id}/log", READ_JOBS => jobs::logs;
        GET "/console/jobs/{id}/chart.svg", READ_JOBS => jobs::chart;
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
        POST "/console/keys/{id}/revoke", ADMIN => console::keys::revoke;
        GET "/console/campaigns", READ_JOBS => console::campaigns::list;
        GET "/console/campaigns/{name}", READ_JOBS => console::campaigns::page;
    }
}
