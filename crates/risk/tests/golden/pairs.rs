//! Cointegration.

use risk::pairs::{engle_granger, engle_granger_both, half_life, johansen};
use serde_json::Value;

use super::{CLOSED_FORM, golden, number, numbers, rows, same, same_as, same_numbers};

fn check_pair(y: &[f64], x: &[f64], theirs: &Value) {
    let ours = engle_granger(y, x).unwrap();
    assert_eq!(ours.lags as u64, theirs["lags"].as_u64().unwrap());
    same_as(theirs, "statistic", ours.statistic);
    same_as(theirs, "p_value", ours.p_value);
    same_as(theirs, "hedge_ratio", ours.hedge_ratio);
    same_as(theirs, "intercept", ours.intercept);
    same_numbers("critical", &ours.critical_values, &theirs["critical"], CLOSED_FORM);
    // The pull is a small difference of large sums.
    same(
        "half-life",
        half_life(&ours.spread, 0.95).unwrap().periods.unwrap(),
        number(&theirs["half_life"]),
        1e-8,
    );
}

#[test]
fn the_test_of_engle_and_granger_is_that_of_statsmodels() {
    let golden = golden();
    let pairs = &golden["pairs"];
    let (walk, tied) = (rows(&pairs["walk"]), rows(&pairs["tied"]));
    check_pair(&walk[0], &walk[1], &pairs["walk_xy"]);
    check_pair(&tied[0], &tied[1], &pairs["tied_xy"]);
    check_pair(&tied[1], &tied[0], &pairs["tied_yx"]);
    let apart = engle_granger(&walk[0], &walk[1]).unwrap();
    assert!(apart.p_value > 0.05, "{}", apart.p_value);
}

#[test]
fn the_test_of_johansen_is_that_of_statsmodels() {
    let golden = golden();
    let pairs = &golden["pairs"];
    check_johansen(&rows(&pairs["walk"]), 1, &pairs["johansen_walk"], 0);
    check_johansen(&rows(&pairs["tied"]), 2, &pairs["johansen_tied"], 1);
}

fn check_johansen(series: &[Vec<f64>], lags: usize, theirs: &Value, cointegrated: usize) {
    let ours = johansen(series, lags).unwrap();
    let column = |of: fn(&risk::pairs::JohansenRank) -> f64| ours.ranks.iter().map(of).collect::<Vec<_>>();
    same_numbers("eigenvalues", &column(|rank| rank.eigenvalue), &theirs["eigenvalues"], 1e-8);
    same_numbers("trace", &column(|rank| rank.trace), &theirs["trace"], 1e-8);
    same_numbers("maximum", &column(|rank| rank.max_eigen), &theirs["max_eigen"], 1e-8);
    for (rank, (trace, max_eigen)) in
        ours.ranks.iter().zip(rows(&theirs["trace_critical"]).iter().zip(rows(&theirs["max_eigen_critical"])))
    {
        assert_eq!(rank.trace_critical.to_vec(), *trace);
        assert_eq!(rank.max_eigen_critical.to_vec(), max_eigen);
    }
    same_numbers("weights", &ours.weights.unwrap(), &theirs["weights"], 1e-6);
    assert_eq!(ours.cointegrated, cointegrated);
}

/// Spot prices of crude oil, 1987 to 2026, every fifth day.
#[test]
fn brent_and_wti_are_tied() {
    let oil: Value = serde_json::from_str(include_str!("oil.json")).unwrap();
    let logarithms = |key: &str| numbers(&oil[key]).iter().map(|price| price.ln()).collect::<Vec<_>>();
    let (brent, wti) = (logarithms("brent"), logarithms("wti"));
    let golden = golden();
    check_pair(&brent, &wti, &golden["oil"]["brent_on_wti"]);
    check_pair(&wti, &brent, &golden["oil"]["wti_on_brent"]);
    for direction in engle_granger_both(&brent, &wti).unwrap() {
        assert!(direction.p_value < 1e-3, "{}", direction.p_value);
    }
    check_johansen(&[brent, wti], 1, &golden["oil"]["johansen"], 1);
}
