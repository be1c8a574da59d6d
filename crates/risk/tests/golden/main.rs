//! Comparisons with scipy, statsmodels, arch, scikit-learn and skfolio, whose answers are in `golden.json` (see `generate.py`).
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dependence;
mod pairs;
mod performance;
mod selection;
mod tail;

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

/// The names of the two series of returns.
const SERIES: [&str; 2] = ["published", "fat_tailed"];

/// Compares arrays.
fn same_numbers(name: &str, ours: &[f64], theirs: &Value, tolerance: f64) {
    let theirs = numbers(theirs);
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        same(name, *ours, theirs, tolerance);
    }
}
