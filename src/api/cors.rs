//! Which web pages may call: none, unless their origins are named (`CORS_ORIGINS`). Keys go in a header that a page sets itself, so
//! cookies and the like (`credentials`) are never allowed.

use std::{str::FromStr, time::Duration};

use axum::http::{HeaderName, HeaderValue, Method, header};
use reqwest::Url;
use tower::{
    layer::util::Identity,
    util::{Either, option_layer},
};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may remember what it was told.
const REMEMBERED: Duration = Duration::from_hours(1);

/// What pages may send.
const SENT: [HeaderName; 11] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::IF_NONE_MATCH,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("mcp-method"),
    HeaderName::from_static("mcp-name"),
    HeaderName::from_static("mcp-protocol-version"),
    HeaderName::from_static("mcp-session-id"),
    HeaderName::from_static("x-request-id"),
];

/// What pages may read.
const SHOWN: [HeaderName; 7] = [
    header::ETAG,
    header::LOCATION,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("x-request-id"),
];

/// The origin of web pages that may call, or `*` for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl Origin {
    /// Whether it stands for every web page there is.
    pub fn is_any(&self) -> bool {
        self.0 == "*"
    }

    /// Whether a browser that sends this header speaks for a page of this origin.
    pub(super) fn covers(&self, sent: &HeaderValue) -> bool {
        self.is_any() || self.0 == sent
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = || {
            format!(
                "{text:?} is no origin: scheme, host and port, e.g. https://app.example.com or http://localhost:3000, or *"
            )
        };
        let value = HeaderValue::from_str(text).map_err(|_| wrong())?;
        if text == "*" {
            return Ok(Self(value));
        }
        let url = Url::parse(text).map_err(|_| wrong())?;
        // Browsers send it in this form, and it is compared letter by letter.
        let sent = url.origin().ascii_serialization();
        if !matches!(url.scheme(), "http" | "https") || text.contains('*') {
            return Err(wrong());
        }
        if sent != text {
            return Err(format!("{text:?} is not how a browser names an origin; it says {sent}"));
        }
        Ok(Self(value))
    }
}

/// Lets pages of these origins call. Without any it does not even answer what browsers ask in advance.
pub(super) fn allow(origins: &[Origin]) -> Either<CorsLayer, Identity> {
    option_layer((!origins.is_empty()).then(|| cors(origins)))
}

fn cors(origins: &[Origin]) -> CorsLayer {
    let allowed = if origins.iter().any(Origin::is_any) {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().map(|origin| origin.0.clone()))
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers(SENT)
        .expose_headers(SHOWN)
        .max_age(REMEMBERED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_taken_as_browsers_send_them_and_nothing_else_is() {
        for fine in ["*", "https://app.example.com", "http://localhost:3000", " http://[::1]:8080 "] {
            assert!(fine.parse::<Origin>().is_ok(), "{fine}");
        }
        for (wrong, told) in [
            ("", "is no origin"),
            ("app.example.com", "is no origin"),
            ("null", "is no origin"),
            ("https://*.example.com", "is no origin"),
            ("ftp://example.com", "is no origin"),
            ("https://app.example.com/", "it says https://app.example.com"),
            ("https://App.example.com", "it says https://app.example.com"),
            ("https://app.example.com:443", "it says https://app.example.com"),
            ("https://app.example.com/page", "it says https://app.example.com"),
        ] {
            let error = wrong.parse::<Origin>().err().unwrap_or_default();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }
}
