//! A backtest by hand: what most need as fields, everything else as JSON. What is wrong stands beside its field.

use std::collections::BTreeSet;

use access::Scope;
use axum::{
    Form,
    extract::State,
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use jobs::{ErrorCode, JobView, Kind};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    forms::{Field, Filled, Wrong, unreadable},
    job,
    layout::{Failed, Page, Section, Viewer, go_to, heading},
};
use crate::{
    api::{Api, InQuery, Problem},
    errors::{Code, ServiceError},
    service::{SubmitOptions, Wanted, Window},
};

/// Fields of a spec that the form has by themselves.
const OWN: [&str; 7] =
    ["strategy", "exchange", "symbol", "timeframe", "start_date", "finish_date", "hyperparameters"];
/// Until a worker has said which there are.
const TIMEFRAMES: [&str; 6] = ["5m", "15m", "30m", "1h", "4h", "1D"];

/// Which job to begin with, if any.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Query {
    like: Option<String>,
}

/// A backtest as it is filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Draft {
    strategy: String,
    exchange: String,
    symbol: String,
    timeframe: String,
    start_date: String,
    finish_date: String,
    hyperparameters: String,
    more: String,
    campaign: String,
}

impl Draft {
    /// What a job was asked, if the form has room for it: a backtest of one strategy on one symbol.
    fn like(view: &JobView) -> Option<Self> {
        let mut asked: Map<String, Value> = serde_json::from_str(view.request.get()).ok()?;
        if view.kind != Kind::Backtest {
            return None;
        }
        let route = match asked.remove("routes")? {
            Value::Array(routes) if routes.len() == 1 => routes.into_iter().next()?,
            _ => return None,
        };
        let text = |of: &Value, name: &str| of[name].as_str().unwrap_or_default().to_owned();
        let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
        let hyperparameters = asked.remove("hyperparameters").as_ref().map(pretty).unwrap_or_default();
        let mut own = |name: &str| {
            let value = asked.remove(name);
            value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (exchange, start_date, finish_date) = (own("exchange"), own("start_date"), own("finish_date"));
        Some(Self {
            strategy: text(&route, "strategy"),
            symbol: text(&route, "symbol"),
            timeframe: text(&route, "timeframe"),
            exchange,
            start_date,
            finish_date,
            hyperparameters,
            more: pretty(&Value::Object(asked)),
            campaign: view.tags.campaign().unwrap_or_default().to_owned(),
        })
    }

    /// The spec, as far as its JSON can be read.
    fn spec(&self, wrong: &mut Wrong) -> Value {
        let mut spec = wrong.take("more", object(&self.more)).unwrap_or_default();
        for name in OWN.iter().filter(|name| spec.contains_key(**name)) {
            wrong.add("more", format!("{name} has a field of its own"));
        }
        for (name, value) in [
            ("strategy", &self.strategy),
            ("exchange", &self.exchange),
            ("symbol", &self.symbol),
            ("timeframe", &self.timeframe),
            ("start_date", &self.start_date),
            ("finish_date", &self.finish_date),
        ] {
            if value.trim().is_empty() {
                wrong.add(name, "is missing");
            }
            spec.insert(name.to_owned(), value.trim().into());
        }
        let hyperparameters = wrong.take("hyperparameters", object(&self.hyperparameters));
        spec.insert("hyperparameters".into(), hyperparameters.unwrap_or_default().into());
        spec.into()
    }
}

/// A JSON object, or an empty one where nothing is written.
fn object(text: &str) -> Result<Map<String, Value>, String> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("must be a JSON object, e.g. {\"fast\": 10}".into()),
        Err(error) => Err(format!("is no JSON: {error}")),
    }
}

/// Puts what a submit was refused with beside the fields that it names. Answers whether it was about the request at all.
fn blame(error: &ServiceError, wrong: &mut Wrong) -> bool {
    let field_of = |path: &str| {
        let name = path.split(['.', '[']).next().unwrap_or_default();
        if OWN.contains(&name) { name.to_owned() } else { "more".to_owned() }
    };
    let named = error.detail.get("errors").and_then(Value::as_array);
    match error.code {
        Code::Job(ErrorCode::InvalidSpec) => match named {
            Some(errors) => {
                for found in errors {
                    let text = |name: &str| found[name].as_str().unwrap_or_default();
                    let (path, message) = (text("field"), text("message"));
                    let field = field_of(path);
                    let told = if path == field { message.to_owned() } else { format!("{path}: {message}") };
                    wrong.add(&field, told);
                }
            }
            // A field that does not exist, or of another type: only those that are written as JSON can be.
            None => wrong.add("more", &*error.message),
        },
        Code::Job(ErrorCode::StrategyNotFound | ErrorCode::StrategyError) => {
            wrong.add("strategy", &*error.message);
        }
        Code::Job(ErrorCode::CandlesMissing) => wrong.add("start_date", &*error.message),
        Code::HeldOut => wrong.add("finish_date", &*error.message),
        Code::InvalidRequest if error.message.starts_with("campaign") => {
            wrong.add("campaign", &*error.message);
        }
        Code::InvalidRequest | Code::Job(_) | Code::QueueFull | Code::EngineStarting => {
            wrong.add("", format!("{} {}", error.message, error.code.advice()));
        }
        _ => return false,
    }
    true
}

