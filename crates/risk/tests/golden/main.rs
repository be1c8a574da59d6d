//! Comparisons with scipy, statsmodels, arch, scikit-learn, skfolio and empyrical, whose answers are in `golden.json` (see
//! `generate.py`) and, about real series too, in `differential.json` (see `differential.py`).
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dependence;
mod differential;
mod market;
mod pairs;
mod performance;
mod printed;
mod real_data;
mod selection;
mod tail;

use risk::{PeriodsPerYear, Returns};
use serde_json::Value;

/// What a closed form may differ by, relative to the larger of the value and 1e-3 (figures that are nearly 0 have no digits
/// to compare).
const CLOSED_FORM: f64 = 1e-9;

/// What was computed by others.
fn golden() -> Value {
    serde_json::from_str(include_str!("golden.json")).expect("golden.json")
}

/// The numbers of an array.
fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(number).collect()
}

/// The rows of an array of arrays.
fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().expect("an array").iter().map(numbers).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Fails unless `ours` is `theirs` up to `tolerance`.
fn same(name: &str, ours: f64, theirs: f64, tolerance: f64) {
    let scale = theirs.abs().max(1e-3);
    assert!((ours - theirs).abs() <= tolerance * scale, "{name}: {ours} here, {theirs} there");
}

/// Compares a value with a field of the golden file.
fn same_as(golden: &Value, field: &str, ours: f64) {
    same(field, ours, number(&golden[field]), CLOSED_FORM);
}

/// A series of returns and what others say of it.
struct Series {
    name: String,
    returns: Returns,
    theirs: Value,
}

/// The two that `golden.json` has, and the real ones of which a copy is there.
fn series() -> Vec<Series> {
    let golden = golden();
    let seeded = ["published", "fat_tailed"].map(|name| {
        let theirs = golden["series"][name].clone();
        let returns = Returns::new(numbers(&theirs["returns"]), PeriodsPerYear::CRYPTO_DAYS).unwrap();
        Series { name: name.to_owned(), returns, theirs }
    });
    seeded.into_iter().chain(differential::real()).collect()
}

/// Compares arrays.
fn same_numbers(name: &str, ours: &[f64], theirs: &Value, tolerance: f64) {
    let theirs = numbers(theirs);
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        same(name, *ours, theirs, tolerance);
    }
}
