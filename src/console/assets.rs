//! The files that pages load. Their addresses hold a hash of what is in them, so that a browser never asks for the same twice, and never
//! uses an old one with a new page.

use std::sync::LazyLock;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

use crate::{
    api::{InPath, Problem},
    errors::{Code, ServiceError},
};

const KEPT: &str = "public, max-age=31536000, immutable";

/// A file and where it is served.
pub(super) struct Asset {
    /// Its address.
    pub(super) path: String,
    content_type: &'static str,
    content: &'static str,
}

/// All of them.
pub(super) struct Assets {
    pub(super) style: Asset,
    pub(super) script: Asset,
    pub(super) chart: Asset,
    pub(super) icon: Asset,
}

pub(super) static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets {
    style: Asset::new("console", "css", "text/css; charset=utf-8", include_str!("assets/console.css")),
    script: Asset::new("console", "js", "text/javascript; charset=utf-8", include_str!("assets/console.js")),
    chart: Asset::new("chart", "js", "text/javascript; charset=utf-8", include_str!("../charts/chart.js")),
    icon: Asset::new("icon", "svg", "image/svg+xml", include_str!("assets/icon.svg")),
});

impl Asset {
    fn new(name: &str, kind: &str, content_type: &'static str, content: &'static str) -> Self {
        let hash = &blake3::hash(content.as_bytes()).to_hex()[..16];
        Self { path: format!("/console/assets/{name}-{hash}.{kind}"), content_type, content }
    }
}

/// Serves one of them.
pub(crate) async fn asset(InPath(file): InPath<String>) -> Result<Response, Problem> {
    let Assets { style, script, chart, icon } = &*ASSETS;
    let named = |asset: &&&Asset| asset.path.rsplit('/').next() == Some(&file);
    let found = [style, script, chart, icon].iter().find(named).map(|asset| {
        let kept = [(header::CONTENT_TYPE, asset.content_type), (header::CACHE_CONTROL, KEPT)];
        (kept, [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")], asset.content).into_response()
    });
    found.ok_or_else(|| {
        // A page of another version names it, while servers are being replaced.
        Problem(ServiceError::new(Code::NotFound, "no such file; load the page anew"))
    })
}
