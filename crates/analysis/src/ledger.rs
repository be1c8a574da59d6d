//! What a campaign's trials amount to: computed when it is asked for, from the ledger, and never part of a stored result.
//!
//! Trials over the same days form a group, whose figures take their correlation into account. Of several groups each counts by what
//! it adds: the number of independent trials among N that correlate by r is r + (1 - r) N, so that of two groups together is the sum
//! of theirs less the correlation between them, which is that of the days they share. A group is held against the earlier one that is
//! most like it, and no other, which is cautious. Sharpe ratios here are annual, of daily returns, 365 to the year.

use std::collections::{BTreeMap, HashSet};

use jiff::civil::Date;
use jobs::ledger::{Trial, Tried};
use risk::selection::{RunningTrials, TrialSums};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{inputs::Point, track};

/// Days of a year in which crypto is traded.
const DAYS_PER_YEAR: f64 = 365.0;
/// How far Redis's clock may go back without a trial being overlooked, in milliseconds.
const CLOCK_SLACK_MS: i64 = 10_000;
/// From which deflated Sharpe ratio on a trial is taken for more than luck.
const CONVINCING: f64 = 0.95;
/// The most groups of a campaign; trials over yet other days count, without a Sharpe ratio.
const MOST_GROUPS: usize = 2_000;

/// From how many looks on a hold-out is not worth the name.
const MANY_LOOKS: u64 = 20;
/// With how many of the groups before it a group is compared.
const COMPARED: usize = 32;

/// The daily returns of a backtest's result, for the ledger. None if it made no trade, or if there is no return to be had.
pub fn trial_of(body: &[u8]) -> Trial {
    // All else in it, trades above all, is passed over without being read.
    let curve = serde_json::from_slice::<Curve>(body).map(|curve| curve.equity_curve).unwrap_or_default();
    if curve.len() < 2 {
        return Trial::default();
    }
    track::by_day(&curve).map_or_else(
        |_| Trial::default(),
        |daily| Trial { first_day: daily.first_day, returns: daily.returns },
    )
}

/// What the ledger takes of a body.
#[derive(Deserialize)]
struct Curve {
    #[serde(default)]
    equity_curve: Vec<Point>,
}

/// What is known of a campaign, brought up to date with what is new since the last time.
#[derive(Debug, Default)]
pub struct Ledger {
    met: HashSet<String>,
    /// Of which there was nothing in the ledger yet: not ended, or failed.
    open: HashSet<String>,
    last_ms: i64,
    sums: Sums,
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
        for (name, time) in since {
            self.last_ms = self.last_ms.max(time);
            if self.met.insert(name.clone()) {
                self.open.insert(name);
            }
        }
        let (met, known) = (self.met.len() as u64, known);
        self.sums.total = total;
        // Those that are counted and known no more.
        self.sums.forgotten = total.saturating_sub(met);
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
        let groups = &mut self.sums.groups;
        let group = (trial.first_day, trial.returns.len());
        if groups.len() < MOST_GROUPS || groups.contains_key(&group) {
            groups.entry(group).or_default().add(&trial.returns);
        }
    }

    /// What its trials add up to.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }
}

/// What the trials of a campaign, or of several, add up to.
#[derive(Debug, Clone, Default)]
pub struct Sums {
    /// By first day and number of days.
    groups: BTreeMap<(i64, usize), RunningTrials>,
    total: u64,
    forgotten: u64,
}

impl Sums {
    /// Takes in those of another campaign.
    pub fn merge(&mut self, other: &Self) {
        for (days, group) in &other.groups {
            // Of the same key, so of the same length.
            let _same_length = self.groups.entry(*days).or_default().merge(group);
        }
        self.total += other.total;
        self.forgotten += other.forgotten;
    }

