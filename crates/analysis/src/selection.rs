//! What choosing the best job of a batch is worth: the probability that the choice was overfitted (CSCV), and whether any of them
//! beats doing nothing once all are taken into account (Hansen's test). Worked out when an ended batch is first read, then kept.

use std::collections::HashMap;

use jobs::{JobId, JobState, JobView, Kind, Queue, QueueError, TenantId, chain, ledger::Trial};
use risk::{
    bootstrap::BootstrapOptions,
    selection::{TrialSums, probability_of_overfitting, superior_predictive_ability},
};
use serde::{Deserialize, Serialize};

/// The most trials that are compared; of more, as many are taken at equal distances.
const MOST_TRIALS: usize = 1_000;
/// How many blocks time is cut into, where there are enough days.
const BLOCKS: usize = 16;
/// Days that a block has at least.
const SHORTEST_BLOCK: usize = 4;
/// The fewest days that are compared.
const FEWEST_DAYS: usize = 20;
/// How many children are read at once.
const PAGE: usize = 100;
const REPLICATIONS: usize = 1_000;

/// What choosing the best job of a batch is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// How many of its jobs were compared: those over the same days, with returns that vary.
    pub compared: usize,
    /// Daily returns of each.
    pub days: usize,
    /// Probability of backtest overfitting: how often the best of one half of the time was at or below the median of the other.
    /// About a half where there is nothing to find.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overfitting: Option<f64>,
    /// The p-value of Hansen's test of superior predictive ability (consistent): small if some job is better than doing nothing
    /// would explain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superior_p: Option<f64>,
    /// What was left out, and why something is undefined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Of an ended batch of backtests; `None` of any other job.
///
/// Fails only if Redis does.
pub async fn of_batch(
    queue: &Queue,
    tenant: &TenantId,
    batch: &JobView,
) -> Result<Option<Selection>, QueueError> {
    if batch.kind != Kind::Batch || !batch.state.is_terminal() {
        return Ok(None);
    }
    let kept = queue.selection(batch.job_id).await?;
    if let Some(kept) = kept.and_then(|text| serde_json::from_str(&text).ok()) {
        return Ok(Some(kept));
    }
    let Some(results) = results(queue, tenant, batch.job_id).await? else { return Ok(None) };
    let found = results.len();
    let chosen = spread(results, MOST_TRIALS);
    let trials: Vec<_> = queue.trials(&chosen).await?.into_iter().flatten().collect();
    let computed = tokio::task::spawn_blocking(move || compare(trials, found)).await;
    let selection = match computed {
        Ok(selection) => selection,
        Err(error) => {
            tracing::error!(batch.id = %batch.job_id, error = chain(&error), "the jobs of a batch cannot be compared");
            return Ok(None);
        }
    };
    if let Ok(text) = serde_json::to_string(&selection) {
        queue.keep_selection(batch.job_id, &text).await?;
    }
    Ok(Some(selection))
}

/// The results of a batch's backtests, each once; `None` if its jobs are something else.
async fn results(queue: &Queue, tenant: &TenantId, batch: JobId) -> Result<Option<Vec<String>>, QueueError> {
    let (mut results, mut read) = (Vec::new(), 0);
    loop {
        let (_, page) = queue.children(batch, tenant, read, PAGE).await?;
        if page.is_empty() {
            break;
        }
        read += page.len();
        for view in page {
            if view.kind != Kind::Backtest {
                return Ok(None);
            }
            results.extend(view.result.filter(|_| view.state == JobState::Succeeded));
        }
    }
    let mut seen = std::collections::HashSet::new();
    results.retain(|result| seen.insert(result.clone()));
    Ok(Some(results))
}

/// At most so many, at equal distances.
fn spread<T>(all: Vec<T>, most: usize) -> Vec<T> {
    let step = all.len().div_ceil(most).max(1);
    all.into_iter().step_by(step).collect()
}

