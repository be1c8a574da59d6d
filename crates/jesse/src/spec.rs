//! What a client asks a backtest to be, checked against what exists.
//!
//! [`BacktestRequest`] is what is written; [`BacktestSpec`] is the same with every default filled in, in one spelling,
//! so that equal backtests are equal specs.

mod request;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jobs::{ErrorCode, JobError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    candles::{MINUTE_MS, Series},
    catalogue::{Catalogue, Exchange, Market, nearest, timeframe_minutes},
};

pub use self::request::{BacktestRequest, DataRoute, Pipeline, Route, Scenario};

/// Most routes, and most data routes, of one backtest.
pub const MAX_ROUTES: usize = 20;
const MAX_WARM_UP_CANDLES: u32 = 50_000;
/// Candles before the first day when a request does not say.
pub const DEFAULT_WARM_UP_CANDLES: u32 = 240;
const DEFAULT_BALANCE: f64 = 10_000.0;
const MAX_LEVERAGE: u32 = 125;

/// A backtest that Jesse can run, in its one spelling. Its JSON is part of the cache key: a change of its form, or of
/// what a field means, must go along with a change of [`crate::plan::KEY_VERSION`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BacktestSpec {
    /// As Jesse spells it.
    pub exchange: String,
    /// What is traded.
    pub routes: Vec<Route>,
    /// What is read besides.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub data_routes: Vec<DataRoute>,
    /// The first day.
    pub start_date: Date,
    /// The day after the last.
    pub finish_date: Date,
    /// In the quote asset.
    pub balance: f64,
    /// As a fraction.
    pub fee: f64,
    /// 1 on spot markets.
    pub leverage: u32,
    /// `cross` or `isolated`.
    pub leverage_mode: String,
    /// Of the longest timeframe.
    pub warm_up_candles: u32,
    /// Every one of the strategy's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub hyperparameters: BTreeMap<String, serde_json::Value>,
    /// Jesse's fast simulator.
    pub fast_mode: bool,
    /// Buy and hold as well.
    pub benchmark: bool,
    /// On altered candles.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scenario: Option<Scenario>,
    /// Minutes without a candle repeat the last close, as in Jesse's own import. Left out when false, as it was before
    /// there was a choice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_gaps: bool,
}

/// What is wrong with a request, field by field.
#[derive(Debug, Default)]
struct Findings(Vec<(String, String)>);

impl Findings {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push((field.into(), message.into()));
    }

    fn take<T>(&mut self, field: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|message| self.add(field, message)).ok()
    }

    fn into_error(self) -> JobError {
        let text: Vec<_> = self.0.iter().map(|(field, message)| format!("{field}: {message}")).collect();
        let errors: Vec<_> =
            self.0.iter().map(|(field, message)| json!({"field": field, "message": message})).collect();
        JobError::new(ErrorCode::InvalidSpec, text.join("; ")).with_detail(json!({ "errors": errors }))
    }
}

impl BacktestSpec {
    /// Milliseconds of the first and just after the last minute.
    pub fn range_ms(&self) -> (i64, i64) {
        (midnight_ms(self.start_date), midnight_ms(self.finish_date))
    }

    /// Milliseconds of the first candle that indicators see: before the start by the warm-up of the longest timeframe.
    pub fn warm_up_start_ms(&self) -> i64 {
        let timeframes = self.routes.iter().map(|route| &route.timeframe);
        let timeframes = timeframes.chain(self.data_routes.iter().map(|route| &route.timeframe));
        let longest = timeframes.filter_map(|timeframe| timeframe_minutes(timeframe)).max().unwrap_or(1);
        self.range_ms().0 - i64::from(self.warm_up_candles) * longest * MINUTE_MS
    }

    /// The symbols whose candles are needed, each once.
    pub fn symbols(&self) -> BTreeSet<&str> {
        let traded = self.routes.iter().map(|route| route.symbol.as_str());
        traded.chain(self.data_routes.iter().map(|route| route.symbol.as_str())).collect()
    }

    /// The strategies that run, each once.
    pub fn strategies(&self) -> BTreeSet<&str> {
        self.routes.iter().map(|route| route.strategy.as_str()).collect()
    }

