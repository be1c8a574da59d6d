//! `/v1/candles`.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{Api, Problem};

pub(super) async fn candles(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "candles": api.service.candles().await? })))
}