/// Compares the trials of the largest group over the same days, of so many that succeeded.
fn compare(trials: Vec<Trial>, succeeded: usize) -> Selection {
    let mut groups: HashMap<(i64, usize), Vec<Vec<f64>>> = HashMap::new();
    for trial in trials.into_iter().filter(|trial| TrialSums::of(&trial.returns).is_some()) {
        groups.entry((trial.first_day, trial.returns.len())).or_default().push(trial.returns);
    }
    let largest = groups.into_iter().max_by_key(|((first, days), group)| (group.len(), *days, *first));
    let ((_, days), group) = largest.unwrap_or_default();
    let mut notes = Vec::new();
    if group.len() < succeeded {
        notes.push(format!("{} of {succeeded} that succeeded: over the same days, with returns that vary, at most {MOST_TRIALS}", group.len()));
    }
    let mut selection =
        Selection { compared: group.len(), days, overfitting: None, superior_p: None, note: None };
    if group.len() < 2 || days < FEWEST_DAYS {
        notes.push(format!("undefined: needs 2 jobs to choose from and {FEWEST_DAYS} days"));
    } else {
        let blocks = (days / SHORTEST_BLOCK / 2 * 2).min(BLOCKS);
        match probability_of_overfitting(&group, blocks) {
            Ok(found) => selection.overfitting = Some(rounded(found.probability)),
            Err(error) => notes.push(format!("overfitting is undefined: {error}")),
        }
        let options = BootstrapOptions { replications: REPLICATIONS, ..BootstrapOptions::default() };
        match superior_predictive_ability(&group, true, &options) {
            Ok(found) => selection.superior_p = Some(rounded(found.consistent)),
            Err(error) => notes.push(format!("superior_p is undefined: {error}")),
        }
    }
    selection.note = Some(notes.join("; ")).filter(|note| !note.is_empty());
    selection
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waves that have nothing in common, with a mean of their own.
    fn trial(number: u32, days: u32, mean: f64) -> Trial {
        let value = |day: u32| {
            let angle = f64::from(day) * (0.37 + 0.61 * f64::from(number)) + f64::from(number);
            mean + 0.01 * (angle.sin() + (2.3 * angle * angle).cos())
        };
        Trial { first_day: 19_000, returns: (0..days).map(value).collect() }
    }

    #[test]
    fn one_that_is_better_throughout_is_chosen_rightly() {
        let trials = (0..20).map(|number| trial(number, 200, if number == 3 { 0.01 } else { 0.0 })).collect();
        let selection = compare(trials, 20);
        assert_eq!((selection.compared, selection.days, &selection.note), (20, 200, &None));
        assert!(selection.overfitting < Some(0.05) && selection.superior_p < Some(0.05), "{selection:?}");
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let other = Trial { first_day: 3, ..trial(9, 200, 0.0) };
        let selection = compare(vec![trial(1, 200, 0.0), trial(2, 200, 0.0), other, Trial::default()], 5);
        assert_eq!(selection.compared, 2);
        assert!(selection.overfitting.is_some(), "{selection:?}");
        assert!(selection.note.is_some_and(|note| note.starts_with("2 of 5")));
        for (trials, succeeded) in
            [(Vec::new(), 0), (vec![trial(1, 200, 0.0)], 1), (vec![trial(1, 9, 0.0), trial(2, 9, 0.0)], 2)]
        {
            let selection = compare(trials, succeeded);
            assert_eq!((selection.overfitting, selection.superior_p), (None, None));
            assert!(selection.note.is_some_and(|note| note.contains("undefined")));
        }
    }

    #[test]
    fn of_many_some_are_taken_from_all_over() {
        assert_eq!(spread((0..10).collect(), 5), [0, 2, 4, 6, 8]);
        assert_eq!(spread((0..3).collect(), 5), [0, 1, 2]);
        assert!(spread(Vec::<u8>::new(), 5).is_empty());
    }
}