    /// Checks a request and fills in what it leaves open. All that is wrong is said at once; an unknown or broken
    /// strategy has an error code of its own.
    pub fn check(request: &BacktestRequest, catalogue: &Catalogue) -> Result<Self, JobError> {
        let mut findings = Findings::default();
        let known_exchange = catalogue.exchanges.get(&request.exchange);
        if known_exchange.is_none() {
            findings.add("exchange", unknown("exchange", &request.exchange, catalogue.exchanges.keys()));
        }
        let routes = routes(request, catalogue, &mut findings);
        let data_routes = data_routes(request, &routes, catalogue, &mut findings);
        let dates = dates(request, &mut findings);
        let balance = request.balance.unwrap_or(DEFAULT_BALANCE);
        if !(balance.is_finite() && balance > 0.0 && balance <= 1e15) {
            findings.add("balance", "must be above 0 and at most 1e15");
        }
        if request.fee.is_some_and(|fee| !(0.0..=0.1).contains(&fee)) {
            findings.add("fee", "must be a fraction from 0 to 0.1, e.g. 0.0006 for 0.06 %");
        }
        let warm_up_candles = request.warm_up_candles.unwrap_or(DEFAULT_WARM_UP_CANDLES);
        if warm_up_candles > MAX_WARM_UP_CANDLES {
            findings.add("warm_up_candles", format!("must be at most {MAX_WARM_UP_CANDLES}"));
        }
        if let Some(Err(message)) = request.scenario.as_ref().map(|scenario| scenario.pipeline.check()) {
            findings.add("scenario.pipeline", message);
        }
        let (leverage, leverage_mode) = leverage(request, known_exchange, &mut findings);
        // A strategy that is missing or broken is said with its own code, unless more is wrong.
        if findings.0.is_empty() {
            strategies_can_run(&routes, catalogue)?;
        }
        let hyperparameters = hyperparameters(request, &routes, catalogue, &mut findings);
        match (known_exchange, dates) {
            (Some(exchange), Some((start_date, finish_date))) if findings.0.is_empty() => Ok(Self {
                exchange: request.exchange.clone(),
                routes,
                data_routes,
                start_date,
                finish_date,
                balance,
                // A zero has a sign, which is no other fee.
                fee: request.fee.unwrap_or(exchange.fee) + 0.0,
                leverage,
                leverage_mode,
                warm_up_candles,
                hyperparameters,
                fast_mode: request.fast_mode.unwrap_or(true),
                benchmark: request.benchmark.unwrap_or(false),
                scenario: request.scenario.clone(),
                allow_gaps: request.allow_gaps.unwrap_or(false),
            }),
            _ => Err(findings.into_error()),
        }
    }
}

/// The first moment of a day, UTC, in milliseconds.
pub fn midnight_ms(date: Date) -> i64 {
    let epoch = Date::constant(1970, 1, 1);
    let days = date.duration_since(epoch).as_secs() / 86_400;
    days * 1440 * MINUTE_MS
}

/// Reads a day as clients write it.
pub(crate) fn parse_date(text: &str) -> Result<Date, String> {
    let well_formed = text.len() == 10 && text.is_ascii();
    let date: Option<Date> = text.parse().ok().filter(|_| well_formed);
    let in_range = date.filter(|date| (1970..=9000).contains(&date.year()));
    let shown: String = text.chars().take(40).collect();
    in_range.ok_or_else(|| format!("{shown:?} is not a date; write YYYY-MM-DD, e.g. 2023-01-31"))
}

/// What is said of a name that is not known, with those that are.
pub(crate) fn unknown<'a>(
    what: &str,
    written: &str,
    known: impl Iterator<Item = &'a String> + Clone,
) -> String {
    let written: String = written.chars().take(80).collect();
    let hint = nearest(&written, known.clone().map(String::as_str));
    let hint = hint.map_or(String::new(), |name| format!("; did you mean {name:?}?"));
    let names: Vec<_> = known.map(String::as_str).take(40).collect();
    format!("unknown {what} {written:?}; known: {}{hint}", names.join(", "))
}

fn check_timeframe(timeframe: &str, catalogue: &Catalogue) -> Result<(), String> {
    let known = catalogue.timeframes.iter().any(|known| known == timeframe);
    if known && timeframe_minutes(timeframe).is_some() {
        return Ok(());
    }
    Err(unknown("timeframe", timeframe, catalogue.timeframes.iter()))
}

