//! End to end: the real binary, a real Redis, a real Jesse.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "says what was skipped, and why")]
#![expect(unreachable_pub, reason = "nobody depends on a test binary")]

mod backtests;
mod bad_input;
mod batches;
mod cache;
mod candles;
mod harness;
mod lifecycle;
mod logs;
mod mcp;
mod parents;
mod postgres;
mod rest;
mod same_as_jesse;
mod scaled_out;
mod spec_matrix;
mod staleness;
mod strategies;
mod strategies_cli;
