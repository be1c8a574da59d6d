//! Whether calls are served.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::Service;
use crate::settings::EngineChoice;

/// In the form that jesse-mcp gave it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Health {
    /// healthy, or unhealthy when Redis or every engine is away
    pub status: &'static str,
    /// connected, disconnected or embedded
    pub jesse_api: &'static str,
    /// Of this answer (UTC).
    pub timestamp: String,
    /// connected or disconnected
    pub redis: &'static str,
    /// For those who have shown what they have to.
    #[serde(flatten)]
    known: Option<Known>,
}

/// What not everybody is told.
#[derive(Debug, Serialize, JsonSchema)]
struct Known {
    /// ready, running and delayed runs; left out without Redis
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(with = "serde_json::Map<String, Value>")]
    queue: Value,
    /// How workers keep strategies in bounds; left out where none has said so
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(with = "serde_json::Map<String, Value>")]
    sandbox: Value,
    /// Of the server
    version: &'static str,
}

impl Health {
    /// Whether calls are served.
    pub fn is_healthy(&self) -> bool {
        self.status == "healthy"
    }
}

impl Service {
    /// Looks whether Redis and an engine are there. What not everybody is told is left out unless `known`.
    pub async fn health(&self, known: bool) -> Health {
        let depth = self.queue().depth().await.ok();
        let engine = depth.is_some() && self.has_engine().await.unwrap_or(false);
        let catalogue = match depth {
            Some(_) if known => self.published().await.ok().flatten(),
            _ => None,
        };
        let known = known.then(|| Known {
            queue: depth.as_ref().map_or(
                Value::Null,
                |depth| json!({"ready": depth.ready, "running": depth.running, "delayed": depth.delayed}),
            ),
            sandbox: json!(catalogue.map(|catalogue| catalogue.sandbox.clone())),
            version: env!("CARGO_PKG_VERSION"),
        });
        Health {
            status: if engine { "healthy" } else { "unhealthy" },
            jesse_api: match (engine, self.plans_for()) {
                (false, _) => "disconnected",
                (true, EngineChoice::Rest) => "connected",
                (true, EngineChoice::Runner | EngineChoice::Auto) => "embedded",
            },
            timestamp: jiff::Timestamp::now().to_string(),
            redis: if depth.is_some() { "connected" } else { "disconnected" },
            known,
        }
    }
}