fn check_symbol(exchange: &str, symbol: &str) -> Result<(), String> {
    Series::new(exchange, symbol).map_err(|error| error.to_string())?;
    match symbol.split_once('-') {
        Some((base, quote)) if base == quote => Err(format!("{base} cannot be traded for itself")),
        _ => Ok(()),
    }
}

fn routes(request: &BacktestRequest, catalogue: &Catalogue, findings: &mut Findings) -> Vec<Route> {
    let BacktestRequest { strategy, symbol, timeframe, routes, .. } = request;
    let routes = match (routes, strategy, symbol, timeframe) {
        (Some(routes), None, None, None) => routes.clone(),
        (None, Some(strategy), Some(symbol), Some(timeframe)) => {
            vec![Route { strategy: strategy.clone(), symbol: symbol.clone(), timeframe: timeframe.clone() }]
        }
        (Some(_), ..) => {
            findings.add("routes", "give either routes, or strategy, symbol and timeframe");
            return Vec::new();
        }
        (None, ..) => {
            for (name, value) in [("strategy", strategy), ("symbol", symbol), ("timeframe", timeframe)] {
                if value.is_none() {
                    findings.add(name, "is missing");
                }
            }
            return Vec::new();
        }
    };
    if routes.is_empty() || routes.len() > MAX_ROUTES {
        findings.add("routes", format!("must have 1 to {MAX_ROUTES} entries"));
        return Vec::new();
    }
    let place = |index: usize, field: &str| match &request.routes {
        Some(_) => format!("routes[{index}].{field}"),
        None => field.to_owned(),
    };
    let settled_in = catalogue
        .exchanges
        .get(&request.exchange)
        .and_then(|exchange| exchange.settlement_currency.as_deref());
    let quote = |symbol: &str| symbol.split_once('-').map(|(_, quote)| quote.to_owned());
    let mut symbols = BTreeSet::new();
    for (index, route) in routes.iter().enumerate() {
        findings.take(&place(index, "symbol"), check_symbol(&request.exchange, &route.symbol));
        findings.take(&place(index, "timeframe"), check_timeframe(&route.timeframe, catalogue));
        if !symbols.insert(&route.symbol) {
            findings.add(place(index, "symbol"), "each symbol can be traded by one route only");
        }
        if quote(&route.symbol) != quote(&routes[0].symbol) {
            findings.add(place(index, "symbol"), "all routes must have the same quote asset");
        }
        if let (Some(settled_in), Some(quote)) = (settled_in, quote(&route.symbol))
            && quote != settled_in
        {
            // Jesse would take the one for the other.
            let why = format!(
                "{} settles in {settled_in}, so the symbol must end in -{settled_in}",
                request.exchange
            );
            findings.add(place(index, "symbol"), why);
        }
    }
    routes
}

fn data_routes(
    request: &BacktestRequest,
    routes: &[Route],
    catalogue: &Catalogue,
    findings: &mut Findings,
) -> Vec<DataRoute> {
    let given = request.data_routes.clone().unwrap_or_default();
    if given.len() > MAX_ROUTES {
        findings.add("data_routes", format!("must have at most {MAX_ROUTES} entries"));
        return Vec::new();
    }
    for (index, route) in given.iter().enumerate() {
        findings
            .take(&format!("data_routes[{index}].symbol"), check_symbol(&request.exchange, &route.symbol));
        findings
            .take(&format!("data_routes[{index}].timeframe"), check_timeframe(&route.timeframe, catalogue));
        if given[..index].contains(route) {
            findings.add(format!("data_routes[{index}]"), "is there twice");
        }
        let traded =
            routes.iter().any(|traded| traded.symbol == route.symbol && traded.timeframe == route.timeframe);
        if traded {
            findings.add(format!("data_routes[{index}]"), "is a route already");
        }
    }
    given
}

fn dates(request: &BacktestRequest, findings: &mut Findings) -> Option<(Date, Date)> {
    let start = findings.take("start_date", parse_date(&request.start_date));
    let finish = findings.take("finish_date", parse_date(&request.finish_date));
    let (start, finish) = (start?, finish?);
    if start >= finish {
        let why = format!("{finish} must be after start_date {start} (it is the day after the last one)");
        findings.add("finish_date", why);
        return None;
    }
    Some((start, finish))
}

