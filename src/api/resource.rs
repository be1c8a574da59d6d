//! What OAuth clients want to know of this server as a protected resource (RFC 9728), where tokens of an external issuer are taken.

use access::Scope;
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
};
use reqwest::Url;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Api, Problem};
use crate::errors::{Code, ServiceError};

/// Where it is served, for the server as a whole; for `/mcp` the path goes on.
pub(super) const PATH: &str = "/.well-known/oauth-protected-resource";
/// For the MCP endpoint.
pub(super) const PATH_OF_MCP: &str = "/.well-known/oauth-protected-resource/mcp";

/// A protected resource.
#[derive(Debug, Clone)]
pub struct Resource {
    metadata: ResourceMetadata,
    /// Where clients find them.
    url: String,
}

/// What is protected, and by whom tokens for it are issued (RFC 9728, section 2).
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct ResourceMetadata {
    /// The audience that tokens must be for
    resource: String,
    /// Where tokens are issued
    authorization_servers: [String; 1],
    /// What a token may allow
    scopes_supported: Vec<&'static str>,
    /// How tokens are shown: in the header Authorization
    bearer_methods_supported: [&'static str; 1],
    /// For people
    resource_name: &'static str,
}

impl Resource {
    /// The resource of this name, which is the URL of the MCP endpoint as clients know it, with tokens of this issuer.
    pub fn new(name: &str, issuer: &str) -> Result<Self, String> {
        let mut url = Url::parse(name)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.fragment().is_none())
            .ok_or_else(|| {
                format!(
                    "{name:?}: must be the URL of /mcp as clients know it, e.g. https://jobs.example.com/mcp"
                )
            })?;
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{PATH}{path}"));
        let metadata = ResourceMetadata {
            resource: name.to_owned(),
            authorization_servers: [issuer.to_owned()],
            scopes_supported: Scope::ALL.map(Scope::name).to_vec(),
            bearer_methods_supported: ["header"],
            resource_name: "jesse-jobs",
        };
        Ok(Self { metadata, url: url.into() })
    }

    /// Adds to a challenge (RFC 6750) where to learn how to get a token (RFC 9728, section 5.1).
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        let challenge = headers.get(header::WWW_AUTHENTICATE).and_then(|challenge| challenge.to_str().ok());
        let told = challenge.map(|challenge| format!("{challenge}, resource_metadata=\"{}\"", self.url));
        if let Some(told) = told.and_then(|told| HeaderValue::from_str(&told).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, told);
        }
    }
}

/// Who issues tokens for this server.
pub(super) async fn get(State(api): State<Api>) -> Result<Json<ResourceMetadata>, Problem> {
    let resource = api.resource.as_ref().ok_or_else(|| {
        ServiceError::new(Code::NotFound, "no issuer of tokens is configured here; API keys are taken")
    })?;
    Ok(Json(resource.metadata.clone()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn metadata_are_found_by_the_name_of_the_resource() {
        for (name, url) in [
            (
                "https://jobs.example.com/mcp",
                "https://jobs.example.com/.well-known/oauth-protected-resource/mcp",
            ),
            ("https://jobs.example.com", "https://jobs.example.com/.well-known/oauth-protected-resource"),
            ("http://127.0.0.1:8100/mcp/", "http://127.0.0.1:8100/.well-known/oauth-protected-resource/mcp"),
        ] {
            assert_eq!(Resource::new(name, "https://id.example.com").unwrap().url, url);
        }
        for wrong in ["jesse-jobs", "ftp://jobs.example.com", "https://jobs.example.com/mcp#x", ""] {
            assert!(Resource::new(wrong, "https://id.example.com").is_err(), "{wrong}");
        }
    }
}
