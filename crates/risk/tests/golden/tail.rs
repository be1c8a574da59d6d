//! Value at risk, expected shortfall and the tests of forecasts.

use risk::tail::{TailMethod, TailOptions, backtest_forecasts, tail_risk};
use risk::{PeriodsPerYear, Returns, RiskError};
use serde_json::Value;

use super::{CLOSED_FORM, SERIES, golden, numbers, same};

fn returns(golden: &Value, name: &str) -> Returns {
    Returns::new(numbers(&golden["series"][name]["returns"]), PeriodsPerYear::CRYPTO_DAYS).unwrap()
}

#[test]
fn methods_of_one_definition_are_those_of_skfolio_and_scipy() {
    let golden = golden();
    for name in SERIES {
        let returns = returns(&golden, name);
        for (field, confidence) in [("tail_95", 0.95), ("tail_99", 0.99)] {
            let theirs = &golden["series"][name][field];
            for (key, method, horizon) in [
                ("historical", TailMethod::Historical, 1),
                ("gaussian", TailMethod::Gaussian, 1),
                ("cornish_fisher", TailMethod::CornishFisher, 1),
                ("ewma", TailMethod::Ewma, 1),
                ("filtered", TailMethod::FilteredHistorical, 1),
                ("historical_10", TailMethod::Historical, 10),
                ("gaussian_10", TailMethod::Gaussian, 10),
            ] {
                let options = TailOptions { confidence, horizon, ..TailOptions::default() };
                let ours = match tail_risk(&returns, method, &options) {
                    // Fat tails are what the expansion is refused for; see the test of its region.
                    Err(RiskError::NotMonotone { .. }) if name == "fat_tailed" => continue,
                    ours => ours.unwrap(),
                };
                let theirs = numbers(&theirs[key]);
                same(
                    &format!("{name} {key} {confidence} value at risk"),
                    ours.value_at_risk,
                    theirs[0],
                    CLOSED_FORM,
                );
                same(
                    &format!("{name} {key} {confidence} shortfall"),
                    ours.expected_shortfall,
                    theirs[1],
                    CLOSED_FORM,
                );
            }
        }
    }
}

/// Printed to ten digits beside the definition of the series.
#[test]
fn the_published_series_has_the_published_tail() {
    let returns = returns(&golden(), "published");
    let of = |method| tail_risk(&returns, method, &TailOptions::default()).unwrap();
    for (ours, printed) in [
        (of(TailMethod::Historical).value_at_risk, 0.016_530_554_8),
        (of(TailMethod::Gaussian).value_at_risk, 0.016_754_556_4),
        (of(TailMethod::CornishFisher).value_at_risk, 0.016_938_006_8),
        (of(TailMethod::Ewma).value_at_risk, 0.020_214_416_2),
        (of(TailMethod::Historical).expected_shortfall, 0.018_874_162_8),
        (of(TailMethod::Gaussian).expected_shortfall, 0.021_231_417_7),
    ] {
        assert!((ours - printed).abs() <= 1e-10, "{ours}, printed {printed}");
    }
}

#[test]
fn tests_of_forecasts_are_those_of_their_likelihoods() {
    let golden = golden();
    for name in SERIES {
        let returns = returns(&golden, name);
        let forecasts = vec![0.012; returns.values().len()];
        let ours = backtest_forecasts(returns.values(), &forecasts, 0.95).unwrap();
        let theirs = &golden["series"][name]["var_backtest"];
        assert_eq!(ours.exceedances as u64, theirs["exceedances"].as_u64().unwrap());
        let christoffersen = ours.christoffersen.unwrap();
        for (key, statistic, p_value) in [
            ("kupiec", ours.kupiec.statistic, ours.kupiec.p_value),
            ("independence", christoffersen.independence_statistic, christoffersen.independence_p_value),
            ("conditional", christoffersen.conditional_statistic, christoffersen.conditional_p_value),
        ] {
            let theirs = numbers(&theirs[key]);
            same(key, statistic, theirs[0], CLOSED_FORM);
            same(key, p_value, theirs[1], CLOSED_FORM);
        }
    }
}
