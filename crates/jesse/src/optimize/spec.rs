//! What a client asks an optimisation to be, checked against what exists.

use std::collections::BTreeMap;

use jiff::{ToSpan as _, civil::Date};
use jobs::JobError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    objective::Objective,
    search::Method,
    space::{Dimension, Narrowed, space},
};
use crate::{
    catalogue::Catalogue,
    parent::{invalid, read, split},
    spec::{BacktestRequest, BacktestSpec},
};

/// The most trials of one search.
pub const TRIALS_MOST: u32 = 5_000;
const ROUND_MOST: u32 = 200;
const BEST_MOST: u32 = 20;
const DEFAULT_TRIALS: u32 = 200;
const DEFAULT_ROUND: u32 = 20;
const DEFAULT_BEST: u32 = 5;
const DEFAULT_TEST_SHARE: f64 = 0.3;
const DEFAULT_OPTIMAL_TRADES: u32 = 200;

/// How to search, beside the backtest that is varied.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// Default 200
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub trials: Option<u32>,
    /// Tried before it learns from them; default 20
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub round: Option<u32>,
    /// tpe (default) or random
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub method: Option<Method>,
    /// sharpe (default), sortino, calmar, omega
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub objective: Option<Objective>,
    /// Fewer lower the score; default 200
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub optimal_trades: Option<u32>,
    /// Default 0
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub seed: Option<u32>,
    /// Name to a list of values or {min, max, step}, within the strategy's own
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "Map<String, Value>")]
    pub space: BTreeMap<String, Narrowed>,
    /// Last part, kept from the search; default 0.3
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub test_share: Option<f64>,
    /// Or its first day
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub test_start_date: Option<String>,
    /// First part of the training on which the worse half is dropped
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub prune_share: Option<f64>,
    /// How many are judged; default 5
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub best: Option<u32>,
}

/// The names of [`SearchRequest`]'s fields: what else a client writes is the backtest's.
const SEARCH_FIELDS: [&str; 11] = [
    "trials",
    "round",
    "method",
    "objective",
    "optimal_trades",
    "seed",
    "space",
    "test_share",
    "test_start_date",
    "prune_share",
    "best",
];

/// An optimisation as a client writes it: a backtest's fields, whose period is split into training and test, and those of
/// [`SearchRequest`], in one object.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizeRequest {
    /// What is varied.
    pub backtest: BacktestRequest,
    /// How.
    pub search: SearchRequest,
}

impl OptimizeRequest {
    /// Reads one object.
    pub fn parse(fields: Map<String, Value>) -> Result<Self, JobError> {
        let (search, backtest) = split(fields, &SEARCH_FIELDS);
        Ok(Self { backtest: read(backtest)?, search: read(search)? })
    }
}

/// An optimisation that can be run, in its one spelling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OptimizeSpec {
    /// What is searched on.
    pub train: BacktestSpec,
    /// What the best are judged on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub test: Option<BacktestSpec>,
    /// What decides who is tried on all of the training period, if not all are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trial_run: Option<BacktestSpec>,
    /// What may be tried.
    pub space: Vec<Dimension>,
    /// How it is searched.
    pub method: Method,
    /// What is to be large.
    pub objective: Objective,
    /// The number of trades from which on more do not count.
    pub optimal_trades: u32,
    /// How many are tried.
    pub trials: u32,
    /// How many at once.
    pub round: u32,
    /// What the choices depend on, beside the results.
    pub seed: u32,
    /// How many of the best are judged.
    pub best: u32,
}

impl OptimizeSpec {
    /// Checks a request and fills in what it leaves open.
    pub fn check(request: &OptimizeRequest, catalogue: &Catalogue) -> Result<Self, JobError> {
        let whole = BacktestSpec::check(&request.backtest, catalogue)?;
        let search = &request.search;
        let mut wrong = Vec::new();
        let number =
            |wrong: &mut Vec<_>, name: &str, given: Option<u32>, default: u32, least: u32, most: u32| {
                let value = given.unwrap_or(default);
                if !(least..=most).contains(&value) {
                    wrong.push((name.to_owned(), format!("must be from {least} to {most}")));
                }
                value
            };
        let trials = number(&mut wrong, "trials", search.trials, DEFAULT_TRIALS, 1, TRIALS_MOST);
        let round =
            number(&mut wrong, "round", search.round, DEFAULT_ROUND, 1, ROUND_MOST).min(trials.max(1));
        let best = number(&mut wrong, "best", search.best, DEFAULT_BEST, 1, BEST_MOST);
        let optimal_trades =
            number(&mut wrong, "optimal_trades", search.optimal_trades, DEFAULT_OPTIMAL_TRADES, 2, 1_000_000);
        let periods = periods(&whole, search).map_err(|error| wrong.push(error)).ok();
        let space = searched(&request.backtest, &whole, search, catalogue)
            .map_err(|errors| wrong.extend(errors))
            .unwrap_or_default();
        let Some((train, test, trial_run)) = periods.filter(|_| wrong.is_empty()) else {
            return Err(invalid(&wrong));
        };
        Ok(Self {
            train,
            test,
            trial_run,
            space,
            method: search.method.unwrap_or_default(),
            objective: search.objective.unwrap_or_default(),
            optimal_trades,
            trials,
            round,
            seed: search.seed.unwrap_or_default(),
            best,
        })
    }

