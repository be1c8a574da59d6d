//! Ether and bitcoin, where their candles are there: what is compared was computed by statsmodels 0.15 from the same closes.

use std::collections::BTreeMap;

use risk::dependence::{CorrelationMethod, correlation_matrix};
use risk::pairs::{engle_granger_both, johansen};

use super::market::closes;

/// Statistic and p-value of each direction, Johansen's trace with one lag, and the correlation of daily changes.
const ETHER_ON_BITCOIN: (f64, f64) = (-3.015_674_850_762_795_5, 0.106_526_451_523_689_5);
const BITCOIN_ON_ETHER: (f64, f64) = (-2.051_006_498_689_777, 0.501_983_276_904_140_7);
const TRACE: f64 = 10.486_334_280_780_577;
const CORRELATION: f64 = 0.844_100_446_050_973_7;

/// Logarithms of closes by their times.
fn logarithms(symbol: &str) -> Option<BTreeMap<i64, f64>> {
    Some(closes(symbol)?.into_iter().map(|(time, close)| (time, close.ln())).collect())
}

fn close_to(ours: f64, theirs: f64) {
    assert!((ours / theirs - 1.0).abs() < 1e-8, "{ours} here, {theirs} there");
}

#[test]
fn ether_and_bitcoin_are_correlated_and_not_tied() {
    let (Some(ether), Some(bitcoin)) = (logarithms("ETH"), logarithms("BTC")) else { return };
    let both: Vec<(f64, f64)> = ether
        .iter()
        .filter_map(|(time, ether)| bitcoin.get(time).map(|bitcoin| (*ether, *bitcoin)))
        .collect();
    let (ether, bitcoin): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();
    let [first, second] = engle_granger_both(&ether, &bitcoin).unwrap();
    close_to(first.statistic, ETHER_ON_BITCOIN.0);
    close_to(first.p_value, ETHER_ON_BITCOIN.1);
    close_to(second.statistic, BITCOIN_ON_ETHER.0);
    close_to(second.p_value, BITCOIN_ON_ETHER.1);
    assert!(first.p_value > 0.05 && second.p_value > 0.05);
    let ranks = johansen(&[ether.clone(), bitcoin.clone()], 1).unwrap();
    close_to(ranks.ranks[0].trace, TRACE);
    let changes = |levels: &[f64]| levels.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>();
    let matrix =
        correlation_matrix(&[changes(&ether), changes(&bitcoin)], CorrelationMethod::Pearson, 0.95).unwrap();
    close_to(matrix.matrix[0][1], CORRELATION);
}
