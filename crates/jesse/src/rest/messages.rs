//! What is sent to Jesse's server to run a backtest.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    catalogue::{Exchange, Market},
    spec::{BacktestSpec, DataRoute, Route},
};

/// What Jesse's dashboard lets one log; all of it off, since logs would be written to the server's disk.
const LOGGING: [&str; 10] = [
    "balance_update",
    "order_submission",
    "order_cancellation",
    "order_execution",
    "position_opened",
    "position_increased",
    "position_reduced",
    "position_closed",
    "shorter_period_candles",
    "trading_candles",
];

/// The body of `POST /backtest`.
pub(super) fn backtest(id: Uuid, spec: &BacktestSpec, exchange: &Exchange) -> Value {
    let name = &spec.exchange;
    let route = |Route { strategy, symbol, timeframe }: &Route| json!({"exchange": name, "strategy": strategy, "symbol": symbol, "timeframe": timeframe});
    let data_route = |DataRoute { symbol, timeframe }: &DataRoute| json!({"exchange": name, "symbol": symbol, "timeframe": timeframe});
    json!({
        "id": id,
        "exchange": name,
        "routes": spec.routes.iter().map(route).collect::<Vec<_>>(),
        "data_routes": spec.data_routes.iter().map(data_route).collect::<Vec<_>>(),
        "config": {
            "warm_up_candles": spec.warm_up_candles,
            "logging": LOGGING.iter().map(|name| ((*name).to_owned(), false.into())).collect::<serde_json::Map<_, _>>(),
            "exchanges": {name: account(spec, exchange)},
        },
        "start_date": spec.start_date.to_string(),
        "finish_date": spec.finish_date.to_string(),
        "debug_mode": false,
        "export_csv": false,
        "export_json": false,
        "export_chart": false,
        "fast_mode": spec.fast_mode,
        "benchmark": spec.benchmark,
        "state": {},
    })
}

fn account(spec: &BacktestSpec, exchange: &Exchange) -> Value {
    let mut account = json!({
        "name": spec.exchange,
        "fee": spec.fee,
        "balance": spec.balance,
        "type": match exchange.market { Market::Spot => "spot", Market::Futures => "futures" },
        "futures_leverage": spec.leverage,
        "futures_leverage_mode": spec.leverage_mode,
    });
    if let Some(model) = &exchange.simulation_model {
        account["simulation_model"] = model.as_str().into();
    }
    if let Some(annualization) = exchange.annualization {
        account["annualization"] = annualization.into();
    }
    account
}
