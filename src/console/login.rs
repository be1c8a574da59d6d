//! Logging in: a key for a session.

use std::net::SocketAddr;

use axum::{
    Form,
    extract::{ConnectInfo, Extension, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use maud::html;
use serde::Deserialize;

use super::{
    forms::{Filled, unreadable},
    layout::{self, Failed, Viewer},
    show,
    visitor::{Visitor, new_token},
};
use crate::{
    api::{Api, InQuery, Problem, whole_seconds},
    errors::Code,
};

#[derive(Debug, Deserialize)]
pub(crate) struct Query {
    next: Option<String>,
}

/// What was sent to log in with.
#[derive(Deserialize)]
pub(crate) struct Sent {
    #[serde(default)]
    key: String,
    #[serde(default)]
    next: String,
}

/// The form.
pub(crate) async fn page(
    visitor: Visitor,
    query: Result<InQuery<Query>, Problem>,
) -> Result<Response, Failed> {
    let InQuery(Query { next }) = query?;
    Ok(asked(&visitor, next.as_deref().unwrap_or("/"), None, StatusCode::OK))
}

/// The form, with what was wrong with what it was sent with.
pub(super) fn asked(visitor: &Visitor, next: &str, wrong: Option<&str>, status: StatusCode) -> Response {
    let fields = html! {
        input type="hidden" name="next" value=(own_path(next));
        // Password managers file what they keep under a name.
        input type="text" name="username" value="jesse-jobs" autocomplete="username" hidden;
        label for="key" { "API key" }
        input #key type="password" name="key" autocomplete="current-password" spellcheck="false" required autofocus
            maxlength="600" aria-describedby="hint" aria-invalid=[wrong.map(|_| "true")];
        @if let Some(wrong) = wrong { p.wrong role="alert" { (show::text(wrong, show::LONG)) } }
        button.button.main type="submit" { "Log in" }
    };
    let main = html! {
        section.card.narrow {
            h1 { "Log in" }
            (layout::form(visitor, "/console/login", fields))
            p #hint .muted {
                "The key that a program would send. It is not kept in the browser, and what it may do here is what it may do there. "
                code { "jesse-jobs keys create" } " makes one."
            }
        }
    };
    (status, layout::bare("Log in", main)).into_response()
}

/// Opens a session.
pub(crate) async fn log_in(
    State(api): State<Api>,
    visitor: Visitor,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    sent: Filled<Sent>,
) -> Result<Response, Failed> {
    let Form(Sent { key, next }) = sent.map_err(unreadable)?;
    let peer = peer.map_or_else(String::new, |Extension(ConnectInfo(peer))| peer.ip().to_string());
    if let Some(verdict) = api.callers.count_login(&peer, forwarded(&headers).as_deref()).await? {
        let wait = whole_seconds(verdict.retry_after);
        let wrong = format!("too many attempts from this address; try again in {wait} s");
        let mut response = asked(&visitor, &next, Some(&wrong), StatusCode::TOO_MANY_REQUESTS);
        response.headers_mut().insert(header::RETRY_AFTER, wait.into());
        return Ok(response);
    }
    let token = match api.callers.open_session(key.trim()).await {
        Ok(token) => token,
        Err(error) if matches!(error.code, Code::InvalidKey) => {
            return Ok(asked(&visitor, &next, Some(&error.message), StatusCode::UNAUTHORIZED));
        }
        Err(error) => return Err(error.into()),
    };
    // What the browser was known by before is worth nothing from now on.
    if let Some(before) = visitor.sent() {
        api.callers.close_session(before).await?;
    }
    let mut response = layout::go_to(own_path(&next));
    visitor.cookie(&token).map(|cookie| response.headers_mut().insert(header::SET_COOKIE, cookie));
    Ok(response)
}

/// Ends the session.
pub(crate) async fn log_out(State(api): State<Api>, viewer: Viewer) -> Result<Response, Failed> {
    let Viewer { visitor, .. } = viewer;
    if let Some(token) = visitor.sent() {
        api.callers.close_session(token).await?;
    }
    let mut response = layout::go_to("/console/login");
    visitor.cookie(&new_token()?).map(|cookie| response.headers_mut().insert(header::SET_COOKIE, cookie));
    Ok(response)
}

/// The address that the nearest proxy has seen, if there is one. Who calls without a proxy can make it up, for which reason their own
/// counts too.
fn forwarded(headers: &HeaderMap) -> Option<String> {
    let named =
        headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok())?;
    Some(named.rsplit(',').next()?.trim().chars().take(45).collect())
}

/// A path of this server, and nothing that leads elsewhere.
fn own_path(next: &str) -> &str {
    let is_own = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains(['\\', '\r', '\n', '\t'])
        && HeaderValue::from_str(next).is_ok();
    if is_own { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_logging_in_nobody_is_sent_elsewhere() {
        for next in ["/", "/console/jobs?state=dead"] {
            assert_eq!(own_path(next), next);
        }
        for next in
            ["", "//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "/\u{0}"]
        {
            assert_eq!(own_path(next), "/", "{next:?}");
        }
    }

    #[test]
    fn the_last_proxy_is_believed() {
        let mut headers = HeaderMap::new();
        assert_eq!(forwarded(&headers), None);
        headers.append("x-forwarded-for", HeaderValue::from_static("6.6.6.6, 203.0.113.9"));
        assert_eq!(forwarded(&headers).as_deref(), Some("203.0.113.9"));
    }
}
