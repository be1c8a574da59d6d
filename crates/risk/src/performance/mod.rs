//! How good a series of returns was, and how well that is known.

mod calendar;
mod drawdown;
mod ratios;
mod sharpe;

pub use calendar::{Exposure, MonthlyTable, YearOfReturns, exposure, monthly_table};
pub use drawdown::{Drawdown, DrawdownTable, drawdown_table, max_drawdown};
pub use ratios::{
    Performance, PerformanceIntervals, omega, performance, performance_intervals, sortino_per_period,
};
pub use sharpe::{
    SharpeRatio, deflated_sharpe_ratio, expected_maximum_sharpe, minimum_track_record_length,
    probabilistic_sharpe_ratio, sharpe_ratio,
};