fn leverage(
    request: &BacktestRequest,
    exchange: Option<&Exchange>,
    findings: &mut Findings,
) -> (u32, String) {
    let leverage = request.leverage.unwrap_or(1);
    let mode = request.leverage_mode.clone().unwrap_or_else(|| "cross".into());
    if !(1..=MAX_LEVERAGE).contains(&leverage) {
        findings.add("leverage", format!("must be from 1 to {MAX_LEVERAGE}"));
    }
    match exchange {
        Some(exchange) if exchange.market == Market::Spot => {
            if leverage != 1 {
                findings.add("leverage", format!("{} is a spot market, which has none", request.exchange));
            }
            if request.leverage_mode.is_some() {
                findings
                    .add("leverage_mode", format!("{} is a spot market, which has none", request.exchange));
            }
        }
        Some(exchange) if !exchange.leverage_modes.contains(&mode) => {
            findings.add("leverage_mode", unknown("leverage mode", &mode, exchange.leverage_modes.iter()));
        }
        _ => {}
    }
    (leverage, mode)
}

fn strategies_can_run(routes: &[Route], catalogue: &Catalogue) -> Result<(), JobError> {
    for route in routes {
        let Some(strategy) = catalogue.strategies.get(&route.strategy) else {
            let message = unknown("strategy", &route.strategy, catalogue.strategies.keys());
            return Err(JobError::new(ErrorCode::StrategyNotFound, message));
        };
        if let Some(error) = &strategy.error {
            return Err(error.clone());
        }
    }
    Ok(())
}

