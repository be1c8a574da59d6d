//! Trading a pair: the strategy that is made for it, and its backtest on two routes.
//!
//! The code is the same for every pair, so that its bundle has one hash; what is found for a pair are its hyperparameters,
//! and the first of its two routes is the symbol that the other explains.

use std::{collections::BTreeMap, io};

use jobs::{JobError, blobs::BlobId};
use serde_json::{Value, json};

use crate::{
    catalogue::{Catalogue, Hyperparameter, HyperparameterType, Strategy},
    spec::{BacktestRequest, BacktestSpec, Route},
    strategies::{bundle, draft::main_file, project::Files},
};

/// The strategy's name.
pub const STRATEGY: &str = "PairSpread";
/// Its code.
pub const SOURCE: &str = include_str!("pair_spread.py");
/// Hedge ratios, without their sign, that make a pair: of others one leg is next to nothing.
pub const HEDGE_RATIOS: std::ops::RangeInclusive<f64> = 0.01..=100.0;

/// What the strategy is told of a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Bars before each from which its z-score is computed.
    pub window: usize,
    /// In from here.
    pub entry_z: f64,
    /// Out from here on the way back.
    pub exit_z: f64,
    /// Out from here on the way on.
    pub stop_z: f64,
}

/// The code as a bundle, the same bytes everywhere.
pub fn packed() -> io::Result<Vec<u8>> {
    let files = Files::from([(main_file(STRATEGY), SOURCE.as_bytes().to_vec())]);
    bundle::pack(&files, files.keys(), &BTreeMap::new())
}

/// The strategy as a catalogue has it. Its code says the same of its hyperparameters.
pub fn strategy(bundle: BlobId) -> Strategy {
    let parameter = |name: &str, kind, min: f64, max: f64, default: Value| Hyperparameter {
        name: name.into(),
        kind,
        min: Some(min),
        max: Some(max),
        step: None,
        options: None,
        default: Some(default),
    };
    let float = HyperparameterType::Float;
    let hyperparameters = vec![
        parameter("hedge_ratio", float, -100.0, 100.0, json!(1.0)),
        parameter("window", HyperparameterType::Int, 10.0, 5000.0, json!(60)),
        parameter("entry_z", float, 0.1, 100.0, json!(2.0)),
        parameter("exit_z", float, 0.0, 100.0, json!(0.5)),
        parameter("stop_z", float, 0.1, 100.0, json!(4.0)),
    ];
    let doc = "Trades the spread of two symbols: in when it is far from its mean, out when it is near again or too far.";
    Strategy { bundle, doc: doc.into(), hyperparameters, error: None }
}

/// The backtest of a pair, but for its hedge ratio and which of the two is explained. `request` has no strategy.
pub fn check(
    request: BacktestRequest,
    (symbols, timeframe): ([&str; 2], &str),
    rules: &Rules,
    catalogue: &Catalogue,
) -> Result<BacktestSpec, JobError> {
    let route = |symbol: &str| Route {
        strategy: STRATEGY.into(),
        symbol: symbol.into(),
        timeframe: timeframe.into(),
    };
    let values = [
        ("window", json!(rules.window)),
        ("entry_z", json!(rules.entry_z)),
        ("exit_z", json!(rules.exit_z)),
        ("stop_z", json!(rules.stop_z)),
    ];
    // The bar itself is one more.
    let warm_up = u32::try_from(rules.window + 1).unwrap_or(u32::MAX);
    let request = BacktestRequest {
        routes: Some(symbols.map(route).to_vec()),
        warm_up_candles: Some(warm_up),
        hyperparameters: Some(values.map(|(name, value)| (name.to_owned(), value)).into()),
        ..request
    };
    BacktestSpec::check(&request, catalogue)
}

/// The same with what was found: the hedge ratio, and the place of the symbol that is explained.
#[must_use]
pub fn hedged(mut spec: BacktestSpec, hedge_ratio: f64, explained: usize) -> BacktestSpec {
    if explained == 1 {
        spec.routes.reverse();
    }
    spec.hyperparameters.insert("hedge_ratio".into(), json!(hedge_ratio));
    spec
}

/// A catalogue that has this strategy and no other.
#[must_use]
pub fn catalogue(of: &Catalogue, bundle: BlobId) -> Catalogue {
    Catalogue {
        engine: of.engine.clone(),
        exchanges: of.exchanges.clone(),
        timeframes: of.timeframes.clone(),
        strategies: BTreeMap::from([(STRATEGY.to_owned(), strategy(bundle))]),
        conflicts: BTreeMap::new(),
        written: BTreeMap::new(),
        sandbox: of.sandbox.clone(),
    }
}
