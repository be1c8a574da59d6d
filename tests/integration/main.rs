//! End to end: the real binary, a real Redis, a real Jesse.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "says what was skipped, and why")]
#![expect(unreachable_pub, reason = "nobody depends on a test binary")]

mod access;
mod backtests;
mod bad_analyses;
mod bad_input;
mod balanced;
mod batches;
mod browser;
mod cache;
mod candles;
mod clients;
mod command_line;
mod conformance;
mod console;
mod events;
mod examples;
mod exchange;
mod harness;
mod holdouts;
mod imports;
mod ledger;
mod lifecycle;
mod logs;
mod mcp;
mod mcp_app;
mod mcp_content;
mod mcp_malformed;
mod mcp_stdio;
mod mcp_subscriptions;
mod mcp_tasks;
mod openapi;
mod pairs;
mod parents;
mod postgres;
mod rest;
mod risk;
mod same_as_jesse;
mod scaled_out;
mod significance;
mod spec_matrix;
mod staleness;
mod strategies;
mod strategies_cli;
mod telemetry;
mod unused;
mod web;
mod webhooks;
