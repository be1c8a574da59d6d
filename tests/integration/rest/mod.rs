//! The REST engine against a real Jesse server.

mod deployment;
mod engine;
mod proxy;
mod same_as_runner;
mod server;
