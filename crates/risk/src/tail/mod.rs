//! Value at risk and expected shortfall, each by a method that is named in the answer, and tests of VaR forecasts.
//!
//! Both are **losses as positive fractions**: a VaR of 0.03 at 95 % says that one period in twenty loses more than 3 %. A
//! negative VaR is a gain. Longer horizons are compounded or simulated, never multiplied by a root.

mod backtest;
mod filtered;
mod methods;
mod value_at_risk;

pub use backtest::{ChristoffersenTest, KupiecTest, VarBacktest, backtest_forecasts, rolling_forecasts};
pub use methods::{cornish_fisher, ewma_deviation, gaussian, historical};
pub use value_at_risk::{TailMethod, TailOptions, TailRisk, tail_risk};
