//! Pairs: whether two prices are tied, by what ratio, and how fast they return.
//!
//! Hand in **log prices**, so that the hedge ratio is one of money and the spread a return.

mod augmented;
mod engle_granger;
mod johansen;
mod spread;

pub use engle_granger::{EngleGranger, engle_granger, engle_granger_both};
pub use johansen::{Johansen, JohansenRank, johansen};
pub use spread::{HalfLife, half_life, rolling_z_scores};

/// Most observations of a test: some minutes of work below it.
pub const MOST_OBSERVATIONS: usize = 100_000;
