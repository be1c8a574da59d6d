//! The curves of a result: read, and thinned to what can be shown.

use analysis::inputs;
use serde_json::value::RawValue;

use super::Fields;
use crate::errors::{Code, ServiceError};

/// Seconds since 1970 (UTC), and a value.
pub(crate) type Point = (i64, f64);

/// Beyond these no axis has a number for it.
const LARGEST: f64 = 1e200;

/// What a result has of curves: the points that have a value, in the order of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Curves {
    /// Two points or more.
    pub(crate) equity: Vec<Point>,
    /// What buying and holding would have been worth, by symbol; of the first one that has a curve.
    pub(crate) benchmark: Option<(String, Vec<Point>)>,
}

impl Curves {
    /// Reads the curves of a backtest. Results of other kinds have none.
    pub(crate) fn read(fields: &Fields) -> Result<Self, ServiceError> {
        let Some(equity) = fields.get("equity_curve") else {
            let message =
                "only the result of a backtest has an equity curve to draw; this job is of another kind";
            return Err(ServiceError::new(Code::InvalidRequest, message));
        };
        let equity = points(equity)?;
        if equity.len() < 2 {
            let message = "the result has no equity curve to draw: the strategy made no trade";
            return Err(ServiceError::new(Code::ResultNotReady, message));
        }
        let benchmarks = fields.get("benchmark_curve").map(|curves| {
            serde_json::from_str::<std::collections::BTreeMap<String, Box<RawValue>>>(curves.get())
                .map_err(|error| unreadable(&error))
        });
        let mut benchmark = None;
        for (symbol, curve) in benchmarks.transpose()?.unwrap_or_default() {
            let curve = points(&curve)?;
            if curve.len() >= 2 {
                benchmark = Some((symbol, curve));
                break;
            }
        }
        Ok(Self { equity, benchmark })
    }

    /// The equity as analyses take it.
    pub(super) fn points(&self) -> Vec<inputs::Point> {
        self.equity.iter().map(|&(time, value)| inputs::Point { time, value }).collect()
    }
}

fn unreadable(error: &serde_json::Error) -> ServiceError {
    ServiceError::internal("a stored equity curve cannot be read", error)
}

/// A strategy without a trade may have no curve at all; one that cannot be read is another matter.
fn points(curve: &RawValue) -> Result<Vec<Point>, ServiceError> {
    let points = serde_json::from_str::<Option<Vec<inputs::Point>>>(curve.get());
    let points = points.map_err(|error| unreadable(&error))?.unwrap_or_default();
    // Beyond the calendar no axis has a name for it.
    for point in &points {
        jiff::Timestamp::from_second(point.time)
            .map_err(|error| ServiceError::internal("a stored equity curve cannot be read", &error))?;
    }
    let mut points: Vec<Point> = points
        .into_iter()
        .filter(|point| point.value.is_finite())
        .map(|point| (point.time, point.value.clamp(-LARGEST, LARGEST)))
        .collect();
    if !points.is_sorted_by_key(|point| point.0) {
        points.sort_by_key(|point| point.0);
    }
    Ok(points)
}

/// By how much each point lies below the highest before it, in percent: value / highest so far - 1, at most 0. Where the
/// highest so far is not positive there is nothing to fall from.
pub(super) fn drawdown(equity: &[Point]) -> Vec<Point> {
    let mut highest = f64::MIN;
    let below = |&(time, value): &Point| {
        highest = highest.max(value);
        (time, if highest > 0.0 { (value / highest - 1.0) * 100.0 } else { 0.0 })
    };
    equity.iter().map(below).collect()
}

/// At most `most` points (4 or more) that show the same: of each of equal stretches of time the lowest and the highest, in
/// their order, so that no extreme is lost, and the ends.
pub(crate) fn thinned(points: &[Point], most: usize) -> Vec<Point> {
    let most = most.max(4);
    let (Some(&first), Some(&last)) = (points.first(), points.last()) else { return Vec::new() };
    if points.len() <= most {
        return points.to_vec();
    }
    let stretches = (most - 2) as i128 / 2;
    let span = i128::from(last.0) - i128::from(first.0) + 1;
    let stretch = |time: i64| (i128::from(time) - i128::from(first.0)) * stretches / span;
    let mut kept = vec![first];
    for group in points[1..points.len() - 1].chunk_by(|a, b| stretch(a.0) == stretch(b.0)) {
        let extreme = |wanted: fn(&f64, &f64) -> std::cmp::Ordering| {
            group.iter().enumerate().max_by(|a, b| wanted(&a.1.1, &b.1.1)).map(|(place, _)| place)
        };
        let (Some(low), Some(high)) = (extreme(|a, b| b.total_cmp(a)), extreme(f64::total_cmp)) else {
            continue;
        };
        kept.push(group[low.min(high)]);
        if low != high {
            kept.push(group[low.max(high)]);
        }
    }
    kept.push(last);
    kept
}
