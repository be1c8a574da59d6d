//! The control plane of jesse-jobs: what clients talk to, and the roles of the binary. The README in the repository's root is for
//! users, `docs/ARCHITECTURE.md` for those who change it.
//!
//! [`api`] (HTTP) and [`mcp`] are two doors to one [`service`]: validate, plan, submit, wait, read. Both tell errors by the one table in
//! [`errors`]. [`roles`] put the parts together: `up`, `serve`, `worker`, `candles`. [`client`] is the command line for those who submit jobs;
//! it comes through the same door as everybody. `console` is what people see in a browser.

pub mod api;
pub mod callers;
mod charts;
pub mod cli;
pub mod client;
mod console;
pub mod errors;
pub mod mcp;
pub mod metrics;
pub mod output;
#[cfg(test)]
mod reference;
pub mod roles;
pub mod service;
pub mod settings;
mod sse;
pub mod telemetry;
mod views;
