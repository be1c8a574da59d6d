//! An optimisation on its way: what was pinned when it was submitted, and how far the search is. It looks at no clock and
//! no network, so that the same results always lead to the same next step.

use jobs::{CacheKey, Kind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    objective::{USELESS, score},
    search::{Asked, Point, Told, ask},
    spec::OptimizeSpec,
};
use crate::{
    parent::{ForChildren, key},
    plan::{BacktestPlan, KEY_VERSION},
    spec::BacktestSpec,
};

/// What a worker needs for the next step of an optimisation, beside its spec.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OptimizePlan {
    /// Code and candles of the training period.
    pub train: BacktestPlan,
    /// Those of the test period.
    pub test: Option<BacktestPlan>,
    /// Those of the first part of the training period.
    pub trial_run: Option<BacktestPlan>,
    /// How the trials are treated.
    pub children: ForChildren,
    /// What was tried.
    #[serde(default)]
    pub trials: Vec<Trial>,
    /// What is being computed.
    #[serde(default)]
    pub stage: Option<Stage>,
}

/// One point that is or was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Where it lies, in the order of the space.
    pub coordinates: Vec<f64>,
    /// The hyperparameters there.
    pub hyperparameters: Point,
    /// How good it is; none while that is not known.
    pub score: Option<f64>,
    /// Whether it was given up after the first part of the training period.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pruned: bool,
    /// Metrics on what it was tried on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<Value>,
    /// Metrics on the test period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Value>,
    /// Why it has no metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// On which period trials are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// The first part of the training period.
    TrialRun,
    /// The training period.
    Train,
    /// The test period.
    Test,
}

/// A round that is being computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// On which period.
    pub period: Period,
    /// Which trials, by their number.
    pub trials: Vec<usize>,
    /// How many rounds there were before.
    pub number: u32,
}

/// One backtest of a round.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What is run.
    pub spec: BacktestSpec,
    /// The key of its result.
    pub cache_key: CacheKey,
}

/// What became of one backtest of a round.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its metrics, or why it has none.
    pub metrics: Result<Value, String>,
}

impl OptimizePlan {
    /// The plan that the trials of a round share.
    pub fn of(&self, period: Period) -> Option<&BacktestPlan> {
        match period {
            Period::TrialRun => self.trial_run.as_ref(),
            Period::Train => Some(&self.train),
            Period::Test => self.test.as_ref(),
        }
    }

    /// Takes the outcomes of the round that was computed, in its order, and says what the next one is; none when the search
    /// is over.
    pub fn advance(&mut self, spec: &OptimizeSpec, found: Vec<Found>) -> Option<Stage> {
        let done = self.stage.take();
        let number = done.as_ref().map_or(0, |stage| stage.number + 1);
        let next = match done {
            Some(Stage { period: Period::TrialRun, trials, .. }) => {
                let better = self.halve(spec, &trials, found);
                Some((Period::Train, better))
                    .filter(|(_, better)| !better.is_empty())
                    .or_else(|| self.next_round(spec))
            }
            Some(Stage { period: Period::Train, trials, .. }) => {
                for (trial, found) in trials.into_iter().zip(found) {
                    self.note(spec, trial, found);
                }
                self.next_round(spec)
            }
            Some(Stage { period: Period::Test, trials, .. }) => {
                for (trial, found) in trials.into_iter().zip(found) {
                    match found.metrics {
                        Ok(metrics) => self.trials[trial].test = Some(metrics),
                        Err(error) => self.trials[trial].error = Some(error),
                    }
                }
                None
            }
            None => self.next_round(spec),
        };
        self.stage = next.map(|(period, trials)| Stage { period, trials, number });
        self.stage.clone()
    }

    fn note(&mut self, spec: &OptimizeSpec, trial: usize, found: Found) {
        let Some(trial) = self.trials.get_mut(trial) else { return };
        match found.metrics {
            Ok(metrics) => {
                trial.score = Some(score(&metrics, spec.objective, spec.optimal_trades));
                trial.train = Some(metrics);
            }
            // What cannot run is no use, and the search is to keep away from it.
            Err(error) => {
                trial.score = Some(0.0);
                trial.error = Some(error);
            }
        }
    }

    /// The better half of a round on trial; the others are given up.
    fn halve(&mut self, spec: &OptimizeSpec, trials: &[usize], found: Vec<Found>) -> Vec<usize> {
        for (trial, found) in trials.iter().zip(found) {
            self.note(spec, *trial, found);
        }
        let mut ranked = trials.to_vec();
        ranked.sort_by(|a, b| self.by_score(*a, *b));
        let kept = ranked.len().div_ceil(2);
        for given_up in ranked.split_off(kept) {
            let trial = &mut self.trials[given_up];
            trial.pruned = true;
            // Scores on different periods do not compare; it is below all that were kept.
            trial.score = Some(0.0);
        }
        let mut better: Vec<usize> =
            ranked.into_iter().filter(|trial| self.trials[*trial].error.is_none()).collect();
        better.sort_unstable();
        better
    }