    /// How many there were in effect, at least 1.
    fn effective(&self) -> f64 {
        let groups: Vec<_> = self.groups.iter().filter(|(_, group)| group.trials() > 0).collect();
        let (mut effective, mut counted) = (0.0, 0_usize);
        for (number, ((first_day, _), group)) in groups.iter().enumerate() {
            let like = |((before, _), earlier): &(&(i64, usize), &RunningTrials)| {
                earlier.correlation_with(group, usize::try_from(first_day - before).unwrap_or(usize::MAX))
            };
            let most_alike =
                groups[number.saturating_sub(COMPARED)..number].iter().map(like).fold(0.0, f64::max);
            effective += group.effective() - most_alike;
            counted += group.trials();
        }
        // Those that are counted and known no more are taken for as different as the others.
        if self.forgotten > 0 && counted > 0 {
            effective += effective * as_float(self.forgotten) / as_float(counted as u64);
        }
        effective.max(1.0)
    }

    /// The figures of the campaign of this name, about this trial of it, or about its most convincing one.
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
            holdouts: Vec::new(),
        }
    }
}

/// What a campaign's trials amount to.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "CampaignFigures")]
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
    /// What is held out of it, where that is asked for or was looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holdouts: Vec<HoldoutFigures>,
}

/// The days of a series that are held out of research, and what looks at them amount to. Only the returns of these days count.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Holdout")]
pub struct HoldoutFigures {
    /// Exchange and symbol.
    pub series: String,
    /// The first day; all later ones are held out too.
    #[schemars(with = "String", extend("format" = "date"))]
    pub from: Date,
    /// How many different backtests or analyses have seen them.
    pub looks: u64,
    /// How many independent ones they amount to; 0 before the first.
    pub effective: f64,
    /// Annual Sharpe ratio of the most convincing look.
    pub best_sharpe: Option<f64>,
    /// Annual Sharpe ratio that the best of as many looks at noise is expected to have.
    pub noise_best: Option<f64>,
    /// The probability that the true Sharpe ratio is above 0 given all looks: of the job that was asked for, or of the most
    /// convincing look.
    pub deflated_sharpe: Option<f64>,
    /// The same in words.
    pub advice: String,
    /// How it was set: share, since, by_campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<Value>,
    /// The last looks, the last one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<LookView>,
}

/// A job that looked at held-out days.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Look")]
pub struct LookView {
    /// When it was accepted (UTC).
    pub at: String,
    /// The job, which may have expired; none where days were set free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// by (the key's id), campaign, kind, start_date, finish_date; or by and open_until.
    #[serde(flatten)]
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub about: Value,
}

