//! Optimisation: a search for the hyperparameters with which a strategy did best on a training period, judged on a test
//! period that the search never saw.
//!
//! The search goes in rounds of a fixed size. What a round tries depends on the seed and on the results of the rounds
//! before it, taken in the order of the trials; so it is the same however many workers compute it, and in whatever order
//! they end. Each trial is an ordinary backtest: cached, cancelled and spread over the workers as any other.
//!
//! [`spec`] is what is asked for, [`plan`] what is pinned and how far the search is, [`search`] proposes what to try.

pub mod objective;
pub mod plan;
pub mod search;
pub mod space;
pub mod spec;
pub mod walk_forward;
