#![doc = include_str!("../README.md")]

mod answer;
pub mod candles;
mod correlation;
mod factors;
pub mod inputs;
pub mod ledger;
mod pairs;
mod regimes;
pub mod report;
mod results;
pub mod selection;
mod simulation;
pub mod source;
pub mod spec;
pub mod stress;
mod tail;
mod track;

pub use answer::{Answer, refusal};
pub use risk::performance::{MonthlyTable, YearOfReturns};
pub use track::monthly_returns;
