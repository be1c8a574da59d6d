//! The scripts on a real Redis.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod batches;
mod blobs;
mod cache;
mod connections;
mod fairness;
mod holdouts;
mod jobs;
mod leases;
mod ledger;
mod listing;
mod locks;
mod parents;
mod reached;
mod s3_server;
mod server;
mod support;
mod unused;
mod upgrades;
mod webhooks;
