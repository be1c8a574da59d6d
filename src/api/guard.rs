//! What stands before every route: who calls, how often, whether the key allows it; and after it: what was changed.

use std::net::SocketAddr;

use ::jobs::TenantId;
use access::{AuditEntry, Caller, Rate, Scope, Verdict};
use axum::{
    extract::{ConnectInfo, FromRequestParts, MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use tower::service_fn;

use super::{Api, Problem, layers::Serves};
use crate::{
    callers::{RequestId, require},
    console::{self, Visitor},
    errors::{Code, ServiceError},
};

/// What a call of a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it tells nothing about anybody.
    Nothing,
    /// A key, if the deployment has keys. What else the call needs depends on what it asks for.
    Key,
    /// A key with this scope.
    Scope(Scope),
    /// A key with the scope `admin`, unless the call comes from this machine itself.
    LocalOrAdmin,
}

/// Who a route is for, which is how it is told who calls and how it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Programs: a key in each call, and problems in JSON.
    Api,
    /// People: the cookie of a session (or a key), forms that carry a token, and pages.
    Page,
}

/// What the guard of one route knows.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    pub(super) api: Api,
    pub(super) needs: Needs,
    pub(super) door: Door,
}

/// See the module's documentation.
pub(super) fn guard(served: impl Serves, guard: Guard) -> impl Serves {
    service_fn(move |request| {
        // Boxed by itself: it is larger than what waits for the answer, and is gone by then.
        let admitted = guard.clone().admit(request).boxed();
        let mut served = served.clone();
        async move {
            let (answer, after) = match admitted.await {
                Ok(Admitted { request, after }) => (served.call(request), after),
                Err(refusal) => return Ok(refusal),
            };
            let response = answer.await?;
            Ok(after.tell(response).boxed().await)
        }
    })
}

/// A call that is to be served.
struct Admitted {
    request: Request,
    after: After,
}

impl Guard {
    async fn admit(self, request: Request) -> Result<Admitted, Response> {
        match self.door {
            Door::Api => self.admit_call(request).await,
            Door::Page => self.admit_visitor(request).await,
        }
    }

    async fn admit_call(&self, request: Request) -> Result<Admitted, Response> {
        let refuse = |error| refused(&self.api, error);
        let shown = bearer(request.headers()).map(str::to_owned);
        let is_local = is_local(&request);
        if shown.is_none() && !request.method().is_safe() && !self.is_of_allowed_page(request.headers()) {
            let message =
                "web pages of other origins may not call without a key; CORS_ORIGINS names those that may";
            return Err(refuse(ServiceError::new(Code::OriginNotAllowed, message)));
        }
        let caller = self.caller(shown.as_deref(), is_local).await.map_err(refuse)?;
        self.count(caller, request, refuse).await
    }

    /// Whether no web page had a browser send this, or one of this server or of an origin that may. Without keys, who is on this machine may
    /// do all, and every browser on it is: browsers ask in advance for what a page reads, not for a form that it sends.
    fn is_of_allowed_page(&self, headers: &HeaderMap) -> bool {
        let Some(sent) = headers.get(header::ORIGIN) else { return true };
        let host = headers.get(header::HOST).map_or(&[][..], HeaderValue::as_bytes);
        let is_own = [&b"http://"[..], b"https://"]
            .iter()
            .any(|scheme| sent.as_bytes().strip_prefix(*scheme) == Some(host));
        is_own || self.api.origins.iter().any(|origin| origin.covers(sent))
    }

    async fn admit_visitor(&self, request: Request) -> Result<Admitted, Response> {
        let headers = request.headers().clone();
        let visitor = Visitor::of(&headers).map_err(|error| Problem(error).into_response())?;
        // Where somebody comes back to who logs in; not to what a form did.
        let path = request.uri().path_and_query().filter(|_| request.method().is_safe());
        let path = path.map_or("/", |path| path.as_str()).to_owned();
        let shown = bearer(&headers);
        let refuse = |error: ServiceError| {
            let challenge = challenge(&error);
            with_challenge(console::refused(error, &visitor, &path, shown.is_some()), challenge)
        };
        let admitted = match self.visit(&visitor, shown, request).await {
            Ok((Some(caller), request)) => self.count(caller, request, refuse).await,
            Ok((None, request)) => Ok(Admitted { request, after: After::of(&self.api) }),
            Err(error) => Err(refuse(error)),
        };
        match admitted {
            Ok(Admitted { request, after }) => {
                Ok(Admitted { request, after: After { visitor: Some(Box::new(visitor)), ..after } })
            }
            Err(refusal) => Err(visitor.sign(refusal)),
        }
    }

