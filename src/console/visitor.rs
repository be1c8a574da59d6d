//! Who looks at a page: the cookie of a browser, the token of its forms, and what every answer tells the browser to keep to.

use access::SessionToken;
use axum::{
    body::{self, Body},
    extract::{FromRequestParts, Request},
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
    response::Response,
};

use crate::{
    api::Problem,
    errors::{Code, ServiceError},
};

const COOKIE: &str = "jesse_jobs_console";
/// The largest form.
const LARGEST_FORM: usize = 256 << 10;

/// Nothing but what this server serves, no inline script or style, and in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    // Ids stand in addresses. Not `no-referrer`: with that browsers do not say where a form comes from.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// A browser, as its cookie tells.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    token: SessionToken,
    /// Whether it has the cookie already.
    known: bool,
    /// Whether it came over TLS, as far as a proxy tells.
    secure: bool,
}

impl Visitor {
    /// Who sent these headers; somebody new if there is no cookie, or none of ours.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, ServiceError> {
        let sent = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('=')?.parse().ok());
        let secure = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
        Ok(match sent {
            Some(token) => Self { token, known: true, secure },
            None => Self { token: new_token()?, known: false, secure },
        })
    }

    /// What the browser sent.
    pub(crate) fn sent(&self) -> Option<&SessionToken> {
        Some(&self.token).filter(|_| self.known)
    }

    /// What its forms carry: nobody can work it out who has not the cookie, nor the cookie from it.
    pub(crate) fn form_token(&self) -> String {
        let key = blake3::derive_key("jesse-jobs console form token", self.token.reveal().as_bytes());
        blake3::Hash::from_bytes(key).to_hex().to_string()
    }

    fn wrote(&self, token: &str) -> bool {
        // Hashes are compared in constant time.
        self.known && blake3::hash(token.as_bytes()) == blake3::hash(self.form_token().as_bytes())
    }

    /// The header that gives a browser another cookie.
    pub(crate) fn cookie(&self, token: &SessionToken) -> Option<HeaderValue> {
        let secure = if self.secure { "; Secure" } else { "" };
        let text = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Strict{secure}", token.reveal());
        HeaderValue::from_str(&text).ok()
    }

    /// An answer with what a browser has to keep to, and with the cookie if it had none.
    pub(crate) fn sign(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            // A page that keeps to less says so itself.
            headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
        }
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if !self.known && !headers.contains_key(header::SET_COOKIE) {
            self.cookie(&self.token).map(|cookie| headers.insert(header::SET_COOKIE, cookie));
        }
        response
    }
}

/// A new random text for a cookie.
pub(crate) fn new_token() -> Result<SessionToken, ServiceError> {
    SessionToken::generate().map_err(|error| ServiceError::internal("no cookie can be made", &error))
}

/// Refuses a form that no page of ours has sent: another site may have made the browser send it.
pub(crate) async fn check_form(visitor: &Visitor, request: Request) -> Result<Request, ServiceError> {
    let foreign = || {
        let message = "the form has expired or does not come from this page; go back, load the page anew and send it again";
        ServiceError::new(Code::FormRefused, message)
    };
    let from = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    if from.is_some_and(|from| !matches!(from, b"same-origin" | b"none")) {
        return Err(foreign());
    }
    let (parts, content) = request.into_parts();
    let Ok(content) = body::to_bytes(content, LARGEST_FORM).await else {
        let message = format!("the form is larger than {} KB", LARGEST_FORM >> 10);
        return Err(ServiceError::new(Code::PayloadTooLarge, message));
    };
    // The token is plain hexadecimal, which no form writes in another way.
    let token = content.split(|byte| *byte == b'&').find_map(|field| field.strip_prefix(b"token="));
    let token = token.and_then(|token| std::str::from_utf8(token).ok());
    if !token.is_some_and(|token| visitor.wrote(token)) {
        return Err(foreign());
    }
    Ok(Request::from_parts(parts, Body::from(content)))
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let visitor = parts.extensions.get().cloned();
        // A route without a guard serves nobody.
        let unguarded = || {
            tracing::error!(http.path = parts.uri.path(), "a page has no guard");
            Problem(ServiceError::new(Code::Internal, "something is wrong on our side; it was logged"))
        };
        visitor.ok_or_else(unguarded)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn visitor(cookies: &[&str]) -> Visitor {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::COOKIE, cookie.parse().unwrap());
        }
        Visitor::of(&headers).unwrap()
    }

    fn request(form: &str) -> Request {
        Request::new(Body::from(form.to_owned()))
    }

    #[tokio::test]
    async fn only_the_browser_that_was_shown_a_form_can_send_it() {
        let token = "ab".repeat(32);
        let own = visitor(&["theme=dark", &format!("a=b; {COOKIE}={token}")]);
        assert_eq!(own.sent().map(SessionToken::reveal), Some(token.as_str()));
        let form = format!("next=%2F&token={}", own.form_token());
        let sent = check_form(&own, request(&form)).await.unwrap();
        assert_eq!(body::to_bytes(sent.into_body(), 1000).await.unwrap(), form.as_bytes());
        let stranger = visitor(&[]);
        let other = visitor(&[&format!("{COOKIE}={}", "cd".repeat(32))]);
        for (who, form) in [
            (&own, String::new()),
            (&own, "token=".into()),
            (&own, format!("token={token}")),
            (&own, format!("token={}", other.form_token())),
            (&other, form.clone()),
            // Without the cookie even a right token is none.
            (&stranger, format!("token={}", stranger.form_token())),
        ] {
            assert!(check_form(who, request(&form)).await.is_err(), "{form}");
        }
        let mut foreign = request(&form);
        foreign.headers_mut().insert("sec-fetch-site", HeaderValue::from_static("cross-site"));
        assert!(check_form(&own, foreign).await.is_err());
        let large = format!("{form}&x={}", "x".repeat(LARGEST_FORM));
        assert!(check_form(&own, request(&large)).await.is_err());
    }

    #[test]
    fn a_cookie_of_another_form_is_none() {
        for cookie in [
            "",
            COOKIE,
            &format!("{COOKIE}="),
            &format!("{COOKIE}=zz"),
            &format!("x{COOKIE}={}", "ab".repeat(32)),
        ] {
            assert!(visitor(&[cookie]).sent().is_none(), "{cookie}");
        }
    }
}
