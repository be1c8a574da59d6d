//! The number of trials, counted and in effect.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use crate::dependence::check_lengths;
use crate::error::RiskError;
use crate::number::{count, ratio};
use crate::performance::{deflated_sharpe_ratio, expected_maximum_sharpe};
use crate::sample;

/// What a set of trials amounts to. Sharpe ratios are of a period.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct TrialSummary {
    /// How many were run.
    pub trials: usize,
    /// How many of them had returns that vary; the others have no Sharpe ratio.
    pub with_sharpe: usize,
    /// Mean correlation between them.
    pub mean_correlation: f64,
    /// How many independent ones they amount to, from the mean correlation r: `r + (1 - r) N`. An upper figure where trials
    /// come in families, which makes what is derived from it cautious.
    pub effective: f64,
    /// The same from the spectrum of their correlations, `N^2 / (sum of all squared correlations)`, corrected for the squares
    /// that chance alone gives. Trials in two families of copies count as two.
    pub effective_by_spectrum: f64,
    /// Variance of their Sharpe ratios (divisor N - 1).
    pub variance: f64,
    /// The Sharpe ratio that the best of as many trials without any edge is expected to have.
    pub expected_maximum: f64,
    /// Which trial had the highest ratio, from 0.
    pub best: usize,
    /// Its ratio.
    pub best_sharpe: f64,
    /// The probability that its true ratio is above 0 given that it is the best of so many; `null` where undefined.
    pub deflated: Option<f64>,
}

/// Most work for one spectrum, in multiplications: some seconds.
const MOST_WORK: usize = 20_000_000_000;

/// Summarises the returns of at least 1 and at most 20,000 trials over the same periods, at least 20 of them.
///
/// Fails if no trial has returns that vary.
pub fn summarise_trials(trials: &[Vec<f64>]) -> Result<TrialSummary, RiskError> {
    let periods = check_lengths(trials, 1, 20)?;
    let varying: Vec<usize> =
        (0..trials.len()).filter(|&trial| !sample::is_constant(&trials[trial])).collect();
    let sharpes: Vec<f64> = varying
        .iter()
        .map(|&trial| ratio(sample::mean(&trials[trial]), sample::deviation(&trials[trial])).unwrap_or(0.0))
        .collect();
    let Some(best) = (0..sharpes.len()).max_by(|&a, &b| sharpes[a].total_cmp(&sharpes[b]).then(b.cmp(&a)))
    else {
        return Err(RiskError::Constant { what: "every trial".to_owned(), undefined: "the Sharpe ratio" });
    };
    let standardised = varying
        .par_iter()
        .map(|&trial| crate::dependence::standardise(trial, &trials[trial]))
        .collect::<Result<Vec<_>, _>>()?;
    let mean_correlation = mean_correlation(&standardised, periods);
    let effective = effective_trials(varying.len(), mean_correlation)?;
    let variance = sample::variance(&sharpes);
    let returns = &trials[varying[best]];
    let deflated = match sample::shape(returns) {
        Some(shape) => deflated_sharpe_ratio(
            sharpes[best],
            periods,
            shape.skewness,
            shape.kurtosis,
            variance,
            effective,
        )?,
        None => None,
    };
    Ok(TrialSummary {
        trials: trials.len(),
        with_sharpe: varying.len(),
        mean_correlation,
        effective,
        effective_by_spectrum: spectral(&standardised, periods)?,
        variance,
        expected_maximum: expected_maximum_sharpe(variance, effective)?,
        best: varying[best],
        best_sharpe: sharpes[best],
        deflated,
    })
}

/// `r + (1 - r) N` (Lopez de Prado 2018) for a mean correlation r from -1 to 1, of which a negative one counts as 0: no set of
/// trials amounts to more than itself.
pub fn effective_trials(trials: usize, mean_correlation: f64) -> Result<f64, RiskError> {
    crate::error::at_least("number of trials", trials, 1)?;
    if !(-1.0..=1.0).contains(&mean_correlation) {
        let allowed = "from -1 to 1";
        return Err(RiskError::OutOfRange { name: "mean correlation", value: mean_correlation, allowed });
    }
    let correlation = mean_correlation.max(0.0);
    Ok(correlation + (1.0 - correlation) * count(trials))
}

/// The mean over all pairs, from the length of the sum of all: no pair is computed.
fn mean_correlation(standardised: &[Vec<f64>], periods: usize) -> f64 {
    let n = count(standardised.len());
    if standardised.len() < 2 {
        return 0.0;
    }
    let mut total = vec![0.0; periods];
    for series in standardised {
        for (sum, value) in total.iter_mut().zip(series) {
            *sum += value;
        }
    }
    let squared: f64 = total.iter().map(|sum| sum * sum).sum();
    ((squared - n) / (n * (n - 1.0))).clamp(-1.0, 1.0)
}

/// The number of trials by the spectrum, between 1 and all of them.
fn spectral(standardised: &[Vec<f64>], periods: usize) -> Result<f64, RiskError> {
    let trials = standardised.len();
    if trials < 2 {
        return Ok(1.0);
    }
    // The squares of all entries of Z Z' are those of Z' Z: take the smaller.
    let transposed: Vec<Vec<f64>>;
    let vectors = if trials <= periods {
        standardised
    } else {
        transposed =
            (0..periods).map(|period| standardised.iter().map(|series| series[period]).collect()).collect();
        &transposed
    };
    let work = vectors.len().saturating_mul(vectors.len()).saturating_mul(vectors[0].len());
    crate::error::at_most(
        "size of the trials (the square of the smaller side times the other)",
        work,
        MOST_WORK,
    )?;
    let partial: Vec<f64> = (0..vectors.len())
        .into_par_iter()
        .map(|i| {
            let dot = |j: usize| sample::dot(&vectors[i], &vectors[j]);
            let above: f64 = (i + 1..vectors.len()).map(|j| dot(j).powi(2)).sum();
            2.0 * above + dot(i).powi(2)
        })
        .collect();
    let squares: f64 = partial.iter().sum();
    let n = count(trials);
    let by_chance = n * (n - 1.0) / count(periods - 1);
    Ok((n * n / (squares - by_chance).max(n)).clamp(1.0, n))
}
