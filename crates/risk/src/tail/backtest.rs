//! Whether forecasts of value at risk held: as often exceeded as they said, and not in clusters.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;
use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::value_at_risk::{TailMethod, TailOptions, tail_risk};
use crate::error::{RiskError, all_finite, at_least, open_unit};
use crate::number::count;
use crate::series::Returns;

/// Kupiec's proportion-of-failures test (1995).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct KupiecTest {
    /// Likelihood ratio.
    pub statistic: f64,
    /// From the chi-squared distribution with 1 degree of freedom.
    pub p_value: f64,
}

/// Christoffersen's tests (1998).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct ChristoffersenTest {
    /// Likelihood ratio of independence: whether an exceedance makes another more likely in the next period.
    pub independence_statistic: f64,
    /// Its p-value, 1 degree of freedom: an approximation that rejects about 8 % of true forecasts at 5 %, with 1,000 of them at 95 %
    /// confidence, since exceedances are few.
    pub independence_p_value: f64,
    /// The same without an approximation: from all orders of as many exceedances, which are equally likely where they come
    /// independently; those with an equal statistic count half (mid-p, Lancaster 1961). The one to read.
    pub independence_exact_p_value: f64,
    /// Likelihood ratio of conditional coverage: independence and Kupiec's together, the first forecast left out of both
    /// parts since nothing is before it.
    pub conditional_statistic: f64,
    /// Its p-value, 2 degrees of freedom.
    pub conditional_p_value: f64,
}

/// Forecasts against what came.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct VarBacktest {
    /// How many forecasts.
    pub forecasts: usize,
    /// How many losses were larger than forecast.
    pub exceedances: usize,
    /// How many were to be expected.
    pub expected: f64,
    /// Whether there were as many as expected.
    pub kupiec: KupiecTest,
    /// Whether they came independently; `null` if there was none, where no test can tell.
    pub christoffersen: Option<ChristoffersenTest>,
}

/// Tests forecasts of value at risk (positive losses, one for each return) of one confidence.
///
/// Needs 50 forecasts.
pub fn backtest_forecasts(
    values: &[f64],
    forecasts: &[f64],
    confidence: f64,
) -> Result<VarBacktest, RiskError> {
    open_unit("confidence", confidence)?;
    at_least("forecasts of value at risk", forecasts.len(), 50)?;
    if values.len() != forecasts.len() {
        let what = "forecasts of value at risk".to_owned();
        return Err(RiskError::LengthMismatch { what, found: forecasts.len(), expected: values.len() });
    }
    all_finite("returns", values)?;
    all_finite("forecasts", forecasts)?;
    let hits: Vec<bool> = values.iter().zip(forecasts).map(|(value, forecast)| -value > *forecast).collect();
    let exceedances = hits.iter().filter(|hit| **hit).count();
    let tail = 1.0 - confidence;
    Ok(VarBacktest {
        forecasts: hits.len(),
        exceedances,
        expected: tail * count(hits.len()),
        kupiec: kupiec(&hits, tail),
        christoffersen: (exceedances > 0).then(|| christoffersen(&hits, tail)),
    })
}

/// `-2 ln` of the likelihood of `hits` exceedances in `n` with probability `tail` over that with the observed one.
fn kupiec(hits: &[bool], tail: f64) -> KupiecTest {
    let exceedances = hits.iter().filter(|hit| **hit).count();
    let others = hits.len() - exceedances;
    let observed = count(exceedances) / count(hits.len());
    let statistic = (2.0
        * (log_likelihood(others, exceedances, observed) - log_likelihood(others, exceedances, tail)))
    .max(0.0);
    KupiecTest { statistic, p_value: chi_squared_tail(statistic, 1.0) }
}

fn christoffersen(hits: &[bool], tail: f64) -> ChristoffersenTest {
    let mut transitions = [[0_usize; 2]; 2];
    for pair in hits.windows(2) {
        transitions[usize::from(pair[0])][usize::from(pair[1])] += 1;
    }
    let independence = independence(transitions);
    let conditional = kupiec(&hits[1..], tail).statistic + independence;
    ChristoffersenTest {
        independence_statistic: independence,
        independence_p_value: chi_squared_tail(independence, 1.0),
        independence_exact_p_value: exact(hits, independence),
        conditional_statistic: conditional,
        conditional_p_value: chi_squared_tail(conditional, 2.0),
    }
}

/// Likelihood ratio of numbers of transitions, `[from][to]`.
fn independence([[none_none, none_hit], [hit_none, hit_hit]]: [[usize; 2]; 2]) -> f64 {
    let share = |hits: usize, others: usize| {
        if hits + others == 0 { 0.0 } else { count(hits) / count(hits + others) }
    };
    let any = share(none_hit + hit_hit, none_none + hit_none);
    let together = log_likelihood(none_none + hit_none, none_hit + hit_hit, any);
    let apart = log_likelihood(none_none, none_hit, share(none_hit, none_none))
        + log_likelihood(hit_none, hit_hit, share(hit_hit, hit_none));
    (2.0 * (apart - together)).max(0.0)
}