impl HoldoutFigures {
    /// Of the figures that the looks at a series have as a campaign.
    pub fn new(series: String, from: Date, looks: Figures, set: Option<Value>, log: Vec<LookView>) -> Self {
        let Figures { trials, effective, best_sharpe, noise_best, deflated_sharpe, advice, .. } = looks;
        let advice = match trials {
            0 => "nobody has looked: judge here, once, what you have chosen on the days before".to_owned(),
            MANY_LOOKS.. => format!("{advice}; so many looks make it data like any other"),
            _ => advice,
        };
        Self {
            series,
            from,
            looks: trials,
            effective,
            best_sharpe,
            noise_best,
            deflated_sharpe,
            advice,
            set,
            log,
        }
    }
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
        let figures = ledger(&trials).sums().figures("c", None);
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
        let figures = known.sums().figures("c", Some(&real));
        assert!(
            figures.deflated_sharpe > Some(CONVINCING) && figures.advice.contains("more than luck"),
            "{figures:?}"
        );
        let other = known.sums().figures("c", trials.first());
        assert!(
            other.deflated_sharpe < Some(CONVINCING) && other.advice.contains("not by this one"),
            "{other:?}"
        );
    }

    #[test]
    fn the_ledger_takes_the_curve_of_a_body_and_nothing_of_what_is_none() {
        let body =
            |curve: &str| format!(r#"{{"metrics":{{}},"trades":[{{"odd":[1,2]}}],"equity_curve":{curve}}}"#);
        let day = |number: i64, value: &str| format!(r#"{{"time":{},"value":{value}}}"#, number * 86_400);
        let curve = format!("[{},{},{}]", day(5, "100"), day(6, "110"), day(7, "99"));
        let trial = trial_of(body(&curve).as_bytes());
        assert_eq!((trial.first_day, trial.returns.len()), (5, 2));
        assert!((trial.returns[1] + 0.1).abs() < 1e-12, "{trial:?}");
        let one = format!("[{}]", day(5, "100"));
        let broken = format!("[{},{}]", day(5, "100"), day(6, "null"));
        for curve in ["[]", &one, &broken, "7"] {
            assert_eq!(trial_of(body(curve).as_bytes()), Trial::default(), "{curve}");
        }
        assert_eq!(trial_of(b"no JSON"), Trial::default());
    }

    #[test]
    fn looks_at_held_out_days_have_their_own_words() {
        let day = Date::constant(2023, 4, 7);
        let of = |looks: &[Trial]| {
            HoldoutFigures::new(
                "X A-B".into(),
                day,
                ledger(looks).sums().figures("c", None),
                None,
                Vec::new(),
            )
        };
        let advice = of(&[]).advice;
        assert!(advice.starts_with("nobody has looked"), "{advice}");
        let looks: Vec<_> = (0..20).map(|look| noise(look, 60)).collect();
        assert!(of(&looks[..2]).advice.starts_with("best of 2 tries"));
        let many = of(&looks);
        assert!(many.looks == 20 && many.advice.ends_with("data like any other"), "{many:?}");
    }

    #[test]
    fn copies_count_in_full_and_amount_to_one() {
        let trials: Vec<_> = (0..50).map(|_| noise(3, 90)).collect();
        let figures = ledger(&trials).sums().figures("c", None);
        assert_eq!(figures.trials, 50);
        assert!((figures.effective - 1.0).abs() < 1e-3, "{figures:?}");
    }

    #[test]
    fn what_is_tried_over_other_days_counts_by_the_days_that_are_new() {
        let whole = noise(3, 400);
        let part = |from: usize, to: usize| Trial {
            first_day: whole.first_day + i64::try_from(from).unwrap_or_default(),
            returns: whole.returns[from..to].to_vec(),
        };
        let effective = |trials: &[Trial]| ledger(trials).sums().figures("c", None).effective;
        // The same again with one day more is hardly another try; other days are one.
        let sliding: Vec<_> = (0..20).map(|day| part(day, 380 + day)).collect();
        assert!(effective(&sliding) < 1.3, "{}", effective(&sliding));
        let halves = effective(&[part(0, 200), part(200, 400)]);
        assert!((halves - 2.0).abs() < 1e-3, "{halves}");
        let nested = effective(&[part(0, 400), part(0, 200)]);
        assert!((1.2..1.4).contains(&nested), "{nested}");
        let different: Vec<_> =
            (0..20).map(|trial| noise(trial, 300 + 5 * usize::try_from(trial).unwrap_or(0))).collect();
        assert!(effective(&different) > 17.0, "{}", effective(&different));
    }

    #[test]
    fn campaigns_together_are_as_one_that_has_all_their_trials() {
        let trials: Vec<_> = (0..30).map(|trial| noise(trial, 90)).collect();
        let mut together = ledger(&trials[..10]).sums().clone();
        together.merge(ledger(&trials[10..]).sums());
        assert_eq!(together.figures("c", trials.last()), ledger(&trials).sums().figures("c", trials.last()));
    }

    #[test]
    fn trials_without_returns_count_and_say_nothing() {
        let figures = ledger(&[Trial::default(), Trial { first_day: 1, returns: vec![0.0; 40] }]);
        let figures = figures.sums().figures("c", None);
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
