//! What is to be looked at: a backtest's picture for models (`job_chart`), and for people the MCP App (SEP-1865) that hosts
//! show beside the tools that name it, with `job_series`, by which it gets finer points where somebody looks closely.
//!
//! The app is one page without anything from outside: a host runs it in a sandbox, where it can reach the host alone.

use std::sync::OnceLock;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jobs::TenantId;
use rmcp::{
    RoleServer,
    model::{CallToolResult, ClientCapabilities, ContentBlock, MetaObject, Resource, ResourceContents, Tool},
    service::RequestContext,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{arguments, resources, tools};
use crate::{
    charts::{self, About, Curves, Kind, Look, Point},
    errors::{Code, ServiceError},
    service::Service,
};

pub(super) const URI: &str = "ui://equity";
/// How the protocol tells such pages from other HTML.
const MIME: &str = "text/html;profile=mcp-app";
/// The extension that clients declare which show such pages.
const EXTENSION: &str = "io.modelcontextprotocol/ui";

const NAME: &str = "equity_view";
const TITLE: &str = "Equity of a backtest";

/// Points of each series, if the app does not say how many, and the most that it may ask for.
const POINTS: usize = 500;
const MOST_POINTS: usize = 5_000;

/// The page, with the chart that the console draws too.
fn page() -> &'static str {
    static PAGE: OnceLock<String> = OnceLock::new();
    PAGE.get_or_init(|| {
        include_str!("app/view.html")
            .replace("/* chart.js */", include_str!("../charts/chart.js"))
            .replace("/* view.js */", include_str!("app/view.js"))
            .replace("{version}", env!("CARGO_PKG_VERSION"))
    })
}

/// The page needs nothing from anywhere, and has its own edges.
fn meta() -> MetaObject {
    object(json!({"ui": {"csp": {"connectDomains": [], "resourceDomains": []}, "prefersBorder": true}}))
}

fn object(value: Value) -> MetaObject {
    MetaObject(if let Value::Object(object) = value { object } else { serde_json::Map::new() })
}

/// The page as resource, in the list and read.
pub(super) fn resource() -> Resource {
    Resource::new(URI, NAME)
        .with_title(TITLE)
        .with_description("Interactive view that hosts of MCP Apps show beside backtest and job_chart")
        .with_mime_type(MIME)
        .with_size(page().len() as u64)
        .with_meta(meta())
}

pub(super) fn contents() -> ResourceContents {
    ResourceContents::text(page(), URI).with_mime_type(MIME).with_meta(meta())
}

/// The same tool, shown by the app.
pub(super) fn shown(tool: Tool) -> Tool {
    tool.with_meta(object(json!({"ui": {"resourceUri": URI}})))
}

/// The same tool, for the app alone.
pub(super) fn hidden(tool: Tool) -> Tool {
    tool.with_meta(object(json!({"ui": {"visibility": ["app"]}})))
}

/// Whether the client may show apps: what it says in the call itself. Those of earlier versions say it only once, to an
/// instance that keeps nothing of it.
pub(super) fn may_be_shown(context: &RequestContext<RoleServer>) -> bool {
    context.meta.client_capabilities().is_none_or(|capabilities| supports(&capabilities))
}

fn supports(capabilities: &ClientCapabilities) -> bool {
    capabilities.extensions.as_ref().is_some_and(|extensions| extensions.contains_key(EXTENSION))
}

/// Which picture of which job.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Picture {
    /// A succeeded backtest
    job_id: String,
    /// equity (default) or monthly
    #[serde(default)]
    #[schemars(with = "String")]
    kind: Kind,
}

/// A backtest's picture, and where it is as SVG. There is no structured part: some clients show their models that alone.
pub(super) async fn picture(
    service: &Service,
    tenant: &TenantId,
    Picture { job_id, kind }: Picture,
) -> Result<CallToolResult, ServiceError> {
    let job = arguments::job_id(&job_id)?;
    let result = service.result(tenant, job).await?;
    let about = About::of(&result.request).title;
    let look = Look { kind, ..Look::default() };
    let words = match kind {
        Kind::Equity => {
            format!("Equity of {about} with the drawdown below it. As SVG: job://{job}/chart.svg")
        }
        Kind::Monthly => format!("Monthly returns of {about}. As SVG: job://{job}/chart.svg?kind=monthly"),
    };
    let png = BASE64.encode(charts::png(result, look).await?);
    Ok(CallToolResult::success(vec![ContentBlock::image(png, resources::PNG), ContentBlock::text(words)]))
}