    /// Who visits a page, if that matters, and the request as the page gets it.
    async fn visit(
        &self,
        visitor: &Visitor,
        shown: Option<&str>,
        mut request: Request,
    ) -> Result<(Option<Caller>, Request), ServiceError> {
        let callers = &self.api.callers;
        let caller = match (self.needs, shown) {
            (Needs::Nothing, _) => None,
            (_, Some(key)) => Some(callers.identify(Some(key)).await?),
            (_, None) => Some(callers.identify_session(visitor.sent()).await?),
        };
        // Who shows a key is no browser that another site had sent here.
        if shown.is_none() && !request.method().is_safe() {
            request = console::check_form(visitor, request).await?;
        }
        request.extensions_mut().insert(visitor.clone());
        Ok((caller, request))
    }

    /// Admits a caller who is known, as often and as far as its key allows.
    async fn count(
        &self,
        caller: Caller,
        mut request: Request,
        refuse: impl Fn(ServiceError) -> Response,
    ) -> Result<Admitted, Response> {
        let api = &self.api;
        let limits = match api.callers.count(&caller).await {
            Some((rate, Ok(verdict))) if verdict.admitted => Some((rate, verdict)),
            Some((rate, Ok(verdict))) => return Err(too_often(rate, verdict, refuse)),
            // Nobody can say how often it called: what only reads does no harm.
            Some((_, Err(error))) if !request.method().is_safe() => return Err(refuse(error.into())),
            Some((_, Err(_))) | None => None,
        };
        let mut after = After { limits, ..After::of(api) };
        if let Err(error) = self.allows(&caller) {
            return Err(after.sign(refuse(error)));
        }
        after.entry = self.entry(&caller, &request).map(Box::new);
        request.extensions_mut().insert(caller);
        Ok(Admitted { request, after })
    }

    async fn caller(&self, shown: Option<&str>, is_local: bool) -> Result<Caller, ServiceError> {
        if self.needs == Needs::LocalOrAdmin && shown.is_none() && is_local {
            return Ok(Caller::local());
        }
        self.api.callers.identify(shown).await
    }

    fn allows(&self, caller: &Caller) -> Result<(), ServiceError> {
        match self.needs {
            Needs::Nothing | Needs::Key => Ok(()),
            Needs::Scope(scope) => require(caller, scope),
            Needs::LocalOrAdmin => require(caller, Scope::Admin),
        }
    }

    /// What the audit log will say, if the call may change something. MCP tells of its calls itself.
    fn entry(&self, caller: &Caller, request: &Request) -> Option<AuditEntry> {
        if request.method().is_safe() || matches!(self.needs, Needs::Nothing | Needs::Key) {
            return None;
        }
        let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let mut entry = AuditEntry::of(caller, format!("{} {route}", request.method()));
        let path = request.uri().path();
        if path != route {
            path.clone_into(&mut entry.target);
        }
        if let Some(RequestId(id)) = request.extensions().get() {
            entry.request_id = id.to_string();
        }
        Some(entry)
    }
}

/// What is left to do once a call has been served.
struct After {
    api: Api,
    entry: Option<Box<AuditEntry>>,
    limits: Option<(Rate, Verdict)>,
    visitor: Option<Box<Visitor>>,
}

impl After {
    fn of(api: &Api) -> Self {
        Self { api: api.clone(), entry: None, limits: None, visitor: None }
    }

    /// Notes what became of the call; answers what its caller gets.
    async fn tell(mut self, response: Response) -> Response {
        if let Some(entry) = self.entry.take().map(|entry| with_outcome(entry, &response)) {
            self.api.callers.note(&entry).await;
        }
        self.sign(response)
    }

    /// The answer with what its caller is to be told of limits, and its browser to keep to.
    fn sign(&self, mut response: Response) -> Response {
        if let Some((rate, verdict)) = self.limits {
            tell_limits(response.headers_mut(), rate, verdict);
        }
        match &self.visitor {
            Some(visitor) => visitor.sign(response),
            None => response,
        }
    }
}

/// An entry with what became of the call, and what it made.
fn with_outcome(mut entry: Box<AuditEntry>, response: &Response) -> Box<AuditEntry> {
    let made = response.headers().get(header::LOCATION).and_then(|made| made.to_str().ok());
    // Where a page sends the browser next says less than what a path names.
    let is_next = response.status().is_redirection() && !entry.target.is_empty();
    if let Some(made) = made.filter(|_| !is_next) {
        made.clone_into(&mut entry.target);
    }
    entry.outcome = response.status().as_u16().to_string();
    entry
}

