//! A backtest as a client writes it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A backtest as a client writes it. One strategy on one symbol in the flat form, or several in `routes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BacktestRequest {
    /// From strategy_list
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub strategy: Option<String>,
    /// As candles_list spells it
    pub exchange: String,
    /// E.g. BTC-USDT
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub symbol: Option<String>,
    /// 1m, 15m, 4h, 1D, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub timeframe: Option<String>,
    /// First day, YYYY-MM-DD (UTC)
    pub start_date: String,
    /// Day after the last
    #[serde(alias = "end_date")]
    pub finish_date: String,
    /// Several at once: [{strategy, symbol, timeframe}]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Route>")]
    pub routes: Option<Vec<Route>>,
    /// Further candles the strategies read: [{symbol, timeframe}]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<DataRoute>")]
    pub data_routes: Option<Vec<DataRoute>>,
    /// At the start, in the quote asset; default 10000
    #[serde(default, alias = "starting_balance", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub balance: Option<f64>,
    /// Fraction, e.g. 0.0006; default the exchange's
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub fee: Option<f64>,
    /// Futures only; default 1
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub leverage: Option<u32>,
    /// cross (default) or isolated
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub leverage_mode: Option<String>,
    /// Before start_date; they bound indicators too; default 240
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub warm_up_candles: Option<u32>,
    /// Name to value; others keep their defaults
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub hyperparameters: Option<BTreeMap<String, serde_json::Value>>,
    /// Jesse's fast simulator; default true
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub fast_mode: Option<bool>,
    /// Also compute buy and hold
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub benchmark: Option<bool>,
    /// Run although minutes are missing
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub allow_gaps: Option<bool>,
    /// Run on candles that Jesse alters: see monte_carlo, which runs many
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub scenario: Option<Scenario>,
}

/// How Jesse alters candles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Pipeline {
    /// Blocks of the real minutes' moves in another order.
    MovingBlockBootstrap {
        /// Minutes within which blocks are drawn; a block has a tenth of them.
        #[serde(default = "default_batch_minutes")]
        batch_minutes: u32,
    },
    /// Noise on each candle, in the quote asset.
    GaussianNoise {
        /// Standard deviation of the close.
        close_sigma: f64,
        /// Of the high.
        high_sigma: f64,
        /// Of the low.
        low_sigma: f64,
        /// Minutes that are altered at a time.
        #[serde(default = "default_batch_minutes")]
        batch_minutes: u32,
    },
}

/// A week.
fn default_batch_minutes() -> u32 {
    7 * 1440
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::MovingBlockBootstrap { batch_minutes: default_batch_minutes() }
    }
}

impl Pipeline {
    /// Whether Jesse can run it.
    pub fn check(&self) -> Result<(), String> {
        let (Self::MovingBlockBootstrap { batch_minutes } | Self::GaussianNoise { batch_minutes, .. }) = self;
        if !(20..=527_040).contains(batch_minutes) {
            return Err("batch_minutes: must be from 20 to 527040".into());
        }
        if let Self::GaussianNoise { close_sigma, high_sigma, low_sigma, .. } = self {
            for (name, sigma) in
                [("close_sigma", close_sigma), ("high_sigma", high_sigma), ("low_sigma", low_sigma)]
            {
                if !(sigma.is_finite() && (0.0..=1e9).contains(sigma)) {
                    return Err(format!("{name}: must be from 0 to 1e9"));
                }
            }
        }
        Ok(())
    }
}

/// An altered history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// How it is made.
    pub pipeline: Pipeline,
    /// Which one of all that can be made so.
    pub seed: u32,
}

/// One strategy on one symbol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Name of the strategy
    pub strategy: String,
    /// E.g. BTC-USDT
    pub symbol: String,
    /// E.g. 4h
    pub timeframe: String,
}

/// Candles that strategies read without trading them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataRoute {
    /// E.g. ETH-USDT
    pub symbol: String,
    /// E.g. 4h
    pub timeframe: String,
}