/// The probability of a statistic above this one, and half of that of an equal one, among all orders of these hits that begin and end as
/// they do. An order with `runs` runs of hits has them between others, so both are cut in one of so many ways:
/// `C(hits - 1, runs - 1) C(others - 1, runs of others - 1)`.
fn exact(hits: &[bool], statistic: f64) -> f64 {
    let exceedances = hits.iter().filter(|hit| **hit).count();
    let others = hits.len() - exceedances;
    let ends = |at: Option<&bool>| usize::from(at.copied().unwrap_or(false));
    let (first, last) = (ends(hits.first()), ends(hits.last()));
    if exceedances == 0 || others == 0 {
        return 1.0;
    }
    let of_runs = (1..=exceedances).filter_map(|runs| {
        let of_others = (runs + 1).checked_sub(first + last)?;
        if of_others == 0 || of_others > others {
            return None;
        }
        let transitions = [[others - of_others, runs - first], [runs - last, exceedances - runs]];
        let ways = ln_binomial(exceedances - 1, runs - 1) + ln_binomial(others - 1, of_others - 1);
        Some((independence(transitions), ways))
    });
    let of_runs: Vec<(f64, f64)> = of_runs.collect();
    let most = of_runs.iter().fold(f64::NEG_INFINITY, |most, (_, ways)| most.max(*ways));
    let (mut all, mut beyond) = (0.0, 0.0);
    for (of_these, ways) in of_runs {
        let weight = (ways - most).exp();
        all += weight;
        // Equal ones differ by rounding.
        let equal = (of_these - statistic).abs() <= 1e-9 * (1.0 + statistic);
        beyond += if equal {
            weight / 2.0
        } else if of_these > statistic {
            weight
        } else {
            0.0
        };
    }
    beyond / all
}

fn ln_binomial(n: usize, k: usize) -> f64 {
    statrs::function::factorial::ln_binomial(n as u64, k as u64)
}

/// Binomial log-likelihood without its constant; what did not happen adds nothing, also with probability 0.
fn log_likelihood(others: usize, hits: usize, probability: f64) -> f64 {
    let part = |n: usize, p: f64| if n == 0 { 0.0 } else { count(n) * p.ln() };
    part(others, 1.0 - probability) + part(hits, probability)
}

/// `P(X > statistic)` of the chi-squared distribution.
fn chi_squared_tail(statistic: f64, freedom: f64) -> f64 {
    ChiSquared::new(freedom).map_or(f64::NAN, |distribution| distribution.sf(statistic))
}

/// Forecasts for each return after the first `window`, each from the `window` returns before it and nothing later; the returns
/// that they are for begin at index `window`.
pub fn rolling_forecasts(
    returns: &Returns,
    method: TailMethod,
    window: usize,
    options: &TailOptions,
) -> Result<Vec<f64>, RiskError> {
    if options.horizon != 1 {
        return Err(RiskError::Unsupported("forecasts are tested one period ahead: the horizon must be 1"));
    }
    at_least("window", window, 20)?;
    at_least("returns for forecasts", returns.values().len(), window + 50)?;
    (window..returns.values().len())
        .into_par_iter()
        .map(|next| {
            let past = Returns::new(returns.values()[next - window..next].to_vec(), returns.frequency())?;
            tail_risk(&past, method, options).map(|risk| risk.value_at_risk)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All 2^12 orders are counted one by one.
    #[test]
    fn the_exact_p_value_is_that_of_all_orders() {
        let hits = |mask: u32| (0..12).map(|at| mask >> at & 1 == 1).collect::<Vec<bool>>();
        let statistic = |hits: &[bool]| christoffersen(hits, 0.05).independence_statistic;
        for mask in [
            0b0011_0000_0100,
            0b1000_0000_0001,
            0b0101_0101_0101,
            0b0000_0011_1111,
            0b0000_0000_0001,
            0b0111_1111_1111,
        ] {
            let observed = hits(mask);
            let alike = (0..1_u32 << 12).filter(|other| {
                other.count_ones() == mask.count_ones()
                    && (other ^ mask) & 1 == 0
                    && (other ^ mask) >> 11 == 0
            });
            let (mut all, mut beyond) = (0.0, 0.0);
            for other in alike {
                let distance = statistic(&hits(other)) - statistic(&observed);
                all += 1.0;
                beyond += if distance.abs() < 1e-9 { 0.5 } else { f64::from(u8::from(distance > 0.0)) };
            }
            let exact = christoffersen(&observed, 0.05).independence_exact_p_value;
            assert!((exact - beyond / all).abs() < 1e-12, "{mask:b}: {exact} {}", beyond / all);
        }
    }
}
