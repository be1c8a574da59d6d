//! What a worker has fetched for an analysis, and what a submit pinned for it.

use jesse::{
    candles::{Series, Source as CandleSource, closes::Close},
    parent::ForChildren,
    plan::{BacktestPlan, PlannedSeries},
    spec::BacktestSpec,
};
use jobs::{JobId, blobs::BlobId};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// A result, pinned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinnedResult {
    /// What it is stored under.
    pub result: String,
    /// The hash of its body.
    pub blob: BlobId,
    /// The body's name in the blob store, if it is not its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The backtest that found it.
    pub backtest: BacktestSpec,
}

/// What an analysis is computed from, pinned: the plan of its job.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pinned {
    /// In the order of the source's parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<PinnedResult>,
    /// That came with the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returns: Option<Vec<f64>>,
    /// In the order of the analysis' symbols.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candles: Vec<PlannedSeries>,
    /// The backtests that it has run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Box<Runs>>,
    /// Why it has none run although it would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_run: Option<String>,
    /// The key of what is found, for whoever may use it.
    pub cache_key: Option<String>,
    /// Whether others may use the result.
    pub shared: bool,
}

/// The backtests that an analysis has run: variants of one, on the same code and candles.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Runs {
    /// What they are variants of.
    pub backtest: BacktestSpec,
    /// Its code and candles.
    pub plan: BacktestPlan,
    /// How they are treated.
    pub children: ForChildren,
    /// The batch that they are, once they were submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<JobId>,
}

/// A backtest that was run for an analysis.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its job.
    pub job_id: JobId,
    /// What was run.
    pub backtest: BacktestSpec,
    /// Its summary, or why there is none.
    pub summary: Result<Value, String>,
    /// All of it, where an analysis wants that.
    pub body: Option<Body>,
}

/// A result, fetched.
#[derive(Debug, Clone)]
pub struct LoadedResult {
    /// The backtest that found it.
    pub backtest: BacktestSpec,
    /// What it found.
    pub body: Body,
}

/// What of a result's body is analysed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Body {
    /// In the order in which they were closed.
    #[serde(default)]
    pub trades: Vec<ClosedTrade>,
    /// Sampled once a day.
    #[serde(default)]
    pub equity_curve: Vec<Point>,
}

/// Equity at a time.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Point {
    /// Seconds since 1970.
    pub time: i64,
    /// In the quote asset; NaN where Jesse had no number.
    #[serde(deserialize_with = "number")]
    pub value: f64,
}

/// A trade as Jesse tells it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ClosedTrade {
    /// `long` or `short`.
    #[serde(rename = "type")]
    pub side: String,
    /// The symbol.
    #[serde(default)]
    pub symbol: String,
    /// The strategy.
    #[serde(default)]
    pub strategy_name: String,
    /// Quantity, not negative.
    #[serde(default, deserialize_with = "number")]
    pub qty: f64,
    /// Mean price of the entry.
    #[serde(default, deserialize_with = "number")]
    pub entry_price: f64,
    /// Mean price of the exit.
    #[serde(default, deserialize_with = "number")]
    pub exit_price: f64,
    /// All fees, in the quote asset.
    #[serde(default, deserialize_with = "number")]
    pub fee: f64,
    /// Net profit, fees included.
    #[serde(rename = "PNL", deserialize_with = "number")]
    pub profit: f64,
    /// Milliseconds since 1970.
    #[serde(deserialize_with = "number")]
    pub opened_at: f64,
    /// Milliseconds since 1970.
    #[serde(deserialize_with = "number")]
    pub closed_at: f64,
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// The closes of one symbol, fetched: bars in the range that have a candle.
#[derive(Debug, Clone)]
pub struct SymbolCloses {
    /// Which.
    pub series: Series,
    /// Real or synthetic.
    pub source: CandleSource,
    /// In the order of time.
    pub closes: Vec<Close>,
}

/// What an analysis is computed from.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// In the order of the source's parts.
    pub results: Vec<LoadedResult>,
    /// That came with the request.
    pub returns: Option<Vec<f64>>,
    /// In the order of the analysis' symbols.
    pub candles: Vec<SymbolCloses>,
    /// In the order of [`crate::spec::Analysis::backtests`].
    pub ran: Vec<Ran>,
    /// Why none was run.
    pub not_run: Option<String>,
}

impl Inputs {
    /// The symbols' names, with their exchange where there are several.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut exchanges = self.candles.iter().map(|symbol| symbol.series.exchange());
        let one = exchanges.next().is_none_or(|first| exchanges.all(|other| other == first));
        let name = |series: &Series| if one { series.symbol().to_owned() } else { series.to_string() };
        self.candles.iter().map(|symbol| name(&symbol.series)).collect()
    }

    /// What a reader must know of the candles.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        let synthetic =
            self.candles.iter().any(|symbol| matches!(symbol.source, CandleSource::Synthetic { .. }));
        synthetic.then_some("computed on synthetic candles, which no market made")
    }
}
