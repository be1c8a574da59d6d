#![doc = include_str!("../README.md")]

pub mod api;
pub mod cli;
pub mod errors;
mod mcp;
pub mod metrics;
pub mod roles;
pub mod service;
pub mod settings;
mod views;
