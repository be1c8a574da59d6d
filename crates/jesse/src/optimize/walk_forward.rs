//! Walk-forward analysis: the period is cut into windows, each with a training period that is searched and the test period
//! that follows it. What counts is how the winners of the training periods did afterwards.

use jiff::{ToSpan as _, civil::Date};
use jobs::{CacheKey, JobError, Kind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    plan::OptimizePlan,
    spec::{OptimizeRequest, OptimizeSpec},
};
use crate::{
    catalogue::Catalogue,
    parent::{ForChildren, invalid, key, read, split},
    plan::KEY_VERSION,
};

/// The most windows.
pub const WINDOWS_MOST: usize = 60;

/// How the period is cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowsRequest {
    /// Of each training
    pub train_days: u32,
    /// Of the test after it, by which windows move on
    pub test_days: u32,
    /// Always train from start_date on
    #[serde(default)]
    pub anchored: bool,
}

const WINDOWS_FIELDS: [&str; 3] = ["train_days", "test_days", "anchored"];

/// A walk-forward analysis as a client writes it: the fields of an optimisation and those of [`WindowsRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct WalkForwardRequest {
    /// What is searched in each window.
    pub optimize: OptimizeRequest,
    /// The windows.
    pub windows: WindowsRequest,
}

impl WalkForwardRequest {
    /// Reads one object.
    pub fn parse(fields: Map<String, Value>) -> Result<Self, JobError> {
        let (windows, others) = split(fields, &WINDOWS_FIELDS);
        let Value::Object(others) = others else { return Err(invalid(&[])) };
        Ok(Self { windows: read(windows)?, optimize: OptimizeRequest::parse(others)? })
    }
}

/// One that can be run: the optimisation of each window, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WalkForwardSpec {
    /// The windows.
    pub windows: Vec<OptimizeSpec>,
}

impl WalkForwardSpec {
    /// Checks a request and cuts the period.
    pub fn check(request: &WalkForwardRequest, catalogue: &Catalogue) -> Result<Self, JobError> {
        let mut whole = request.optimize.clone();
        if whole.search.test_share.is_some() || whole.search.test_start_date.is_some() {
            return Err(wrong("test_share", "each window has its test period: test_days"));
        }
        whole.search.test_share = Some(0.0);
        let template = OptimizeSpec::check(&whole, catalogue)?;
        let (start, finish) = (template.train.start_date, template.train.finish_date);
        let windows = cut(start, finish, &request.windows)?;
        let window = |(train, test, end): (Date, Date, Date)| {
            let mut request = request.optimize.clone();
            request.backtest.start_date = train.to_string();
            request.backtest.finish_date = end.to_string();
            request.search.test_start_date = Some(test.to_string());
            OptimizeSpec::check(&request, catalogue)
        };
        Ok(Self { windows: windows.into_iter().map(window).collect::<Result<_, _>>()? })
    }
}

fn wrong(field: &str, message: &str) -> JobError {
    invalid(&[(field.to_owned(), message.to_owned())])
}

/// The windows as first day of training, first day of the test, day after the test.
fn cut(start: Date, finish: Date, request: &WindowsRequest) -> Result<Vec<(Date, Date, Date)>, JobError> {
    let WindowsRequest { train_days, test_days, anchored } = *request;
    for (field, days) in [("train_days", train_days), ("test_days", test_days)] {
        if !(1..=20_000).contains(&days) {
            return Err(wrong(field, "must be from 1 to 20000"));
        }
    }
    let mut windows = Vec::new();
    for number in 0..=WINDOWS_MOST {
        let shift = i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(test_days.into());
        let day = |days: i64| start.checked_add(days.days()).ok();
        let train = if anchored { Some(start) } else { day(shift) };
        let test = day(shift + i64::from(train_days));
        let end = day(shift + i64::from(train_days) + i64::from(test_days));
        match (train, test, end) {
            (Some(train), Some(test), Some(end)) if end <= finish => windows.push((train, test, end)),
            _ => break,
        }
    }
    match windows.len() {
        0 => {
            Err(wrong("train_days", "the period has no room for a single window of train_days and test_days"))
        }
        number if number > WINDOWS_MOST => {
            Err(wrong("test_days", &format!("makes more than {WINDOWS_MOST} windows; test for longer")))
        }
        _ => Ok(windows),
    }
}

