//! Value at risk, expected shortfall and the tests of forecasts.

use risk::RiskError;
use risk::tail::{TailMethod, TailOptions, backtest_forecasts, tail_risk};

use super::{CLOSED_FORM, Series, numbers, same, series};

#[test]
fn methods_of_one_definition_are_those_of_skfolio_and_scipy() {
    for Series { name, returns, theirs: all } in series() {
        for (field, confidence) in [("tail_95", 0.95), ("tail_99", 0.99)] {
            let theirs = &all[field];
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
                    Err(RiskError::NotMonotone { .. }) if name != "published" => continue,
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

#[test]
fn tests_of_forecasts_are_those_of_their_likelihoods() {
    for Series { returns, theirs, .. } in series() {
        let forecasts = vec![0.012; returns.values().len()];
        let ours = backtest_forecasts(returns.values(), &forecasts, 0.95).unwrap();
        let theirs = &theirs["var_backtest"];
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
