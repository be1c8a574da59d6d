//! The figures of [`super::summarise_trials`] for trials that come one by one and are not kept.

use crate::error::RiskError;
use crate::number::{count, ratio};
use crate::performance::{deflated_sharpe_ratio, expected_maximum_sharpe};
use crate::sample;

use super::effective_trials;

/// What the figures of one trial are made of. Per period; kurtosis is raw (3 for the normal distribution).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrialSums {
    /// How many returns.
    pub periods: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation (divisor n - 1).
    pub deviation: f64,
    /// Their skewness.
    pub skewness: f64,
    /// Their raw kurtosis.
    pub kurtosis: f64,
}

impl TrialSums {
    /// Of these returns; `None` for fewer than 4, for returns that do not vary, and for what is not finite: such a trial has no
    /// Sharpe ratio.
    pub fn of(returns: &[f64]) -> Option<Self> {
        if returns.len() < 4 || returns.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let shape = sample::shape(returns)?;
        let (mean, deviation) = (sample::mean(returns), sample::deviation(returns));
        ratio(mean, deviation)?;
        Some(Self {
            periods: returns.len(),
            mean,
            deviation,
            skewness: shape.skewness,
            kurtosis: shape.kurtosis,
        })
    }

    /// Mean over standard deviation.
    pub fn sharpe(&self) -> f64 {
        self.mean / self.deviation
    }
}

/// Trials over the same periods. What is kept is as long as one of them, however many are added.
#[derive(Debug, Clone, Default)]
pub struct RunningTrials {
    trials: usize,
    /// The sum of all, each standardised to length 1: its own length says how they correlate on average.
    direction: Vec<f64>,
    mean: f64,
    squares: f64,
    best: Option<TrialSums>,
}

impl RunningTrials {
    /// Adds the returns of a trial; answers its sums, or `None` if it has no Sharpe ratio or is of another length, and then it is
    /// not in the figures.
    pub fn add(&mut self, returns: &[f64]) -> Option<TrialSums> {
        let sums = TrialSums::of(returns)?;
        if self.trials == 0 {
            self.direction = vec![0.0; sums.periods];
        }
        if self.direction.len() != sums.periods {
            return None;
        }
        let length = sums.deviation * count(sums.periods - 1).sqrt();
        for (total, value) in self.direction.iter_mut().zip(returns) {
            *total += (value - sums.mean) / length;
        }
        self.trials += 1;
        // Welford's recurrence: no square of a large mean is taken from another.
        let distance = sums.sharpe() - self.mean;
        self.mean += distance / count(self.trials);
        self.squares += distance * (sums.sharpe() - self.mean);
        if self.best.is_none_or(|best| sums.sharpe() > best.sharpe()) {
            self.best = Some(sums);
        }
        Some(sums)
    }

    /// How many are in the figures.
    pub fn trials(&self) -> usize {
        self.trials
    }

    /// The one with the highest Sharpe ratio, the first of equals.
    pub fn best(&self) -> Option<TrialSums> {
        self.best
    }

    /// How many independent ones they amount to (see [`effective_trials`]); 0 of none.
    pub fn effective(&self) -> f64 {
        if self.trials < 2 {
            return count(self.trials);
        }
        let n = count(self.trials);
        let squared = sample::dot(&self.direction, &self.direction);
        let correlation = ((squared - n) / (n * (n - 1.0))).clamp(-1.0, 1.0);
        effective_trials(self.trials, correlation).unwrap_or(n)
    }

    /// How the Sharpe ratio of one of these trials correlates with that of one of `others`, on average over all pairs, where the
    /// others begin `later` periods after these: returns that both have in common move both ratios. With `o` common periods of `n`
    /// and `m`, and returns that correlate by r, that is r o / sqrt(n m), the correlation of two means. 0 without a common period.
    pub fn correlation_with(&self, others: &Self, later: usize) -> f64 {
        let (pairs, own) = (count(self.trials) * count(others.trials), self.direction.get(later..));
        let common = own.map_or(0.0, |own| own.iter().zip(&others.direction).map(|(a, b)| a * b).sum());
        if pairs > 0.0 { (common / pairs).clamp(-1.0, 1.0) } else { 0.0 }
    }

