//! What to make of a result, in words, and the rules that led there.
//!
//! Each rule states a figure, a limit and what follows. The conclusion is computed from the rules alone, so a reader who does not
//! share a limit can see what changes without it. Limits are conventions: they are constants here, with their reason.

mod checks;

pub use checks::{Finding, HonestyCheck, honesty_checks};

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::RiskError;
use crate::performance::{PerformanceIntervals, SharpeRatio, sharpe_ratio};
use crate::selection::{Overfitting, TrialSummary};
use crate::series::{Returns, Trades};

/// How a rule came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It speaks for an edge.
    Passed,
    /// It speaks against one.
    Failed,
    /// It cannot be told, for want of data.
    Unknown,
}

/// One rule as applied.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Rule {
    /// Its name, stable: `enough_data`, `sharpe_above_zero`, `robust_to_dependence`, `best_of_many`, `not_overfitted`.
    pub name: &'static str,
    /// How it came out.
    pub outcome: Outcome,
    /// The figure, the limit and what follows, in a sentence.
    pub reason: String,
}

/// What is concluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Nothing here can be told from luck.
    NoEvidence,
    /// Too little data to say anything.
    TooLittleData,
    /// Above zero by itself, but not all that could be checked holds, or the number of tries is not known.
    Weak,
    /// All rules passed.
    Supported,
}

/// The verdict on a result.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Verdict {
    /// What is concluded.
    pub conclusion: Conclusion,
    /// The same in words.
    pub summary: String,
    /// The rules in the order of their application.
    pub rules: Vec<Rule>,
    /// What else a careful reader would ask about.
    pub checks: Vec<HonestyCheck>,
}

/// What the verdict takes into account.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The returns of the result.
    pub returns: &'a Returns,
    /// Its trades, if there is a list of them.
    pub trades: Option<&'a Trades>,
    /// The trials it was chosen from; `None` if they are not known, which is said.
    pub trials: Option<&'a TrialSummary>,
    /// The cross-validation of that choice.
    pub overfitting: Option<&'a Overfitting>,
    /// The intervals of its figures, if there are any: whoever shows them has them resampled once.
    pub intervals: Option<&'a PerformanceIntervals>,
}

/// Periods below which nothing is concluded: intervals from fewer do not cover what they say.
const FEWEST_RETURNS: usize = 60;

/// Trades below which nothing is concluded.
const FEWEST_TRADES: usize = 30;

/// The probability that is asked of the probabilistic and the deflated ratio: the usual 5 % error.
const ASKED: f64 = 0.95;

/// The largest acceptable probability of overfitting. Noise has 0.5.
const MOST_OVERFITTED: f64 = 0.2;

/// Applies the rules.
///
/// Fails for returns that do not vary: there is nothing to judge.
pub fn verdict(evidence: &Evidence<'_>) -> Result<Verdict, RiskError> {
    let returns = evidence.returns;
    let sharpe = sharpe_ratio(returns, ASKED)?;
    let enough = enough_data(evidence);
    let intervals = evidence.intervals.filter(|_| enough.outcome == Outcome::Passed);
    let rules = vec![
        enough,
        sharpe_above_zero(&sharpe, returns),
        robust_to_dependence(intervals),
        best_of_many(evidence.trials, returns),
        not_overfitted(evidence.overfitting),
    ];
    let conclusion = conclude(&rules);
    let summary = summarise(conclusion, &sharpe, evidence, &rules);
    Ok(Verdict { conclusion, summary, rules, checks: honesty_checks(returns, evidence.trades) })
}

fn rule(name: &'static str, outcome: Outcome, reason: String) -> Rule {
    Rule { name, outcome, reason }
}

fn passed_if(condition: bool) -> Outcome {
    if condition { Outcome::Passed } else { Outcome::Failed }
}

fn enough_data(evidence: &Evidence<'_>) -> Rule {
    let returns = evidence.returns.values().len();
    let trades = evidence.trades.map(|trades| trades.as_slice().len());
    let enough = returns >= FEWEST_RETURNS && trades.is_none_or(|trades| trades >= FEWEST_TRADES);
    let trades =
        trades.map_or_else(String::new, |trades| format!(" and {trades} trades (needed: {FEWEST_TRADES})"));
    rule("enough_data", passed_if(enough), format!("{returns} returns (needed: {FEWEST_RETURNS}){trades}"))
}

fn sharpe_above_zero(sharpe: &SharpeRatio, returns: &Returns) -> Rule {
    const NAME: &str = "sharpe_above_zero";
    let Some(probability) = sharpe.probabilistic else {
        return rule(
            NAME,
            Outcome::Unknown,
            "the error of the Sharpe ratio is undefined for returns of this shape".to_owned(),
        );
    };
    let per_year = returns.frequency().get();
    let needed = sharpe.minimum_track_record.map_or_else(
        || "no length of such a record would show an edge".to_owned(),
        |periods| {
            format!("a record like this needs {:.1} years and has {:.1}", periods / per_year, returns.years())
        },
    );
    let reason = format!(
        "the probability that the true Sharpe ratio is above 0 is {:.1} % (asked: {:.0} %); {needed}",
        100.0 * probability,
        100.0 * ASKED
    );
    rule(NAME, passed_if(probability >= ASKED), reason)
}