/// The form.
pub(crate) async fn page(
    State(api): State<Api>,
    viewer: Viewer,
    query: Result<InQuery<Query>, Problem>,
) -> Result<Html<String>, Failed> {
    let InQuery(Query { like }) = query?;
    let draft = match like {
        Some(id) if viewer.may(Scope::JobsRead) => {
            Draft::like(&job::read(&api, &viewer.caller.tenant, &id).await?)
        }
        _ => None,
    };
    shown(&api, &viewer, &draft.unwrap_or_default(), &Wrong::default()).await
}

/// Whether the form has room for what a job was asked.
pub(super) fn takes(view: &JobView) -> bool {
    Draft::like(view).is_some()
}

/// What there is to choose from.
#[derive(Debug, Default)]
struct Known {
    strategies: Vec<String>,
    timeframes: Vec<String>,
    exchanges: Vec<String>,
    symbols: Vec<String>,
}

impl Known {
    async fn read(api: &Api, viewer: &Viewer) -> Result<Self, ServiceError> {
        let catalogue = api.service.published().await?;
        let candles = api.service.candles().await?;
        let names = |names: BTreeSet<&String>| names.into_iter().cloned().collect();
        let strategies = catalogue.iter().filter(|_| viewer.may(Scope::StrategiesRead));
        let strategies = strategies.flat_map(|catalogue| &catalogue.strategies);
        let can_run = strategies.filter(|(_, strategy)| strategy.error.is_none());
        Ok(Self {
            strategies: can_run.map(|(name, _)| name.clone()).collect(),
            timeframes: catalogue.as_ref().map_or_else(
                || TIMEFRAMES.map(str::to_owned).to_vec(),
                |catalogue| catalogue.timeframes.clone(),
            ),
            exchanges: names(candles.iter().map(|series| &series.exchange).collect()),
            symbols: names(candles.iter().map(|series| &series.symbol).collect()),
        })
    }
}

async fn shown(api: &Api, viewer: &Viewer, draft: &Draft, wrong: &Wrong) -> Result<Html<String>, Failed> {
    let known = Known::read(api, viewer).await?;
    let content = html! {
        section.card {
            (wrong.summary())
            (viewer.form("/console/submit", fields(draft, wrong, &known)))
        }
    };
    let top = html! {
        nav.crumbs aria-label="Path" { a href="/console/jobs" { "Jobs" } }
        (heading(html! { "New backtest" }, html! {}))
    };
    let title = "New backtest";
    Ok(Page { title, section: Section::Jobs, top, live: None, content, draws: false }.show(viewer))
}

fn fields(draft: &Draft, wrong: &Wrong, known: &Known) -> Markup {
    let field =
        |name, label, value, hint| Field { name, label, value, hint, wrong: wrong.of(name), required: true };
    let open = |name, label, value, hint| Field { required: false, ..field(name, label, value, hint) };
    // What there is only one of needs no choosing.
    let only = |value: &str, known: &[String]| match known {
        [only] if value.is_empty() => only.clone(),
        _ => value.to_owned(),
    };
    let exchange = only(&draft.exchange, &known.exchanges);
    let symbol = only(&draft.symbol, &known.symbols);
    let timeframe = if draft.timeframe.is_empty() { "1h" } else { &draft.timeframe };
    html! {
        div.form.thirds {
            (field("strategy", "Strategy", &draft.strategy, "").suggesting("text", &known.strategies))
            (field("exchange", "Exchange", &exchange, "").suggesting("text", &known.exchanges))
            (field("symbol", "Symbol", &symbol, "E.g. BTC-USDT.").suggesting("text", &known.symbols))
            (field("timeframe", "Timeframe", timeframe, "").choice(&known.timeframes))
            (field("start_date", "First day", &draft.start_date, "UTC.").line("date"))
            (field("finish_date", "Day after the last", &draft.finish_date, "UTC.").line("date"))
            (open("hyperparameters", "Hyperparameters", &draft.hyperparameters, "As JSON, e.g. {\"fast\": 10}. Others keep their defaults.").lines(6))
            (open("more", "Everything else", &draft.more, "As JSON, e.g. {\"balance\": 5000, \"leverage\": 2, \"benchmark\": true}.").lines(6))
            (open("campaign", "Campaign", &draft.campaign, "Groups the tries of one idea, so that the best of them is judged by how many there were.").line("text"))
        }
        button.button.main type="submit" { "Submit" }
    }
}