    /// Takes in all of others over the same periods; false, and nothing changes, if theirs are of another length.
    #[must_use]
    pub fn merge(&mut self, others: &Self) -> bool {
        if self.trials == 0 {
            self.clone_from(others);
            return true;
        }
        if others.trials > 0 && self.direction.len() != others.direction.len() {
            return false;
        }
        for (total, value) in self.direction.iter_mut().zip(&others.direction) {
            *total += value;
        }
        // The sums of two samples (Chan, Golub and LeVeque, 1979).
        let (own, more) = (count(self.trials), count(others.trials));
        let distance = others.mean - self.mean;
        self.mean += distance * more / (own + more);
        self.squares += others.squares + distance * distance * own * more / (own + more);
        self.trials += others.trials;
        let better = others.best.filter(|one| self.best.is_none_or(|best| one.sharpe() > best.sharpe()));
        self.best = better.or(self.best);
        true
    }

    /// Variance of their Sharpe ratios (divisor N - 1); that of one alone is 0.
    pub fn variance(&self) -> f64 {
        if self.trials < 2 { 0.0 } else { self.squares / count(self.trials - 1) }
    }

    /// By how much the Sharpe ratios of independent trials without any edge scatter over these periods, as the others beside `trial`, one
    /// of these, show it: not less than the sampling variance of one such ratio, `1 / (n - 1)` (Lo, 2002). Trials over one path of
    /// prices share its luck, so that they scatter less around each other than around 0; and [`RunningTrials::effective`] has taken
    /// their correlation into account already, so that a smaller variance would count it twice.
    ///
    /// The trial itself is left out: one that has an edge scatters far from those that have none, and would hide it behind noise
    /// that it makes itself. With 100 trials over three years, a true annual ratio of 3 is then found in 83 % of all cases,
    /// not in 79 %; the best of pure noise is taken for an edge as rarely as before.
    fn noise_variance_beside(&self, trial: &TrialSums) -> f64 {
        let floor = 1.0 / count(self.direction.len().max(2) - 1);
        if self.trials < 3 {
            return floor;
        }
        let n = count(self.trials);
        let distance = trial.sharpe() - self.mean;
        ((self.squares - distance * distance * n / (n - 1.0)) / (n - 2.0)).max(floor)
    }

    /// The Sharpe ratio of a period that the best of `effective` trials without any edge is expected to have over these periods, as the
    /// others beside `trial`, which is one of these, show it; `effective` is that of all that were tried, here and elsewhere, at least 1.
    pub fn expected_maximum(&self, trial: &TrialSums, effective: f64) -> Result<f64, RiskError> {
        expected_maximum_sharpe(self.noise_variance_beside(trial), effective)
    }

    /// The deflated Sharpe ratio of one of these trials among so many; `None` where undefined.
    pub fn deflated(&self, trial: &TrialSums, effective: f64) -> Result<Option<f64>, RiskError> {
        let TrialSums { periods, skewness, kurtosis, .. } = *trial;
        let variance = self.noise_variance_beside(trial);
        deflated_sharpe_ratio(trial.sharpe(), periods, skewness, kurtosis, variance, effective)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::selection::summarise_trials;

    #[test]
    fn figures_are_those_of_all_trials_at_once() {
        let series = |trial: usize| -> Vec<f64> {
            let shared = |t: f64| 0.01 * (0.9 * t).sin();
            (0..90)
                .map(|t| {
                    let (t, trial) = (count(t), count(trial));
                    shared(t) + 0.01 * (t * (1.3 + trial)).cos() + 0.0002 * trial
                })
                .collect()
        };
        let trials: Vec<_> = (0..25).map(series).collect();
        let mut running = RunningTrials::default();
        for trial in &trials {
            running.add(trial).unwrap();
        }
        let all = summarise_trials(&trials).unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b.abs().max(1e-3), "{a} {b}");
        near(running.effective(), all.effective);
        near(running.variance(), all.variance);
        near(running.best().unwrap().sharpe(), all.best_sharpe);
        // The bounds differ by the variance that noise is taken to have: that of the other trials.
        let best = running.best().unwrap();
        let mut others = RunningTrials::default();
        for trial in trials.iter().filter(|trial| TrialSums::of(trial) != Some(best)) {
            others.add(trial).unwrap();
        }
        assert_eq!(others.trials(), 24);
        let noise = others.variance().max(1.0 / 89.0);
        let scaled = all.expected_maximum * (noise / all.variance).sqrt();
        near(running.expected_maximum(&best, all.effective).unwrap(), scaled);
    }