    /// All backtests that it may run, by their periods.
    pub fn periods(&self) -> impl Iterator<Item = &BacktestSpec> {
        [Some(&self.train), self.test.as_ref(), self.trial_run.as_ref()].into_iter().flatten()
    }
}

fn searched(
    request: &BacktestRequest,
    whole: &BacktestSpec,
    search: &SearchRequest,
    catalogue: &Catalogue,
) -> Result<Vec<Dimension>, Vec<(String, String)>> {
    let strategies: Vec<_> = whole.strategies().into_iter().collect();
    let [strategy] = strategies[..] else {
        return Err(vec![("routes".into(), "an optimisation needs the same strategy on all routes".into())]);
    };
    let known = catalogue.strategies.get(strategy).map(|found| found.hyperparameters.as_slice());
    let known = known.unwrap_or_default();
    if known.is_empty() {
        return Err(vec![("strategy".into(), format!("{strategy} has no hyperparameters to search for"))]);
    }
    let fixed = request.hyperparameters.clone().unwrap_or_default();
    let space = space(known, &fixed, &search.space).map_err(|wrong| {
        wrong.into_iter().map(|(name, message)| (format!("space.{name}"), message)).collect::<Vec<_>>()
    })?;
    if space.is_empty() {
        return Err(vec![(
            "hyperparameters".into(),
            "all are fixed, so there is nothing to search for".into(),
        )]);
    }
    Ok(space)
}

type Periods = (BacktestSpec, Option<BacktestSpec>, Option<BacktestSpec>);

fn periods(whole: &BacktestSpec, search: &SearchRequest) -> Result<Periods, (String, String)> {
    let (start, finish) = (whole.start_date, whole.finish_date);
    let with =
        |start_date: Date, finish_date: Date| BacktestSpec { start_date, finish_date, ..whole.clone() };
    let split = match (&search.test_start_date, search.test_share) {
        (Some(_), Some(_)) => {
            return Err(("test_share".into(), "give either this or test_start_date".into()));
        }
        (Some(written), None) => {
            let day: Option<Date> =
                written.parse().ok().filter(|day| (start..finish).contains(day) && *day != start);
            day.ok_or_else(|| {
                (
                    "test_start_date".to_owned(),
                    format!("must be a day YYYY-MM-DD after {start} and before {finish}"),
                )
            })?
        }
        (None, share) => {
            let share = share.unwrap_or(DEFAULT_TEST_SHARE);
            if !(0.0..=0.9).contains(&share) {
                return Err(("test_share".into(), "must be from 0 (no test period) to 0.9".into()));
            }
            if share == 0.0 {
                finish
            } else {
                day_at(start, finish, 1.0 - share)
                    .ok_or_else(|| ("test_share".to_owned(), "leaves a period without a day".to_owned()))?
            }
        }
    };
    let test = (split < finish).then(|| with(split, finish));
    let trial_run = match search.prune_share {
        None => None,
        Some(share) if (0.05..=0.9).contains(&share) => {
            let day = day_at(start, split, share)
                .ok_or_else(|| ("prune_share".to_owned(), "leaves a period without a day".to_owned()))?;
            Some(with(start, day))
        }
        Some(_) => return Err(("prune_share".into(), "must be from 0.05 to 0.9".into())),
    };
    Ok((with(start, split), test, trial_run))
}

/// The day that has this share of the period before it; none if one of the parts would be empty.
fn day_at(start: Date, finish: Date, share: f64) -> Option<Date> {
    let days = finish.duration_since(start).as_hours() / 24;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "some millions of days at most"
    )]
    let before = (days as f64 * share).round() as i64;
    let day = start.checked_add(before.days()).ok()?;
    (day > start && day < finish).then_some(day)
}
