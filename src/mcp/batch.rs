//! Batches of backtests: what `backtest_batch` takes, and the table that a batch is answered with.

use std::{cmp::Ordering, collections::BTreeMap, time::Duration};

use analysis::{ledger::Figures, selection::Selection};
use jesse::grid::Grid;
use jobs::{Counts, JobId, JobState, JobView, OnFailure, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    aliases,
    arguments::{self, Submitting, Wait},
    table::{self, Table},
};
use crate::{
    errors::{Code, ServiceError},
    service::{BatchRequest, LONGEST_PAGE, MOST_CHILDREN, Service, SubmitOptions},
    views::flattened,
};

/// How many of the best, and of the worst, are shown where there are more than both.
const SHOWN_EACH: usize = 8;
/// How many of those that failed are shown.
const FAILURES_SHOWN: usize = 3;
/// The most jobs of a batch that are read for one table.
pub(crate) const MOST_RANKED: usize = 2_000;
/// The most columns for what the jobs differ in.
pub(crate) const MOST_VARIED: usize = 8;

/// By which figure the jobs of a batch are put in order, the highest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RankBy {
    #[default]
    SharpeRatio,
    NetProfitPercentage,
    /// Negative: the smallest loss is the highest.
    MaxDrawdown,
    WinRate,
}

impl RankBy {
    fn as_str(self) -> &'static str {
        match self {
            Self::SharpeRatio => "sharpe_ratio",
            Self::NetProfitPercentage => "net_profit_percentage",
            Self::MaxDrawdown => "max_drawdown",
            Self::WinRate => "win_rate",
        }
    }
}

/// What a batch consists of: a list, or a grid.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    /// What all have in common, as in backtest
    #[serde(default)]
    #[schemars(with = "Map<String, Value>")]
    base: Map<String, Value>,
    /// What differs, one object a job
    #[serde(default)]
    #[schemars(with = "Vec<Map<String, Value>>")]
    jobs: Vec<Value>,
    /// Instead of jobs: every combination of
    /// `{"timeframe":["1h","4h"],"hyperparameters":{"fast":[5,10]},"period":[{"start_date":..,"finish_date":..}]}`
    #[serde(default)]
    #[schemars(with = "Map<String, Value>")]
    grid: Option<Grid>,
    /// continue (default) or stop
    #[serde(default)]
    #[schemars(with = "String")]
    on_failure: OnFailure,
    /// sharpe_ratio (default), net_profit_percentage, max_drawdown or win_rate
    #[serde(default)]
    #[schemars(with = "String")]
    rank_by: RankBy,
}

/// A call of `backtest_batch`.
#[derive(Debug)]
pub(super) struct SubmittingBatch {
    pub(super) request: BatchRequest,
    pub(super) options: SubmitOptions,
    pub(super) rank_by: RankBy,
    pub(super) wait: Duration,
    pub(super) notes: Vec<String>,
}

impl SubmittingBatch {
    pub(super) fn parse(arguments: Value) -> Result<Self, ServiceError> {
        let Value::Object(mut all) = arguments else {
            return Err(ServiceError::new(Code::InvalidRequest, "the arguments must be an object"));
        };
        let options = arguments::parse(arguments::take(&mut all, &Submitting::OPTIONS))?;
        let Wait { wait_seconds } = arguments::parse(arguments::take(&mut all, &["wait_seconds"]))?;
        let own = arguments::take(&mut all, &["base", "jobs", "grid", "on_failure", "rank_by"]);
        let mut batch: Batch = arguments::parse(own)?;
        let mut notes = Vec::new();
        // What is left lies flat, as in `backtest` itself and in jesse-mcp.
        flat(all, &mut batch, &mut notes)?;
        aliases::correct(&mut batch.base, &mut notes);
        for job in &mut batch.jobs {
            if let Value::Object(job) = job {
                aliases::correct(job, &mut notes);
            }
        }
        let Batch { base, jobs, grid, on_failure, rank_by } = batch;
        let wait = arguments::wait(wait_seconds, arguments::DEFAULT_WAIT_S)?;
        let request = BatchRequest { jobs, grid, base, on_failure };
        Ok(Self { request, options, rank_by, wait, notes })
    }
}