/// The key that a request shows.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    // What is no text is no key either, but something was shown.
    let shown = headers.get(header::AUTHORIZATION)?.to_str().unwrap_or("Bearer ?");
    let (scheme, key) = shown.split_once(' ').unwrap_or((shown, ""));
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Whether the call comes from a program on this machine, and not from one that speaks for others.
fn is_local(request: &Request) -> bool {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let forwarded = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
    peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback())
        && !forwarded.iter().any(|name| request.headers().contains_key(*name))
}

/// A refusal, with what RFC 6750 wants to be said about keys.
fn refused(api: &Api, error: ServiceError) -> Response {
    let challenge = challenge(&error);
    let mut response = with_challenge(Problem(error).into_response(), challenge);
    if let Some(resource) = &api.resource {
        resource.tell(response.headers_mut());
    }
    response
}

fn challenge(error: &ServiceError) -> Option<String> {
    match error.code {
        Code::Unauthenticated => Some(r#"Bearer realm="jesse-jobs""#.to_owned()),
        Code::InvalidKey => Some(r#"Bearer realm="jesse-jobs", error="invalid_token""#.to_owned()),
        Code::MissingScope => {
            let scope = error.detail.get("missing_scope").and_then(|scope| scope.as_str()).unwrap_or("");
            Some(format!(r#"Bearer realm="jesse-jobs", error="insufficient_scope", scope="{scope}""#))
        }
        _ => None,
    }
}

fn with_challenge(mut response: Response, challenge: Option<String>) -> Response {
    if let Some(challenge) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

fn too_often(rate: Rate, verdict: Verdict, refuse: impl Fn(ServiceError) -> Response) -> Response {
    let wait = whole_seconds(verdict.retry_after);
    let Rate { per_minute, burst } = rate;
    let message = format!("{per_minute} calls a minute are allowed, {burst} at once; try again in {wait} s");
    let mut response = refuse(ServiceError::new(Code::RateLimited, message));
    response.headers_mut().insert(header::RETRY_AFTER, wait.into());
    tell_limits(response.headers_mut(), rate, verdict);
    response
}

/// The headers of draft-ietf-httpapi-ratelimit-headers: the quota is the burst, the window what it takes to come back.
fn tell_limits(headers: &mut HeaderMap, rate: Rate, verdict: Verdict) {
    let policy = format!(r#""calls";q={};w={}"#, rate.burst, whole_seconds(rate.window()));
    let left = format!(r#""calls";r={};t={}"#, verdict.remaining, whole_seconds(verdict.reset));
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// Rounded up, so that whoever waits for so long does not come too early.
pub(crate) fn whole_seconds(time: std::time::Duration) -> u64 {
    time.as_micros().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX)
}

/// Who calls, for handlers.
pub(crate) struct By(pub(crate) Caller);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Caller>().cloned();
        // A route without a guard serves nobody.
        let unguarded = || {
            tracing::error!(http.path = parts.uri.path(), "a route has no guard");
            Problem(ServiceError::new(Code::Internal, "something is wrong on our side; it was logged"))
        };
        caller.map(Self).ok_or_else(unguarded)
    }
}

/// Whose jobs a call is about, for handlers.
pub(crate) struct Tenant(pub(crate) TenantId);

impl<S: Send + Sync> FromRequestParts<S> for Tenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        By::from_request_parts(parts, state).await.map(|By(caller)| Self(caller.tenant))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_key_is_what_stands_after_bearer() {
        for (sent, key) in [
            ("Bearer jj_1", Some("jj_1")),
            ("bearer  jj_1 ", Some("jj_1")),
            ("BEARER", Some("")),
            ("Basic dTpw", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(sent).unwrap());
            assert_eq!(bearer(&headers), key, "{sent}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn a_proxy_on_this_machine_does_not_make_its_clients_local() {
        let request = |peer: &str, forwarded: Option<&str>| {
            let mut request = Request::new(Body::empty());
            let peer: SocketAddr = peer.parse().unwrap();
            request.extensions_mut().insert(ConnectInfo(peer));
            if let Some(name) = forwarded {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                request.headers_mut().insert(name, HeaderValue::from_static("203.0.113.7"));
            }
            is_local(&request)
        };
        assert!(request("127.0.0.1:1", None) && request("[::ffff:127.0.0.1]:1", None));
        assert!(!request("10.0.0.1:1", None));
        assert!(!request("127.0.0.1:1", Some("x-forwarded-for")));
        assert!(!is_local(&Request::new(Body::empty())));
    }
}
