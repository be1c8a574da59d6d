//! `/v1/candles`.

use axum::{Json, extract::State};
use jesse::candles::store::SeriesView;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Api, Problem};

/// All candles that are stored.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Candles {
    /// By exchange and symbol.
    candles: Vec<SeriesView>,
}

pub(super) async fn candles(State(api): State<Api>) -> Result<Json<Candles>, Problem> {
    Ok(Json(Candles { candles: api.service.candles().await? }))
}
