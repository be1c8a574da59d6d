//! Numbers that were published or printed beside their definitions, each with what is computed here. Where a number is that of a
//! definition which others use and this crate does not, the definition is here in the test, with the assertion that the crate's answer
//! is another.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, StudentT};
use risk::bootstrap::optimal_block_length;
use risk::factors::mean_return;
use risk::performance::{
    deflated_sharpe_ratio, expected_maximum_sharpe, minimum_track_record_length, performance,
    probabilistic_sharpe_ratio, sharpe_ratio,
};
use risk::selection::probability_of_overfitting;
use risk::simulation::{SimulationOptions, simulate};
use risk::tail::{TailMethod, TailOptions, tail_risk};
use risk::{PeriodsPerYear, Returns};

use super::{golden, numbers, same};

/// What it is, what is computed here, what was printed, and by how much they may differ.
type Printed<'a> = (&'a str, f64, f64, f64);

fn holds(table: &[Printed<'_>]) {
    for (what, ours, printed, tolerance) in table {
        assert!((ours - printed).abs() <= *tolerance, "{what}: {ours}, printed {printed}");
    }
}

/// `r_t = 0.012 sin(1.7 t) + 0.009 cos(0.31 t) - 0.03 [t mod 41 = 0] + 0.0015`, t from 1 to 250: everybody can make it.
fn deterministic() -> Vec<f64> {
    let value = |t: u32| {
        let crash = if t.is_multiple_of(41) { 0.03 } else { 0.0 };
        let t = f64::from(t);
        0.012 * (1.7 * t).sin() + 0.009 * (0.31 * t).cos() - crash + 0.0015
    };
    (1..=250).map(value).collect()
}

#[test]
fn figures_of_the_deterministic_series() {
    let values = deterministic();
    let kept = numbers(&golden()["series"]["published"]["returns"]);
    assert!(values.iter().zip(&kept).all(|(ours, theirs)| (ours - theirs).abs() < 1e-15));
    let returns = Returns::new(values.clone(), PeriodsPerYear::CRYPTO_DAYS).unwrap();
    let figures = performance(&returns);
    let sharpe = sharpe_ratio(&returns, 0.95).unwrap();
    let mean = mean_return(&returns, 0.95).unwrap();
    let block = optimal_block_length(&values).unwrap();
    let tail = |method| tail_risk(&returns, method, &TailOptions::default()).unwrap();
    let (historical, gaussian) = (tail(TailMethod::Historical), tail(TailMethod::Gaussian));
    let cornish_fisher = tail(TailMethod::CornishFisher).value_at_risk;
    let deviation = figures.volatility / 365_f64.sqrt();
    holds(&[
        ("mean", figures.mean, 0.000_868_083_0, 1e-10),
        ("standard deviation, divisor n - 1", deviation, 0.010_713_804_0, 1e-10),
        ("skewness", figures.skewness.unwrap(), -0.007_969, 1e-6),
        ("kurtosis, raw", figures.kurtosis.unwrap(), 2.263_719, 1e-6),
        ("value at risk, order statistic", historical.value_at_risk, 0.016_530_554_8, 1e-10),
        ("value at risk, Gaussian", gaussian.value_at_risk, 0.016_754_556_4, 1e-10),
        ("value at risk, Cornish-Fisher", cornish_fisher, 0.016_938_006_8, 1e-10),
        ("its quantile", -(cornish_fisher + figures.mean) / deviation, -1.661_976, 1e-6),
        ("value at risk, EWMA", tail(TailMethod::Ewma).value_at_risk, 0.020_214_416_2, 1e-10),
        ("expected shortfall, Rockafellar-Uryasev", historical.expected_shortfall, 0.018_874_162_8, 1e-10),
        ("expected shortfall, Gaussian", gaussian.expected_shortfall, 0.021_231_417_7, 1e-10),
        ("Sharpe ratio", sharpe.per_period, 0.081_024_72, 1e-8),
        ("its error", sharpe.standard_error.unwrap(), 0.063_458_55, 1e-8),
        ("probabilistic Sharpe ratio", sharpe.probabilistic.unwrap(), 0.899_165_94, 1e-8),
        ("minimum track record", sharpe.minimum_track_record.unwrap(), 414.236_8, 1e-4),
        ("largest drawdown", figures.max_drawdown, 0.062_183_811_1, 1e-10),
        ("Newey-West error of the mean", mean.standard_error, 0.000_791_557_7, 1e-10),
        ("its t", mean.t, 1.096_677, 1e-6),
        ("block length, stationary", block.stationary, 48.0, 1e-12),
        ("block length, circular", block.circular, 48.0, 1e-12),
    ]);
    assert_eq!(block.bandwidth, 21);
}

/// Other definitions of the same names, as libraries have them.
#[test]
fn figures_of_other_definitions_are_not_ours() {
    let values = deterministic();
    let returns = Returns::new(values.clone(), PeriodsPerYear::CRYPTO_DAYS).unwrap();
    let mut sorted = values;
    sorted.sort_by(f64::total_cmp);
    let mean_loss =
        |losses: &[f64]| -losses.iter().sum::<f64>() / f64::from(u32::try_from(losses.len()).unwrap());
    let of = |method| tail_risk(&returns, method, &TailOptions::default()).unwrap();
    let gaussian = of(TailMethod::Gaussian).value_at_risk;
    // numpy's percentile of 5 %, between the 13th and the 14th.
    let interpolated = -(sorted[12] + (0.05 * 249.0 - 12.0) * (sorted[13] - sorted[12]));
    let others = [
        ("value at risk, empyrical", interpolated, 0.016_503_438_3, 1e-10),
        ("expected shortfall, empyrical", mean_loss(&sorted[..=12]), 0.018_784_024_0, 1e-10),
        ("expected shortfall, Jesse", mean_loss(&sorted[..12]), 0.018_971_813_1, 1e-10),
        (
            "expected shortfall, quantstats",
            mean_loss(&sorted[..sorted.partition_point(|value| *value < -gaussian)]),
            0.019_193_005_0,
            1e-10,
        ),
    ];
    holds(&others);
    let ours = of(TailMethod::Historical);
    for (what, theirs, ..) in others {
        assert!(
            (ours.value_at_risk - theirs).abs() > 1e-6 && (ours.expected_shortfall - theirs).abs() > 1e-6,
            "{what}"
        );
    }
}

/// Bailey and Lopez de Prado (2014): an annual ratio of 2.5 over 1,250 days of which 250 make a year, skewness -3, kurtosis 10, the
/// variance of the trials 1/2 a year.
#[test]
fn the_published_deflated_sharpe_ratio() {
    let (sharpe, variance) = (2.5 / 250_f64.sqrt(), 0.5 / 250.0);
    let deflated =
        |trials| deflated_sharpe_ratio(sharpe, 1_250, -3.0, 10.0, variance, trials).unwrap().unwrap();
    holds(&[
        ("best of 100 by luck", expected_maximum_sharpe(variance, 100.0).unwrap(), 0.113_2, 5e-5),
        ("46 trials", deflated(46.0), 0.950_5, 5e-5),
        ("88 trials", deflated(88.0), 0.910_2, 5e-5),
        ("100 trials", deflated(100.0), 0.900_4, 5e-5),
        ("1,000 trials", deflated(1_000.0), 0.639_9, 5e-5),
        ("10,000 trials", deflated(10_000.0), 0.338_9, 5e-5),
    ]);
    for row in golden()["deflated"].as_array().unwrap() {
        let theirs = numbers(row);
        same(
            "benchmark",
            expected_maximum_sharpe(variance, theirs[0]).unwrap(),
            theirs[1],
            super::CLOSED_FORM,
        );
        same("deflated", deflated(theirs[0]), theirs[2], super::CLOSED_FORM);
    }
}

/// The standard error of the ratio of 250 returns by the formula, and what others print who take the excess kurtosis for the raw one.
#[test]
fn the_error_of_a_sharpe_ratio_takes_the_raw_kurtosis() {
    // The minimum track record is 1 + radicand (z / SR)^2.
    let error = |sharpe: f64, kurtosis| {
        let z = 1.644_853_626_951_472_2;
        let length = minimum_track_record_length(sharpe, 0.0, 0.0, kurtosis, 0.95).unwrap().unwrap();
        ((length - 1.0) * (sharpe / z).powi(2) / 249.0).sqrt()
    };
    let of_others =
        |sharpe: f64, excess: f64| ((1.0 + (excess - 1.0) / 4.0 * sharpe * sharpe) / 249.0).sqrt();
    // Student's t with 8 degrees of freedom: excess kurtosis 6 / (8 - 4).
    holds(&[
        ("normal, 1", error(1.0, 3.0), 0.077_6, 5e-5),
        ("normal, 0.5", error(0.5, 3.0), 0.067_2, 5e-5),
        ("normal, 0.1", error(0.1, 3.0), 0.063_5, 5e-5),
        ("t8, 1", error(1.0, 4.5), 0.086_8, 5e-5),
        ("others: normal, 1", of_others(1.0, 0.0), 0.054_9, 5e-5),
        ("others: normal, 0.5", of_others(0.5, 0.0), 0.061_4, 5e-5),
        ("others: normal, 0.1", of_others(0.1, 0.0), 0.063_3, 5e-5),
        ("others: t8, 1", of_others(1.0, 1.5), 0.067_2, 5e-5),
    ]);
    assert!(probabilistic_sharpe_ratio(1.0, 0.0, 250, 0.0, 0.0).is_err(), "an excess kurtosis is refused");
}

/// The same error by 20,000 simulations; their own error is 0.5 %.
#[test]
fn the_error_of_a_sharpe_ratio_is_that_of_simulations() {
    let mut rng = ChaCha8Rng::seed_from_u64(52);
    let students = StudentT::new(8.0).unwrap();
    let deviation = (8.0_f64 / 6.0).sqrt();
    let mut spread = |mean: f64, fat: bool| {
        let ratios: Vec<f64> = (0..20_000)
            .map(|_| {
                let (mut sum, mut squares) = (0.0, 0.0);
                for _ in 0..250 {
                    let z: f64 = if fat {
                        students.sample(&mut rng) / deviation
                    } else {
                        StandardNormal.sample(&mut rng)
                    };
                    sum += z + mean;
                    squares += (z + mean).powi(2);
                }
                let mean = sum / 250.0;
                mean / ((squares - 250.0 * mean * mean) / 249.0).sqrt()
            })
            .collect();
        let mean = ratios.iter().sum::<f64>() / 20_000.0;
        (ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum::<f64>() / 19_999.0).sqrt()
    };
    holds(&[
        ("normal, 1", spread(1.0, false), 0.077_7, 0.077_7 * 0.025),
        ("normal, 0.5", spread(0.5, false), 0.067_5, 0.067_5 * 0.025),
        ("normal, 0.1", spread(0.1, false), 0.063_8, 0.063_8 * 0.025),
        ("t8, 1", spread(1.0, true), 0.087_4, 0.087_4 * 0.025),
    ]);
}

/// The best annual ratio of noise over three years of days; printed from simulations, those of correlated trials from few.
#[test]
fn the_best_of_noise() {
    let best = |trials, correlation: f64| {
        let variance = (1.0 - correlation) / (3.0 * 365.0);
        expected_maximum_sharpe(variance, trials).unwrap() * 365_f64.sqrt()
    };
    holds(&[
        ("10 trials", best(10.0, 0.0), 0.85, 0.06),
        ("100 trials", best(100.0, 0.0), 1.44, 0.03),
        ("1,000 trials", best(1_000.0, 0.0), 1.87, 0.03),
        ("5,000 trials", best(5_000.0, 0.0), 2.13, 0.03),
        ("10 trials, correlated 0.9", best(10.0, 0.9), 0.25, 0.12),
        ("100 trials, correlated 0.9", best(100.0, 0.9), 0.54, 0.12),
        ("1,000 trials, correlated 0.9", best(1_000.0, 0.9), 0.55, 0.12),
        ("5,000 trials, correlated 0.9", best(5_000.0, 0.9), 0.76, 0.12),
    ]);
}

/// A shuffle leaves the product as it is up to rounding, so that a p-value of the total return says nothing; draws with replacement
/// do not.
#[test]
fn a_shuffle_leaves_the_terminal_wealth() {
    let mut values = deterministic();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let wealth: Vec<f64> = (0..1_000)
        .map(|_| {
            values.shuffle(&mut rng);
            values.iter().fold(1.0, |wealth, value| wealth * (1.0 + value))
        })
        .collect();
    let spread = |low: f64, high: f64| high - low;
    let shuffled =
        spread(wealth.iter().copied().fold(f64::MAX, f64::min), wealth.iter().copied().fold(0.0, f64::max));
    assert!(shuffled < 1e-13, "{shuffled}");
    let drawn = simulate(&values, &SimulationOptions::default()).unwrap().terminal_wealth.quantiles;
    assert!(spread(drawn[0].value, drawn[drawn.len() - 1].value) > 0.1, "{drawn:?}");
}

/// The formula of a gambler's ruin from the share of winners alone, beside paths of such bets: 55 % winners of 10 %.
#[test]
fn ruin_is_no_matter_of_the_share_of_winners_alone() {
    let of_others = (0.45_f64 / 1.55).powi(500);
    assert!((of_others / 2.8e-269 - 1.0).abs() < 0.05, "{of_others}");
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let bets: Vec<f64> = (0..500).map(|_| if rng.random_bool(0.55) { 0.1 } else { -0.1 }).collect();
    let ruin =
        simulate(&bets, &SimulationOptions { block_length: Some(1.0), ..SimulationOptions::default() })
            .unwrap()
            .ruin;
    assert!(ruin.value > 0.01, "{ruin:?}");
}

#[test]
fn sixteen_blocks_make_so_many_splits() {
    let trials: Vec<Vec<f64>> =
        [1.0, 2.0].map(|by| deterministic().iter().map(|r| r.powi(2) * by - r).collect()).into();
    assert_eq!(probability_of_overfitting(&trials, 16).unwrap().splits, 12_870);
}
