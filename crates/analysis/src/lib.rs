#![doc = include_str!("../README.md")]

mod answer;
mod correlation;
mod factors;
pub mod inputs;
mod pairs;
mod regimes;
pub mod report;
mod results;
mod simulation;
pub mod source;
pub mod spec;
pub mod stress;
mod tail;
mod track;

pub use answer::{Answer, refusal};
