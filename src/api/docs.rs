//! `/docs`: Swagger UI for the OpenAPI document, from files in the binary. A browser is told to load nothing from elsewhere.

use std::sync::{Arc, OnceLock};

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use utoipa_swagger_ui::{Config, SwaggerFile};

use super::{Problem, openapi, problem::InPath};
use crate::errors::{Code, ServiceError};

/// Its files and the document, from here, and no other script. Swagger UI sets styles of its elements, and draws with `data:` images.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Its files are looked for beside the page.
pub(super) async fn enter() -> Redirect {
    Redirect::permanent("/docs/")
}

/// The page.
pub(super) async fn page() -> Result<Response, Problem> {
    serve("index.html")
}

/// What the page is made of.
pub(super) async fn part(InPath(file): InPath<String>) -> Result<Response, Problem> {
    serve(&file)
}

fn serve(file: &str) -> Result<Response, Problem> {
    static CONFIG: OnceLock<Arc<Config<'static>>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let config = Config::new([openapi::PATH]).try_it_out_enabled(true);
        // Keys stay in the page that they were typed into.
        Arc::new(config.persist_authorization(false).validator_url("none"))
    });
    let found = utoipa_swagger_ui::serve(file, config.clone())
        .map_err(|error| ServiceError::internal("the documentation cannot be shown", &*error))?;
    let Some(SwaggerFile { bytes, content_type, gzpipped, .. }) = found else {
        let message = "the documentation has no such part; it begins at /docs/";
        return Err(ServiceError::new(Code::NotFound, message).into());
    };
    let mut response = (StatusCode::OK, bytes.into_owned()).into_response();
    let headers: &mut HeaderMap = response.headers_mut();
    if let Ok(content_type) = HeaderValue::from_str(&content_type) {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    if gzpipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}
