#![doc = include_str!("../README.md")]

pub mod bootstrap;
mod error;
pub mod interval;
mod number;
pub mod performance;
mod sample;
pub mod series;
pub mod simulation;
pub mod tail;

pub use error::RiskError;
pub use series::{EquityCurve, PeriodsPerYear, Returns, Side, Trade, Trades};
