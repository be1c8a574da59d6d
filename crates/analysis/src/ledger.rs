//! What a campaign's trials amount to: computed when it is asked for, from the ledger, and never part of a stored result.
//!
//! Trials over the same days form a group, whose figures take their correlation into account; groups of different days count as
//! independent of each other, which is cautious. Sharpe ratios here are annual, of daily returns, 365 to the year.

use std::collections::{HashMap, HashSet};

use jobs::ledger::{Trial, Tried};
use risk::selection::{RunningTrials, TrialSums};
use serde::Serialize;

use crate::{inputs::Body, track};

/// Days of a year in which crypto is traded.
const DAYS_PER_YEAR: f64 = 365.0;
/// How far Redis's clock may go back without a trial being overlooked, in milliseconds.
const CLOCK_SLACK_MS: i64 = 10_000;
/// From which deflated Sharpe ratio on a trial is taken for more than luck.
const CONVINCING: f64 = 0.95;
/// The most groups of a campaign; trials over yet other days count, without a Sharpe ratio.
const MOST_GROUPS: usize = 2_000;

/// The daily returns of a backtest's result, for the ledger. None if it made no trade, or if there is no return to be had.
pub fn trial_of(body: &[u8]) -> Trial {
    let Ok(body) = serde_json::from_slice::<Body>(body) else { return Trial::default() };
    let daily = track::daily(&body);
    daily.map_or_else(
        |_| Trial::default(),
        |daily| Trial { first_day: daily.first_day, returns: daily.returns },
    )
}

/// What is known of a campaign, brought up to date with what is new since the last time.
#[derive(Debug, Default)]
pub struct Ledger {
    met: HashSet<String>,
    /// Of which there was nothing in the ledger yet: not ended, or failed.
    open: HashSet<String>,
    groups: HashMap<(i64, usize), RunningTrials>,
    total: u64,
    last_ms: i64,
}

impl Ledger {
    /// From when on trials are to be asked for, in milliseconds.
    pub fn since_ms(&self) -> i64 {
        (self.last_ms - CLOCK_SLACK_MS).max(0)
    }

    /// Takes in what was tried since; false if that does not fit what is known, so that all has to be read anew.
    #[must_use]
    pub fn meet(&mut self, tried: Tried) -> bool {
        let Tried { total, known, since } = tried;
        self.total = total;
        for (name, time) in since {
            self.last_ms = self.last_ms.max(time);
            if self.met.insert(name.clone()) {
                self.open.insert(name);
            }
        }
        let (met, known) = (self.met.len() as u64, known);
        // Beyond the most that Redis knows one by one, this knows more, which is no harm until it is far more.
        met == known || (total > known && met > known && met < 2 * known)
    }

    /// The trials of which nothing was found yet.
    pub fn open(&self) -> Vec<String> {
        self.open.iter().cloned().collect()
    }

    /// What was found of a trial.
    pub fn found(&mut self, name: &str, trial: &Trial) {
        self.open.remove(name);
        let group = (trial.first_day, trial.returns.len());
        if self.groups.len() < MOST_GROUPS || self.groups.contains_key(&group) {
            self.groups.entry(group).or_default().add(&trial.returns);
        }
    }

    /// How many there were in effect, at least 1.
    fn effective(&self) -> f64 {
        let (mut effective, mut counted) = (0.0, 0_usize);
        for group in self.groups.values() {
            effective += group.effective();
            counted += group.trials();
        }
        // Those that are counted and known no more are taken for as different as the others.
        let forgotten = self.total.saturating_sub(self.met.len() as u64);
        if forgotten > 0 && counted > 0 {
            effective += effective * as_float(forgotten) / as_float(counted as u64);
        }
        effective.max(1.0)
    }

    /// The figures of the campaign, about this trial of it, or about its most convincing one.
    pub fn figures(&self, name: &str, about: Option<&Trial>) -> Figures {
        let effective = self.effective();
        let ranked = |(group, best): (&RunningTrials, TrialSums)| {
            let deflated = group.deflated(&best, effective).ok().flatten();
            (group.expected_maximum(&best, effective).ok(), best, deflated)
        };
        let bests = self.groups.values().filter_map(|group| Some((group, group.best()?)));
        let best = bests.map(ranked).max_by(|a, b| a.2.unwrap_or(-1.0).total_cmp(&b.2.unwrap_or(-1.0)));
        let own = about.and_then(|trial| {
            let group = self.groups.get(&(trial.first_day, trial.returns.len()))?;
            Some(ranked((group, TrialSums::of(&trial.returns)?)))
        });
        let deflated = if about.is_some() { own.and_then(|own| own.2) } else { best.and_then(|best| best.2) };
        let with_returns = self.groups.values().map(|group| group.trials() as u64).sum();
        Figures {
            name: name.to_owned(),
            trials: self.total,
            with_returns,
            effective: rounded(effective.min(as_float(self.total))),
            best_sharpe: best.map(|best| annual(best.1.sharpe())),
            noise_best: best.and_then(|best| best.0).map(annual),
            deflated_sharpe: deflated.map(rounded),
            advice: advice(self.total, effective, best, about.map(|_| deflated.unwrap_or(0.0))),
        }
    }
}

