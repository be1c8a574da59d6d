//! What the tests of this module share.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;

use crate::{
    catalogue::{Exchange, Market},
    spec::BacktestSpec,
};

/// A backtest of February 2023.
pub(super) fn spec(strategy: &str) -> BacktestSpec {
    serde_json::from_value(json!({
        "exchange": "Binance Perpetual Futures",
        "routes": [{"strategy": strategy, "symbol": "BTC-USDT", "timeframe": "1h"}],
        "start_date": "2023-02-01", "finish_date": "2023-03-01",
        "balance": 10_000.0, "fee": 0.0006, "leverage": 2, "leverage_mode": "cross",
        "warm_up_candles": 240, "fast_mode": true, "benchmark": false,
    }))
    .unwrap()
}

/// Its exchange.
pub(super) fn exchange() -> Exchange {
    let leverage_modes = vec!["cross".into(), "isolated".into()];
    Exchange {
        market: Market::Futures,
        fee: 0.0004,
        leverage_modes,
        simulation_model: None,
        annualization: None,
        settlement_currency: None,
    }
}
