//! Figures beside those of skfolio and empyrical, of seeded and of real series.

use risk::dependence::{CorrelationMethod, correlation_matrix, ledoit_wolf};
use risk::factors::factor_model;
use risk::performance::{omega, performance};
use risk::tail::{TailMethod, TailOptions, tail_risk};
use risk::{PeriodsPerYear, Returns};
use serde_json::Value;

use super::market::{changes, closes, prices};
use super::{CLOSED_FORM, Series, number, same, same_as, same_numbers, series};

fn answers() -> Value {
    serde_json::from_str(include_str!("differential.json")).expect("differential.json")
}

/// One column of a table of prices.
fn column(table: &str, name: &str) -> Option<Vec<f64>> {
    prices(table)?.into_iter().find_map(|(column, levels)| (column == name).then_some(levels))
}

/// The real series of which there is a copy, with what scipy, statsmodels, arch and the others say of them.
pub(super) fn real() -> Vec<Series> {
    let answers = answers();
    let found = answers["real"].as_object().unwrap().iter().filter_map(|(name, theirs)| {
        let levels = match name.as_str() {
            "BTC" | "XRP" => closes(name)?.into_values().collect(),
            "AAPL" => column("sp500_20stocks_1990-2022", name)?,
            "MTUM" => column("factor_etfs_2014-2022", name)?,
            _ => panic!("{name}: where is it from?"),
        };
        let frequency = PeriodsPerYear::new(number(&theirs["per_year"])).unwrap();
        let returns = Returns::new(changes(levels), frequency).unwrap();
        assert_eq!(returns.values().len() as u64, theirs["length"].as_u64().unwrap(), "{name}: other data");
        Some(Series { name: name.clone(), returns, theirs: theirs.clone() })
    });
    found.collect()
}

/// All series, with what two libraries say of each.
fn compared() -> Vec<(Returns, Value, Value)> {
    let answers = answers();
    let of = |one: Series| {
        let seeded = &answers["seeded"][&one.name];
        let theirs = if seeded.is_null() { &one.theirs } else { seeded };
        (one.returns, theirs["skfolio"].clone(), theirs["empyrical"].clone())
    };
    series().into_iter().map(of).collect()
}

#[test]
fn measures_of_risk_are_those_of_skfolio() {
    for (returns, theirs, _) in compared() {
        let ours = performance(&returns);
        same_as(&theirs, "mean", ours.mean);
        same_as(&theirs, "deviation", ours.volatility / returns.frequency().get().sqrt());
        same_as(&theirs, "worst", -ours.worst);
        same_as(&theirs, "max_drawdown", ours.max_drawdown);
        for (confidence, quantile, shortfall) in
            [(0.95, "value_at_risk_95", "cvar_95"), (0.99, "value_at_risk_99", "cvar_99")]
        {
            let options = TailOptions { confidence, ..TailOptions::default() };
            let ours = tail_risk(&returns, TailMethod::Historical, &options).unwrap();
            same_as(&theirs, quantile, ours.value_at_risk);
            same_as(&theirs, shortfall, ours.expected_shortfall);
        }
    }
}

#[test]
fn ratios_are_those_of_empyrical() {
    for (returns, _, theirs) in compared() {
        let ours = performance(&returns);
        same_as(&theirs, "total_return", ours.total_return);
        same_as(&theirs, "annual_return", ours.cagr.unwrap());
        same_as(&theirs, "annual_volatility", ours.volatility);
        same_as(&theirs, "sharpe_ratio", ours.sharpe.unwrap());
        same_as(&theirs, "sortino_ratio", ours.sortino.unwrap());
        same_as(&theirs, "calmar_ratio", ours.calmar.unwrap());
        same_as(&theirs, "omega_ratio", omega(returns.values(), 0.0).unwrap());
        // Negative there.
        same_as(&theirs, "max_drawdown", -ours.max_drawdown);
    }
}

#[test]
fn twenty_stocks_are_as_the_libraries_see_them() {
    let Some(table) = prices("sp500_20stocks_1990-2022") else { return };
    let stocks: Vec<Vec<f64>> = table.into_iter().map(|(_, levels)| changes(levels)).collect();
    let theirs = &answers()["stocks"];
    for (method, key) in [(CorrelationMethod::Pearson, "pearson"), (CorrelationMethod::Spearman, "spearman")]
    {
        let ours = correlation_matrix(&stocks, method, 0.95).unwrap();
        same_numbers(key, &ours.matrix[0], &theirs[key], CLOSED_FORM);
    }
    let shrunk = ledoit_wolf(&stocks).unwrap();
    same_as(theirs, "shrinkage", shrunk.shrinkage);
    same_numbers("covariance", &shrunk.covariance[0], &theirs["shrunk_first_row"], CLOSED_FORM);
    let mean = |day: usize| stocks[1..].iter().map(|stock| stock[day]).sum::<f64>() / 19.0;
    let market: Vec<f64> = (0..stocks[0].len()).map(mean).collect();
    let first = Returns::new(stocks[0].clone(), PeriodsPerYear::new(252.0).unwrap()).unwrap();
    let model = factor_model(&first, &[market], 0.95).unwrap();
    same_as(theirs, "alpha", model.alpha.value);
    same_as(theirs, "beta", model.betas[0].value);
    let both = [model.alpha, model.betas[0]];
    let errors = both.map(|coefficient| coefficient.standard_error);
    same_numbers("errors", &errors, &theirs["factors"]["errors"], CLOSED_FORM);
    same("r squared", model.r_squared, number(&theirs["factors"]["r_squared"]), CLOSED_FORM);
}