    /// The better first; of equals the one that was tried first.
    fn by_score(&self, a: usize, b: usize) -> std::cmp::Ordering {
        let score = |trial: usize| self.trials[trial].score.unwrap_or(f64::NEG_INFINITY);
        score(b).total_cmp(&score(a)).then(a.cmp(&b))
    }

    fn next_round(&mut self, spec: &OptimizeSpec) -> Option<(Period, Vec<usize>)> {
        let first = self.trials.len();
        let wanted = (spec.trials as usize).saturating_sub(first).min(spec.round as usize);
        let told: Vec<_> = self
            .trials
            .iter()
            .map(|trial| Told { coordinates: &trial.coordinates, score: trial.score.unwrap_or(0.0) })
            .collect();
        let tried: Vec<Point> = self.trials.iter().map(|trial| trial.hyperparameters.clone()).collect();
        let asked = ask(&spec.space, spec.method, spec.seed.into(), &told, &tried, wanted);
        if asked.is_empty() {
            let best = self.best(spec);
            return (self.test.is_some() && !best.is_empty()).then_some((Period::Test, best));
        }
        self.trials.extend(asked.into_iter().map(|Asked { coordinates, point }| Trial {
            coordinates,
            hyperparameters: point,
            score: None,
            pruned: false,
            train: None,
            test: None,
            error: None,
        }));
        let period = if self.trial_run.is_some() { Period::TrialRun } else { Period::Train };
        Some((period, (first..self.trials.len()).collect()))
    }

    /// The best trials that are of use, best first.
    pub fn best(&self, spec: &OptimizeSpec) -> Vec<usize> {
        let useful = |trial: &Trial| !trial.pruned && trial.score.is_some_and(|score| score > USELESS);
        let mut best: Vec<usize> =
            (0..self.trials.len()).filter(|trial| useful(&self.trials[*trial])).collect();
        best.sort_by(|a, b| self.by_score(*a, *b));
        best.truncate(spec.best as usize);
        best
    }

    /// The backtests of a round, in its order.
    pub fn wanted(&self, spec: &OptimizeSpec, stage: &Stage) -> Vec<Wanted> {
        let base = match stage.period {
            Period::TrialRun => spec.trial_run.as_ref(),
            Period::Train => Some(&spec.train),
            Period::Test => spec.test.as_ref(),
        };
        let (Some(base), Some(plan)) = (base, self.of(stage.period)) else { return Vec::new() };
        let one = |trial: &usize| {
            let mut spec = base.clone();
            spec.hyperparameters.extend(self.trials[*trial].hyperparameters.clone());
            let cache_key = plan.key_of(&spec);
            Wanted { spec, cache_key }
        };
        stage.trials.iter().map(one).collect()
    }

    /// Trials that are over, and what that is of all, from 0 to 1.
    pub fn progress(&self, spec: &OptimizeSpec) -> (usize, f64) {
        let done = self.trials.iter().filter(|trial| trial.score.is_some()).count();
        #[expect(clippy::cast_precision_loss, reason = "some thousands at most")]
        let fraction = done as f64 / f64::from(spec.trials.max(1));
        (done, fraction.min(1.0))
    }

    /// The key of the result: the hash of all that it depends on, and of whose ledger its trials count in. A stored result would
    /// answer another campaign without a trial; so the search is taken through its steps there, where its backtests are answered by
    /// their stored results, and count.
    pub fn cache_key(&self, spec: &OptimizeSpec) -> CacheKey {
        let candles = [Some(&self.train), self.test.as_ref(), self.trial_run.as_ref()]
            .into_iter()
            .flatten()
            .map(|plan| {
                plan.series
                    .iter()
                    .map(|series| (&series.series, &series.source, &series.content))
                    .collect::<Vec<_>>()
            });
        let candles: Vec<_> = candles.collect();
        let engine = (&self.train.engine.jesse_version, &self.train.engine.semantics);
        let ledger = (&self.children.tenant, &self.children.trial_of, &self.children.holdouts);
        self.train.scoped(key(&(
            KEY_VERSION,
            Kind::Optimize,
            spec,
            &self.train.bundles,
            candles,
            engine,
            ledger,
        )))
    }

    /// The result: all trials, and the best of them.
    pub fn result(&self, spec: &OptimizeSpec) -> Value {
        let shown = |number: usize| {
            let trial = &self.trials[number];
            json!({
                "trial": number,
                "hyperparameters": trial.hyperparameters,
                "score": trial.score,
                "pruned": trial.pruned,
                "train": trial.train,
                "test": trial.test,
                "error": trial.error,
            })
        };
        json!({
            "best": self.best(spec).into_iter().map(shown).collect::<Vec<_>>(),
            "trials": (0..self.trials.len()).map(shown).collect::<Vec<_>>(),
            "space": spec.space,
        })
    }
}