/// Takes in what lies beside `base`: what all have in common, or the lists of jesse-mcp.
fn flat(mut all: Map<String, Value>, batch: &mut Batch, notes: &mut Vec<String>) -> Result<(), ServiceError> {
    for (theirs, ours) in [("symbols", "symbol"), ("timeframes", "timeframe")] {
        let Some(values) = all.remove(theirs) else { continue };
        let Value::Array(values) = values else {
            let message = format!("{theirs}: must be a list; it is called grid.{ours} here");
            return Err(ServiceError::new(Code::InvalidRequest, message));
        };
        batch.grid.get_or_insert_default().fields.insert(ours.to_owned(), values);
        aliases::note(notes, format!("{theirs} is called grid.{ours} here"));
    }
    let sets = match all.remove("hyperparameters") {
        Some(Value::Array(sets)) => Some(sets),
        Some(one) => {
            all.insert("hyperparameters".to_owned(), one);
            None
        }
        None => None,
    };
    batch.base.extend(all);
    if let Some(sets) = sets {
        aliases::note(notes, "a list of hyperparameters is a list of jobs here".to_owned());
        batch.jobs = each_with(&sets, batch.grid.take(), std::mem::take(&mut batch.jobs))?;
    }
    Ok(())
}

/// Every job, or combination of the grid, with each set of hyperparameters.
fn each_with(sets: &[Value], grid: Option<Grid>, jobs: Vec<Value>) -> Result<Vec<Value>, ServiceError> {
    let invalid = |message: String| ServiceError::new(Code::InvalidRequest, message);
    let jobs = match grid {
        Some(_) if !jobs.is_empty() => return Err(invalid("jobs, grid: give one of the two".into())),
        Some(grid) => {
            let expanded = grid.expand(&Map::new(), MOST_CHILDREN);
            expanded.map_err(|error| invalid(format!("grid: {error}")))?
        }
        None if jobs.is_empty() => vec![Value::Object(Map::new())],
        None => jobs,
    };
    if jobs.len().saturating_mul(sets.len()) > MOST_CHILDREN {
        return Err(invalid(format!("a batch has 1 to {MOST_CHILDREN} jobs")));
    }
    let with = |job: &Value, set: &Value| {
        let mut job = job.clone();
        if let Value::Object(job) = &mut job {
            job.insert("hyperparameters".to_owned(), set.clone());
        }
        job
    };
    Ok(jobs.iter().flat_map(|job| sets.iter().map(move |set| with(job, set))).collect())
}

/// A batch as agents read it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(extend("additionalProperties" = true))]
pub(super) struct BatchAnswer {
    batch_id: String,
    state: String,
    /// How many are in each state.
    #[schemars(with = "Map<String, Value>")]
    counts: Counts,
    /// Have not ended.
    open: u64,
    #[schemars(skip)]
    rank_by: RankBy,
    /// What the jobs differ in, and their figures; the best first, then the worst.
    #[serde(flatten)]
    table: Table,
    /// Succeeded jobs that the rows leave out.
    left_out: u64,
    /// Some that did not succeed: job_id, code, message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    failures: Vec<[String; 3]>,
    /// What the trials of its campaign amount to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    campaign: Option<Figures>,
    /// What choosing the best of them is worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    selection: Option<Selection>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    next: Option<String>,
}

/// The table of a batch.
pub(super) async fn answer(
    service: &Service,
    tenant: &TenantId,
    batch: &JobView,
    rank_by: RankBy,
) -> Result<BatchAnswer, ServiceError> {
    let counts = batch.counts.unwrap_or_default();
    let total = usize::try_from(counts.total).unwrap_or(usize::MAX);
    let (mut succeeded, mut failures, mut read) = (Vec::new(), Vec::new(), 0);
    while read < total.min(MOST_RANKED) {
        let (_, page) = service.children(tenant, batch.job_id, read, LONGEST_PAGE).await?;
        if page.is_empty() {
            break;
        }
        read += page.len();
        for view in page {
            match (&view.error, view.state) {
                (_, JobState::Succeeded) => succeeded.push(Row::new(&view)),
                (Some(error), _) if failures.len() < FAILURES_SHOWN => {
                    let message = error.message.chars().take(120).collect();
                    failures.push([view.job_id.to_string(), error.code.as_str().to_owned(), message]);
                }
                _ => {}
            }
        }
    }
    let campaign = service.campaign_of_job(tenant, batch).await?;
    let selection = service.selection(tenant, batch).await?;
    let table = ranked(succeeded, rank_by);
    let left_out = counts.succeeded.saturating_sub(table.rows.len() as u64);
    let next = next(batch, counts, total > MOST_RANKED);
    let (batch_id, state) = (batch.job_id.to_string(), batch.state.as_str().to_owned());
    let open = counts.open();
    Ok(BatchAnswer {
        batch_id,
        state,
        counts,
        open,
        rank_by,
        table,
        left_out,
        failures,
        campaign,
        selection,
        next,
    })
}