    #[test]
    fn trials_that_share_the_luck_of_one_path_are_not_convincing_by_it() {
        // A path that went well for all, by three of its own standard errors; what the trials add to it is small.
        let shared: Vec<f64> = (0..90).map(|t| 0.01 * (2.3 * count(t)).sin() + 0.0022).collect();
        let trial = |trial: usize| -> Vec<f64> {
            let own = |t: usize| 0.003 * (count(t) * (0.7 + count(trial))).cos();
            shared.iter().enumerate().map(|(t, value)| value + own(t)).collect()
        };
        let mut running = RunningTrials::default();
        for number in 0..40 {
            running.add(&trial(number)).unwrap();
        }
        let best = running.best().unwrap();
        let among_others = expected_maximum_sharpe(running.variance(), running.effective()).unwrap();
        let of_noise = running.expected_maximum(&best, running.effective()).unwrap();
        assert!(running.variance() < 1.0 / 89.0 && of_noise > among_others, "{of_noise} {among_others}");
        assert!(best.sharpe() > 2.0 / 89.0_f64.sqrt(), "it looks good: {}", best.sharpe());
    }

    fn waves(trial: usize, periods: usize) -> Vec<f64> {
        (0..periods)
            .map(|t| 0.001 + 0.01 * (count(t) * (0.7 + 0.37 * count(trial)) + count(trial)).sin())
            .collect()
    }

    #[test]
    fn two_samples_together_are_one() {
        let (mut all, mut first, mut second) = <(RunningTrials, RunningTrials, RunningTrials)>::default();
        for number in 0..9 {
            all.add(&waves(number, 60)).unwrap();
            if number < 4 { &mut first } else { &mut second }.add(&waves(number, 60)).unwrap();
        }
        let mut together = RunningTrials::default();
        assert!(
            together.merge(&first) && together.merge(&second) && together.merge(&RunningTrials::default())
        );
        assert_eq!((together.trials(), together.best()), (9, all.best()));
        for (a, b) in [(together.effective(), all.effective()), (together.variance(), all.variance())] {
            assert!((a - b).abs() < 1e-9, "{a} {b}");
        }
        let mut longer = RunningTrials::default();
        longer.add(&waves(1, 61)).unwrap();
        assert!(!together.merge(&longer) && together.trials() == 9);
    }

    #[test]
    fn ratios_over_some_common_periods_correlate_by_their_share() {
        let of = |series: &[f64]| {
            let mut running = RunningTrials::default();
            running.add(series).unwrap();
            running
        };
        let series = waves(3, 400);
        let (whole, first, second, other) =
            (of(&series), of(&series[..200]), of(&series[200..]), of(&waves(8, 400)));
        // The mean of a half has sqrt(1/2) of its correlation with the mean of the whole.
        for (half, later) in [(&first, 0), (&second, 200)] {
            let found = whole.correlation_with(half, later);
            assert!((found - 0.5_f64.sqrt()).abs() < 0.03, "{found}");
        }
        assert!((whole.correlation_with(&whole, 0) - 1.0).abs() < 1e-9);
        assert!(whole.correlation_with(&other, 0).abs() < 0.05);
        let nothing_in_common = [first.correlation_with(&second, 200), first.correlation_with(&second, 900)];
        assert!(nothing_in_common.iter().all(|found| found.abs() < 1e-12));
        assert!(RunningTrials::default().correlation_with(&first, 0).abs() < 1e-12);
    }

    #[test]
    fn what_has_no_ratio_or_another_length_is_left_out() {
        let mut running = RunningTrials::default();
        assert!(running.add(&[0.0; 30]).is_none() && running.add(&[f64::NAN, 0.1, 0.2, 0.3]).is_none());
        assert!(
            running.add(&[0.1, 0.2, -0.1, 0.3]).is_some()
                && running.add(&[0.1, 0.2, 0.3, 0.1, 0.2]).is_none()
        );
        assert_eq!(running.trials(), 1);
        assert!((running.effective() - 1.0).abs() < 1e-12);
        let one = running.best().unwrap();
        assert!(running.expected_maximum(&one, 1.0).unwrap().abs() < 1e-12);
    }
}