/// Which part of a job's series, and how fine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    job_id: String,
    // Both in milliseconds since 1970; not told to agents, who do not call this.
    #[serde(default)]
    #[schemars(with = "f64")]
    from: Option<f64>,
    #[serde(default)]
    #[schemars(with = "f64")]
    to: Option<f64>,
    #[serde(default)]
    #[schemars(with = "u32")]
    max_points: Option<usize>,
}

/// A job's equity, and what buying and holding would have been worth.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Series {
    job_id: String,
    title: String,
    unit: String,
    #[serde(rename = "series")]
    #[schemars(with = "Vec<serde_json::Map<String, Value>>")]
    curves: Vec<Curve>,
}

/// Points of a curve: milliseconds since 1970 (UTC) and a value.
#[derive(Debug, Serialize)]
struct Curve {
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    benchmark: bool,
    points: Vec<(i64, f64)>,
}

/// The series of a job between two times, thinned without losing an extreme.
pub(super) async fn series(
    service: &Service,
    tenant: &TenantId,
    wanted: Wanted,
) -> Result<CallToolResult, ServiceError> {
    let invalid = |message: String| ServiceError::new(Code::InvalidRequest, message);
    let most = wanted.max_points.unwrap_or(POINTS);
    if !(4..=MOST_POINTS).contains(&most) {
        return Err(invalid(format!("max_points: must be from 4 to {MOST_POINTS}")));
    }
    let (from, to) = (wanted.from.unwrap_or(f64::NEG_INFINITY), wanted.to.unwrap_or(f64::INFINITY));
    if from > to {
        return Err(invalid("from, to: from must not be after to".into()));
    }
    let job = arguments::job_id(&wanted.job_id)?;
    let result = service.result(tenant, job).await?;
    let About { title, unit } = About::of(&result.request);
    let Curves { equity, benchmark } = Curves::read(&result.fields)?;
    let mut curves = vec![curve("Equity".into(), &equity, (from, to), most)];
    if let Some((symbol, points)) = benchmark {
        let held = curve(format!("Buying and holding {symbol}"), &points, (from, to), most);
        curves.push(Curve { benchmark: true, ..held });
    }
    super::structured(&Series { job_id: job.to_string(), title, unit, curves })
}

fn curve(name: String, points: &[Point], (from, to): (f64, f64), most: usize) -> Curve {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of the next thousands of years are exact")]
    let inside = |point: &&Point| (from..=to).contains(&(point.0.saturating_mul(1000) as f64));
    let inside: Vec<_> = points.iter().filter(inside).copied().collect();
    let points = charts::thinned(&inside, most);
    let points = points.into_iter().map(|(time, value)| (time.saturating_mul(1000), value)).collect();
    Curve { name, benchmark: false, points }
}

/// What is in the list of tools for it.
pub(super) fn series_tool() -> Tool {
    hidden(tools::series())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_one_small_file_that_needs_nothing_from_outside() {
        let page = page();
        assert!(page.len() < 60_000, "{} bytes", page.len());
        assert!(page.contains("drawChart") && page.contains("ui/initialize"));
        // The chart can fetch for pages that ask it to; this one does not, and its policy would not let it.
        for outside in ["src=", "href=", "@import", "/* chart.js */", "/* view.js */", "{version}"] {
            assert!(!page.contains(outside), "{outside}");
        }
        // What would end the script early.
        assert_eq!(page.matches("</script").count(), 2);
    }

    #[test]
    fn a_part_of_a_curve_is_what_lies_in_it() {
        let points: Vec<Point> = (0..100).map(|second| (second, 1.0)).collect();
        let part = curve("Equity".into(), &points, (10_000.0, 12_500.0), 500);
        assert_eq!(part.points, [(10_000, 1.0), (11_000, 1.0), (12_000, 1.0)]);
        let all = curve("Equity".into(), &points, (f64::NEG_INFINITY, f64::INFINITY), 10);
        assert!(all.points.len() <= 10 && all.points[0].0 == 0, "{all:?}");
    }
}