/// What a worker needs for the next step, beside the spec.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WalkForwardPlan {
    /// The plan of each window's search; none once they were submitted.
    pub windows: Vec<OptimizePlan>,
    /// How the searches are treated.
    pub children: ForChildren,
    /// The keys of the searches' results, once they were submitted.
    #[serde(default)]
    pub submitted: Option<Vec<CacheKey>>,
}

impl WalkForwardPlan {
    /// The key of the result.
    pub fn cache_key(&self, spec: &WalkForwardSpec) -> CacheKey {
        let keys: Vec<_> =
            self.windows.iter().zip(&spec.windows).map(|(plan, spec)| plan.cache_key(spec)).collect();
        key(&(KEY_VERSION, Kind::WalkForward, keys))
    }
}

/// The result: the best of each window, before and after, and what they add up to. `found` are the summaries of the
/// searches, or why there is none.
pub fn result(spec: &WalkForwardSpec, found: &[Result<Value, String>]) -> Value {
    let mut windows = Vec::new();
    let (mut growth, mut tested, mut gained, mut efficiencies) = (1.0, 0_u32, 0_u32, Vec::new());
    for (window, found) in spec.windows.iter().zip(found) {
        let mut shown = json!({
            "train_start": window.train.start_date,
            "test_start": window.train.finish_date,
            "test_finish": window.test.as_ref().map(|test| test.finish_date),
        });
        match found {
            Ok(summary) if summary["best"].is_object() => {
                let best = &summary["best"];
                for field in ["hyperparameters", "score", "train", "test", "error"] {
                    shown[field] = best[field].clone();
                }
                if let Some(percent) = best["test"]["net_profit_percentage"].as_f64() {
                    growth *= 1.0 + percent / 100.0;
                    tested += 1;
                    gained += u32::from(percent > 0.0);
                }
                let annual = |period: &str| best[period]["annual_return"].as_f64();
                if let (Some(before), Some(after)) = (annual("train"), annual("test"))
                    && before > 0.0
                {
                    efficiencies.push(after / before);
                }
            }
            Ok(_) => shown["error"] = "no trial of this window was of use, so nothing was tested".into(),
            Err(error) => shown["error"] = error.as_str().into(),
        }
        windows.push(shown);
    }
    efficiencies.sort_by(f64::total_cmp);
    json!({
        "windows": windows,
        "out_of_sample": {
            "windows_tested": tested,
            "windows_with_gain": gained,
            // Of the test periods one after the other, each beginning with what the one before left.
            "net_profit_percentage": (tested > 0).then_some((growth - 1.0) * 100.0),
        },
        // Annual return after over annual return before, the median of the windows that gained before.
        "efficiency": efficiencies.get(efficiencies.len() / 2),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(train_days: u32, test_days: u32, anchored: bool) -> Vec<String> {
        let (start, finish) = (Date::constant(2023, 1, 1), Date::constant(2023, 4, 1));
        let request = WindowsRequest { train_days, test_days, anchored };
        let windows = cut(start, finish, &request).unwrap_or_default();
        windows.iter().map(|(train, test, end)| format!("{train} {test} {end}")).collect()
    }

    #[test]
    fn windows_follow_each_other_and_end_within_the_period() {
        assert_eq!(
            windows(30, 30, false),
            ["2023-01-01 2023-01-31 2023-03-02", "2023-01-31 2023-03-02 2023-04-01"]
        );
        assert_eq!(
            windows(30, 29, true),
            ["2023-01-01 2023-01-31 2023-03-01", "2023-01-01 2023-03-01 2023-03-30"]
        );
        assert!(windows(80, 30, false).is_empty());
        assert!(windows(10, 1, false).is_empty(), "80 are too many");
    }
}