/// Submits it and shows the job; or the form again, with what is wrong.
pub(crate) async fn submit(
    State(api): State<Api>,
    viewer: Viewer,
    sent: Filled<Draft>,
) -> Result<Response, Failed> {
    let Form(draft) = sent.map_err(unreadable)?;
    let mut wrong = Wrong::default();
    let spec = draft.spec(&mut wrong);
    let mut status = StatusCode::UNPROCESSABLE_ENTITY;
    if wrong.is_empty() {
        match accept(&api, &viewer, &draft, spec).await {
            Ok(job) => return Ok(go_to(&format!("/console/jobs/{job}"))),
            Err(error) if blame(&error, &mut wrong) => {
                status = StatusCode::from_u16(error.code.status()).unwrap_or(status);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((status, shown(&api, &viewer, &draft, &wrong).await?).into_response())
}

async fn accept(api: &Api, viewer: &Viewer, draft: &Draft, spec: Value) -> Result<jobs::JobId, ServiceError> {
    let wanted = Wanted::parse(Kind::Backtest, spec)?;
    let campaign = Some(draft.campaign.trim().to_owned()).filter(|campaign| !campaign.is_empty());
    let options = SubmitOptions { campaign, by: Some(viewer.caller.key.clone()), ..SubmitOptions::default() };
    let tenant = &viewer.caller.tenant;
    Ok(api.service.submit(tenant, &wanted, &options, Window::default(), None).await?.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_filled_in_becomes_a_spec() {
        let draft = Draft {
            strategy: " SmaCross ".into(),
            exchange: "Binance Spot".into(),
            symbol: "BTC-USDT".into(),
            timeframe: "1h".into(),
            start_date: "2023-02-01".into(),
            finish_date: "2023-03-01".into(),
            hyperparameters: r#"{"fast": 10}"#.into(),
            more: r#"{"balance": 5000}"#.into(),
            campaign: String::new(),
        };
        let mut wrong = Wrong::default();
        let spec = draft.spec(&mut wrong);
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!((&spec["strategy"], &spec["balance"]), (&json!("SmaCross"), &json!(5000)));
        assert_eq!(spec["hyperparameters"], json!({"fast": 10}));

        let draft =
            Draft { hyperparameters: "[1]".into(), more: r#"{"symbol": "X-Y"}"#.into(), ..Draft::default() };
        draft.spec(&mut wrong);
        for field in ["strategy", "start_date", "hyperparameters", "more"] {
            assert!(wrong.of(field).is_some(), "{field}");
        }
    }

    #[test]
    fn every_refusal_stands_where_it_belongs() {
        let refused = |code, message: &str, detail| {
            let mut wrong = Wrong::default();
            let error = ServiceError { detail, ..ServiceError::new(code, message) };
            assert!(blame(&error, &mut wrong), "{message}");
            wrong
        };
        let errors = json!({"errors": [
            {"field": "hyperparameters.fast", "message": "must be at least 2"}, {"field": "leverage", "message": "must be from 1 to 125"},
            {"field": "symbol", "message": "unknown"},
        ]});
        let wrong = refused(Code::Job(ErrorCode::InvalidSpec), "several", errors);
        assert_eq!(wrong.of("hyperparameters"), Some("hyperparameters.fast: must be at least 2"));
        assert_eq!(wrong.of("more"), Some("leverage: must be from 1 to 125"));
        assert_eq!(wrong.of("symbol"), Some("unknown"));
        let wrong = refused(Code::Job(ErrorCode::StrategyNotFound), "unknown strategy", Value::Null);
        assert_eq!(wrong.of("strategy"), Some("unknown strategy"));
        let wrong = refused(Code::QueueFull, "too many", Value::Null);
        assert!(wrong.of("").is_some());
        let away = ServiceError::new(Code::Unavailable, "Redis is not available");
        assert!(!blame(&away, &mut Wrong::default()));
    }
}