fn next(batch: &JobView, counts: Counts, unread: bool) -> Option<String> {
    let id: JobId = batch.job_id;
    if !batch.state.is_terminal() {
        return Some(format!("call job_get with job_id {id} and wait_seconds 25"));
    }
    if unread {
        let message =
            format!("only the first {MOST_RANKED} are ranked; page all with job_list and batch_id {id}");
        return Some(message);
    }
    (counts.succeeded > 2 * SHOWN_EACH as u64).then(|| format!("all rows: job_list with batch_id {id}"))
}

/// A job that succeeded.
struct Row {
    id: String,
    asked: BTreeMap<String, Value>,
    metrics: Value,
}

impl Row {
    fn new(view: &JobView) -> Self {
        let asked = flattened(&view.request);
        Self { id: view.job_id.to_string(), asked, metrics: table::metrics(view.summary.as_deref()) }
    }

    fn rank(&self, by: RankBy) -> f64 {
        self.metrics[by.as_str()].as_f64().unwrap_or(f64::NEG_INFINITY)
    }
}

/// The best and the worst, with what they differ in.
fn ranked(mut jobs: Vec<Row>, by: RankBy) -> Table {
    jobs.sort_by(|a, b| b.rank(by).partial_cmp(&a.rank(by)).unwrap_or(Ordering::Equal));
    let varied = varied(&jobs);
    if jobs.len() > 2 * SHOWN_EACH {
        jobs.drain(SHOWN_EACH..jobs.len() - SHOWN_EACH);
    }
    let row = |job: &Row| {
        let asked = varied.iter().map(|name| job.asked.get(name).map_or(Value::Null, table::cell));
        let id = std::iter::once(job.id.clone().into());
        id.chain(asked).chain(table::figures(&job.metrics)).collect()
    };
    let rows = jobs.iter().map(row).collect();
    let figures = table::METRICS.iter().map(|(name, _)| (*name).to_owned());
    let columns = std::iter::once("job_id".to_owned()).chain(varied).chain(figures).collect();
    Table { columns, rows }
}

fn varied(jobs: &[Row]) -> Vec<String> {
    let Some(first) = jobs.first() else { return Vec::new() };
    let names = jobs.iter().flat_map(|job| job.asked.keys()).collect::<std::collections::BTreeSet<_>>();
    let differs = |name: &&&String| jobs.iter().any(|job| job.asked.get(**name) != first.asked.get(**name));
    names.iter().filter(differs).take(MOST_VARIED).map(|name| (*name).clone()).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::{json, value::to_raw_value};

    use super::*;

    fn row(number: u32, sharpe: Option<f64>) -> Row {
        let request =
            json!({"routes": [{"symbol": "BTC-USDT"}], "hyperparameters": {"fast": number}, "fee": 0});
        let asked = flattened(&to_raw_value(&request).unwrap());
        Row { id: number.to_string(), asked, metrics: json!({"sharpe_ratio": sharpe, "total": 3}) }
    }

    #[test]
    fn the_best_come_first_then_the_worst_and_only_what_differs_has_a_column() {
        let mut jobs: Vec<_> =
            (0..20).map(|number| row(number, Some(f64::from(number) + 0.123_456))).collect();
        jobs.push(row(20, None));
        let table = ranked(jobs, RankBy::default());
        assert_eq!(table.columns[..3], ["job_id", "fast", "sharpe_ratio"]);
        assert_eq!(table.rows.len(), 2 * SHOWN_EACH);
        assert_eq!(table.rows[0][..3], [json!("19"), json!(19), json!(19.12)]);
        assert_eq!(table.rows[15][..3], [json!("20"), json!(20), Value::Null]);
    }

    #[test]
    fn the_lists_of_jesse_mcp_are_grids_and_jobs() {
        let arguments = json!({
            "strategy": "S", "symbols": ["A", "B"], "timeframes": ["1h"], "end_date": "2023-02-01",
            "hyperparameters": [{"fast": 1}, {"fast": 2}], "concurrent_limit": 4,
        });
        let SubmittingBatch { request, notes, .. } = SubmittingBatch::parse(arguments).unwrap();
        assert_eq!(request.jobs.len(), 4);
        assert_eq!(
            request.jobs[3],
            json!({"symbol": "B", "timeframe": "1h", "hyperparameters": {"fast": 2}})
        );
        assert_eq!(Value::Object(request.base), json!({"strategy": "S", "finish_date": "2023-02-01"}));
        assert_eq!(notes.len(), 5, "{notes:?}");
        let wrong = SubmittingBatch::parse(json!({"symbols": "A"})).unwrap_err();
        assert!(wrong.message.contains("must be a list"), "{wrong}");
    }
}
