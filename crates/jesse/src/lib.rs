#![doc = include_str!("../README.md")]

pub mod candles;
pub mod catalogue;
pub mod disk_cache;
pub mod grid;
pub mod logs;
pub mod monte_carlo;
pub mod optimize;
pub mod parent;
pub mod plan;
pub mod published;
pub mod references;
pub mod rest;
pub mod runner;
pub mod significance;
pub mod spec;
pub mod strategies;
