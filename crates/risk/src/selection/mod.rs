//! What many tries do to the best of them: how many there were in effect, what the best of noise looks like, and how likely the
//! choice was overfitted.

mod overfitting;
mod running;
mod superior;
mod trials;

pub use overfitting::{Overfitting, probability_of_overfitting};
pub use running::{RunningTrials, TrialSums};
pub use superior::{SuperiorAbility, superior_predictive_ability};
pub use trials::{TrialSummary, effective_trials, summarise_trials};