fn hyperparameters(
    request: &BacktestRequest,
    routes: &[Route],
    catalogue: &Catalogue,
    findings: &mut Findings,
) -> BTreeMap<String, serde_json::Value> {
    let given = request.hyperparameters.as_ref();
    let strategies: BTreeSet<_> = routes.iter().map(|route| &route.strategy).collect();
    let [strategy] = strategies.iter().collect::<Vec<_>>()[..] else {
        // Jesse hands the same values to every route, so they are unambiguous for one strategy only.
        if given.is_some_and(|given| !given.is_empty()) {
            findings.add("hyperparameters", "can be set when all routes have the same strategy");
        }
        return BTreeMap::new();
    };
    let Some(known) = catalogue.strategies.get(*strategy).map(|strategy| &strategy.hyperparameters) else {
        return BTreeMap::new();
    };
    let mut values = BTreeMap::new();
    for parameter in known {
        let field = format!("hyperparameters.{}", parameter.name);
        let value = match (given.and_then(|given| given.get(&parameter.name)), &parameter.default) {
            (Some(value), _) => findings.take(&field, parameter.check(value)),
            // Jesse takes a default as it is, also one that is not within the range.
            (None, Some(default)) => Some(parameter.check(default).unwrap_or_else(|_| default.clone())),
            (None, None) => {
                let why = format!("is missing, and {strategy} has no default for it");
                findings.add(field, why);
                None
            }
        };
        values.extend(value.map(|value| (parameter.name.clone(), value)));
    }
    for name in given.into_iter().flat_map(BTreeMap::keys) {
        if !known.iter().any(|parameter| parameter.name == *name) {
            let names: Vec<_> = known.iter().map(|parameter| parameter.name.clone()).collect();
            let why = if names.is_empty() {
                format!("{strategy} has no hyperparameters")
            } else {
                unknown("hyperparameter", name, names.iter())
            };
            findings.add("hyperparameters", why);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use jobs::blobs::BlobId;

    use super::*;
    use crate::catalogue::{Engine, Hyperparameter, HyperparameterType, Strategy};

    fn parameter(name: &str, default: Option<serde_json::Value>) -> Hyperparameter {
        let (kind, min, max) = (HyperparameterType::Int, Some(5.0), Some(50.0));
        Hyperparameter { name: name.into(), kind, min, max, step: None, options: None, default }
    }

    fn catalogue() -> Catalogue {
        let exchange = |market, settlement_currency: Option<&str>| Exchange {
            market,
            fee: 0.001,
            leverage_modes: if market == Market::Spot {
                Vec::new()
            } else {
                vec!["cross".into(), "isolated".into()]
            },
            simulation_model: None,
            annualization: None,
            settlement_currency: settlement_currency.map(str::to_owned),
        };
        let strategy = |hyperparameters| Strategy {
            bundle: BlobId::of(b""),
            doc: String::new(),
            hyperparameters,
            error: None,
        };
        Catalogue {
            engine: Engine {
                jesse_version: "3.5.3".into(),
                semantics: "runner/1".into(),
                environment: String::new(),
            },
            exchanges: BTreeMap::from([
                ("Perpetual".into(), exchange(Market::Futures, None)),
                ("USDC Perpetual".into(), exchange(Market::Futures, Some("USDC"))),
                ("Spot".into(), exchange(Market::Spot, None)),
            ]),
            timeframes: vec!["1h".into(), "4h".into()],
            strategies: BTreeMap::from([
                ("Plain".into(), strategy(Vec::new())),
                ("Needs".into(), strategy(vec![parameter("period", None)])),
                ("OddDefault".into(), strategy(vec![parameter("period", Some(json!(100)))])),
            ]),
            conflicts: BTreeMap::new(),
            written: BTreeMap::new(),
            sandbox: crate::runner::SandboxState::default(),
        }
    }

    fn check(changes: serde_json::Value) -> Result<BacktestSpec, String> {
        let mut spec = json!({
            "strategy": "Plain", "exchange": "Perpetual", "symbol": "BTC-USDT", "timeframe": "1h",
            "start_date": "2023-02-01", "finish_date": "2023-03-01",
        });
        let serde_json::Value::Object(changes) = changes else { unreachable!("changes are an object") };
        spec.as_object_mut().unwrap().extend(changes);
        spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let request = serde_json::from_value(spec).unwrap();
        BacktestSpec::check(&request, &catalogue()).map_err(|error| error.message)
    }

    #[test]
    fn what_jesse_would_take_for_something_else_is_refused() {
        for (changes, words) in [
            (json!({"exchange": "USDC Perpetual"}), "symbol: USDC Perpetual settles in USDC"),
            (json!({"symbol": "BTC-BTC"}), "symbol: BTC cannot be traded for itself"),
            (json!({"strategy": "Needs"}), "hyperparameters.period: is missing, and Needs has no default"),
            (json!({"strategy": "Needs", "hyperparameters": {"period": 4}}), "must be from 5 to 50"),
            (json!({"hyperparameters": {"period": 4}}), "Plain has no hyperparameters"),
            (json!({"exchange": "Spot", "leverage": 2}), "leverage: Spot is a spot market"),
            (json!({"exchange": "Spot", "leverage_mode": "cross"}), "leverage_mode: Spot is a spot market"),
            (
                json!({"data_routes": [{"symbol": "BTC-USDT", "timeframe": "1h"}]}),
                "data_routes[0]: is a route already",
            ),
            (json!({"balance": 0}), "balance: must be above 0"),
            (
                json!({"strategy": null, "symbol": null, "timeframe": null, "routes": [
                {"strategy": "Plain", "symbol": "BTC-USDT", "timeframe": "1h"},
                {"strategy": "Plain", "symbol": "BTC-USDT", "timeframe": "4h"}]}),
                "routes[1].symbol: each symbol",
            ),
            (
                json!({"strategy": null, "symbol": null, "timeframe": null, "routes": [
                {"strategy": "Plain", "symbol": "BTC-USDT", "timeframe": "1h"},
                {"strategy": "Plain", "symbol": "ETH-USDC", "timeframe": "1h"}]}),
                "routes[1].symbol: all routes must have",
            ),
        ] {
            let refused = check(changes.clone()).unwrap_err();
            assert!(refused.contains(words), "{changes}: {refused}");
        }
    }

    #[test]
    fn what_is_left_open_is_what_jesse_would_take() {
        let spec = check(json!({"exchange": "USDC Perpetual", "symbol": "BTC-USDC"})).unwrap();
        assert_eq!((spec.leverage, spec.leverage_mode.as_str(), spec.warm_up_candles), (1, "cross", 240));
        let odd = check(json!({"strategy": "OddDefault"})).unwrap();
        assert_eq!(odd.hyperparameters["period"], json!(100));
    }
}
