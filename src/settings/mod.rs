//! Settings: one struct per concern, read from flags, then the environment, then a file `.env`.

#![allow(rustdoc::bare_urls, reason = "the comments of settings are their help on a terminal")]

mod engine;
mod log;
mod serving;
mod storage;
mod webhooks;
mod worker;

pub use engine::{EngineChoice, EngineSettings, ServerSettings};
pub use log::{LogFormat, LogSettings};
pub use serving::{AccessSettings, ApiSettings, CacheScope, LimitSettings};
pub use storage::{DataSettings, RedisAccessSettings, RedisSettings, StorageSettings};
pub use webhooks::{Delivers, ReceiverSettings, WebhookArgs};
pub use worker::{Allows, ExchangeArgs, ImportSettings, WorkerArgs, default_python};
