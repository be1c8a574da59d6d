#![doc = include_str!("../README.md")]

pub mod bootstrap;
pub mod dependence;
mod error;
pub mod factors;
pub mod interval;
mod linear;
mod number;
pub mod pairs;
pub mod performance;
pub mod portfolio;
pub mod regimes;
mod sample;
pub mod selection;
pub mod series;
pub mod simulation;
pub mod tail;
pub mod verdict;

pub use error::RiskError;
pub use series::{EquityCurve, PeriodsPerYear, Returns, Side, Trade, Trades};