fn robust_to_dependence(intervals: Option<&PerformanceIntervals>) -> Rule {
    const NAME: &str = "robust_to_dependence";
    let Some((intervals, interval)) = intervals.and_then(|all| all.sharpe.map(|sharpe| (all, sharpe))) else {
        return rule(NAME, Outcome::Unknown, "no interval could be computed from so few returns".to_owned());
    };
    let reason = format!(
        "resampled in blocks of {:.1} periods, the annual Sharpe ratio lies between {:.2} and {:.2} ({:.0} % interval)",
        intervals.block_length,
        interval.low,
        interval.high,
        100.0 * interval.confidence
    );
    rule(NAME, passed_if(interval.low > 0.0), reason)
}

fn best_of_many(trials: Option<&TrialSummary>, returns: &Returns) -> Rule {
    const NAME: &str = "best_of_many";
    let Some(trials) = trials else {
        let reason =
            "how many were tried before is not known, so luck in choosing cannot be ruled out".to_owned();
        return rule(NAME, Outcome::Unknown, reason);
    };
    let root = returns.frequency().get().sqrt();
    let compared = format!(
        "best of {} tries, {:.0} effective: {:.2} a year; noise alone would give {:.2}",
        trials.trials,
        trials.effective,
        trials.best_sharpe * root,
        trials.expected_maximum * root
    );
    match trials.deflated {
        None => rule(NAME, Outcome::Unknown, compared),
        Some(deflated) => {
            let reason = format!(
                "{compared}; the deflated Sharpe ratio is {:.1} % (asked: {:.0} %)",
                100.0 * deflated,
                100.0 * ASKED
            );
            rule(NAME, passed_if(deflated >= ASKED), reason)
        }
    }
}

fn not_overfitted(overfitting: Option<&Overfitting>) -> Rule {
    const NAME: &str = "not_overfitted";
    let Some(overfitting) = overfitting else {
        return rule(NAME, Outcome::Unknown, "the choice among the tries was not cross-validated".to_owned());
    };
    let reason = format!(
        "the best of one half of the time is at or below the median of the other in {:.1} % of {} splits (at most {:.0} %)",
        100.0 * overfitting.probability,
        overfitting.splits,
        100.0 * MOST_OVERFITTED
    );
    rule(NAME, passed_if(overfitting.probability <= MOST_OVERFITTED), reason)
}

/// Data first, then the ratio by itself, then all the rest. What is unknown is no support; only a missing cross-validation
/// does not matter where the deflated ratio passed.
fn conclude(rules: &[Rule]) -> Conclusion {
    let outcome = |name: &str| {
        rules.iter().find(|rule| rule.name == name).map_or(Outcome::Unknown, |rule| rule.outcome)
    };
    if outcome("enough_data") != Outcome::Passed {
        return Conclusion::TooLittleData;
    }
    if outcome("sharpe_above_zero") != Outcome::Passed || outcome("best_of_many") == Outcome::Failed {
        return Conclusion::NoEvidence;
    }
    let all = outcome("robust_to_dependence") == Outcome::Passed
        && outcome("best_of_many") == Outcome::Passed
        && outcome("not_overfitted") != Outcome::Failed;
    if all { Conclusion::Supported } else { Conclusion::Weak }
}

fn summarise(
    conclusion: Conclusion,
    sharpe: &SharpeRatio,
    evidence: &Evidence<'_>,
    rules: &[Rule],
) -> String {
    let result =
        format!("An annual Sharpe ratio of {:.2} over {:.1} years", sharpe.annual, evidence.returns.years());
    let failed: Vec<&str> =
        rules.iter().filter(|rule| rule.outcome == Outcome::Failed).map(|rule| rule.name).collect();
    match conclusion {
        Conclusion::TooLittleData => format!("{result}: too little data to tell skill from luck."),
        Conclusion::NoEvidence => {
            format!("{result}: no evidence of an edge; it cannot be told from luck ({}).", failed.join(", "))
        }
        Conclusion::Weak if evidence.trials.is_none() => {
            format!(
                "{result}: more than luck would explain if this was the only thing tried, which is not known."
            )
        }
        Conclusion::Weak => {
            format!("{result}: some evidence of an edge, not all of the rules hold ({}).", failed.join(", "))
        }
        Conclusion::Supported => {
            format!("{result}: evidence of an edge that holds for the number of tries made.")
        }
    }
}