/// What a campaign's trials amount to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// The campaign.
    pub name: String,
    /// How many different backtests were asked for, whatever became of them.
    pub trials: u64,
    /// Those whose returns have a Sharpe ratio.
    #[serde(skip)]
    pub with_returns: u64,
    /// How many independent ones they amount to.
    pub effective: f64,
    /// Annual Sharpe ratio of the most convincing one.
    pub best_sharpe: Option<f64>,
    /// Annual Sharpe ratio that the best of as many trials without any edge is expected to have over the same days.
    pub noise_best: Option<f64>,
    /// The probability that the true Sharpe ratio is above 0 given all that was tried: of the job that was asked for, or of the most
    /// convincing one; `null` where undefined.
    pub deflated_sharpe: Option<f64>,
    /// The same in words.
    pub advice: String,
}

type Ranked = (Option<f64>, TrialSums, Option<f64>);

fn advice(total: u64, effective: f64, best: Option<Ranked>, own: Option<f64>) -> String {
    let Some((noise, best, deflated)) = best else {
        return format!("{total} tried, none with returns that have a Sharpe ratio: nothing is shown");
    };
    let tries =
        if total == 1 { "1 try".to_owned() } else { format!("{total} tries, {effective:.0} effective") };
    let (best, noise) = (annual(best.sharpe()), noise.map_or(0.0, annual));
    let mut words = format!("best of {tries}: {best:.1}; noise alone would give {noise:.1}: ");
    words += match deflated {
        Some(deflated) if deflated >= CONVINCING => "more than luck explains",
        Some(_) => "no edge is shown",
        None => "undefined, so no edge is shown",
    };
    if deflated.is_some_and(|deflated| deflated >= CONVINCING) && own.is_some_and(|own| own < CONVINCING) {
        words += ", but not by this one";
    }
    words
}

fn annual(sharpe: f64) -> f64 {
    rounded(sharpe * DAYS_PER_YEAR.sqrt())
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(trial: u64, days: usize) -> Trial {
        // A linear congruence: the same on every machine.
        let mut state = trial.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            as_float(state >> 40) / as_float(1 << 24) - 0.5
        };
        let returns = (0..days).map(|_| 0.02 * (draw() + draw() + draw())).collect();
        Trial { first_day: 19_000, returns }
    }

    fn ledger(trials: &[Trial]) -> Ledger {
        let mut ledger = Ledger::default();
        let name = |number: usize| format!("t{number}");
        let since: Vec<_> = (0..trials.len()).map(|number| (name(number), 5)).collect();
        let count = trials.len() as u64;
        assert!(ledger.meet(Tried { total: count, known: count, since }));
        for (number, trial) in trials.iter().enumerate() {
            ledger.found(&name(number), trial);
        }
        ledger
    }

    #[test]
    fn the_best_of_much_noise_shows_no_edge_and_one_that_is_real_does() {
        let mut trials: Vec<_> = (0..500).map(|trial| noise(trial, 365)).collect();
        let figures = ledger(&trials).figures("c", None);
        assert_eq!((figures.trials, figures.with_returns), (500, 500));
        assert!(figures.effective > 450.0 && figures.best_sharpe > Some(2.0), "{figures:?}");
        assert!(
            figures.deflated_sharpe < Some(CONVINCING) && figures.advice.contains("no edge"),
            "{figures:?}"
        );
        assert!(figures.advice.starts_with("best of 500 tries"), "{figures:?}");

        let mut real = noise(1_000, 365);
        real.returns.iter_mut().for_each(|value| *value += 0.004);
        trials.push(real.clone());
        let known = ledger(&trials);
        let figures = known.figures("c", Some(&real));
        assert!(
            figures.deflated_sharpe > Some(CONVINCING) && figures.advice.contains("more than luck"),
            "{figures:?}"
        );
        let other = known.figures("c", trials.first());
        assert!(
            other.deflated_sharpe < Some(CONVINCING) && other.advice.contains("not by this one"),
            "{other:?}"
        );
    }

    #[test]
    fn copies_count_in_full_and_amount_to_one() {
        let trials: Vec<_> = (0..50).map(|_| noise(3, 90)).collect();
        let figures = ledger(&trials).figures("c", None);
        assert_eq!(figures.trials, 50);
        assert!((figures.effective - 1.0).abs() < 1e-3, "{figures:?}");
    }

    #[test]
    fn trials_without_returns_count_and_say_nothing() {
        let figures =
            ledger(&[Trial::default(), Trial { first_day: 1, returns: vec![0.0; 40] }]).figures("c", None);
        assert_eq!((figures.trials, figures.with_returns, figures.best_sharpe), (2, 0, None));
        assert!(figures.advice.contains("nothing is shown"), "{figures:?}");
    }

    #[test]
    fn what_does_not_fit_has_to_be_read_anew() {
        let mut known = ledger(&[noise(1, 40)]);
        let tried = |total, known, names: &[&str]| Tried {
            total,
            known,
            since: names.iter().map(|name| ((*name).to_owned(), 6)).collect(),
        };
        assert!(known.meet(tried(2, 2, &["t0", "new"])));
        assert_eq!(known.open(), ["new"]);
        assert!(!known.meet(tried(5, 5, &[])), "some are known that this has not met");
        assert!(!known.meet(tried(1, 1, &[])), "the ledger began anew");
    }
}
