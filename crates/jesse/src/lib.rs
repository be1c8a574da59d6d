#![doc = include_str!("../README.md")]

pub mod candles;
pub mod catalogue;
pub mod grid;
pub mod logs;
pub mod plan;
pub mod runner;
pub mod spec;
pub mod strategies;
