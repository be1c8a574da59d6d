//! Equity by day and month, drawdowns, exposure.

use risk::performance::{drawdown_table, exposure, max_drawdown, monthly_table};
use risk::{EquityCurve, PeriodsPerYear, Side, Trade, Trades};

const DAY: i64 = 86_400_000;
const HOUR: i64 = 3_600_000;

/// 2024-01-30 00:00 UTC.
const START: i64 = 1_706_572_800_000;

fn curve(points: &[(i64, f64)]) -> EquityCurve {
    EquityCurve::new(
        points.iter().map(|(time, _)| START + time).collect(),
        points.iter().map(|(_, value)| *value).collect(),
    )
    .unwrap()
}

#[test]
fn a_day_is_worth_its_last_point_and_an_empty_one_what_was_before() {
    let daily =
        curve(&[(0, 100.0), (5 * HOUR, 101.0), (DAY + HOUR, 103.0), (3 * DAY, 99.0)]).daily().unwrap();
    assert_eq!(daily.values(), [101.0, 103.0, 103.0, 99.0]);
    assert_eq!(daily.times_ms(), [START, START + DAY, START + 2 * DAY, START + 3 * DAY]);
    let returns = daily.daily_returns(PeriodsPerYear::CRYPTO_DAYS).unwrap();
    assert_eq!(returns.values().len(), 3);
    assert!((returns.values()[2] - (99.0 / 103.0 - 1.0)).abs() < 1e-15);
}

#[test]
fn months_compound_to_the_year() {
    let curve = curve(&[(0, 100.0), (DAY, 110.0), (2 * DAY, 121.0), (20 * DAY, 108.9), (400 * DAY, 217.8)]);
    let table = monthly_table(&curve).unwrap();
    assert_eq!(table.years.iter().map(|row| row.year).collect::<Vec<_>>(), [2024, 2025]);
    let [first, second] = [table.years[0], table.years[1]];
    assert!((first.months[0].unwrap() - 0.1).abs() < 1e-12);
    // From the last point of January.
    assert!((first.months[1].unwrap() + 0.01).abs() < 1e-12);
    assert_eq!(first.months[2], None);
    assert!((first.total - 0.089).abs() < 1e-12);
    assert!((second.total - 1.0).abs() < 1e-12);
    assert!((table.positive_months - 2.0 / 3.0).abs() < 1e-12);
}

#[test]
fn drawdowns_have_their_dates() {
    let curve = curve(&[
        (0, 100.0),
        (DAY, 90.0),
        (2 * DAY, 100.0),
        (3 * DAY, 120.0),
        (4 * DAY, 60.0),
        (5 * DAY, 70.0),
        (6 * DAY, 80.0),
    ]);
    let table = drawdown_table(&curve, 1);
    assert_eq!(table.number, 2);
    assert_eq!(table.deepest.len(), 1);
    let deepest = table.deepest[0];
    assert!((deepest.depth - 0.5).abs() < 1e-12);
    assert_eq!((deepest.peak_ms, deepest.trough_ms), (START + 3 * DAY, START + 4 * DAY));
    assert_eq!(deepest.recovered_ms, None);
    assert!((table.current - 1.0 / 3.0).abs() < 1e-12);
    assert!((table.longest_days - 3.0).abs() < 1e-12);
    assert!((table.share_under_water - 5.0 / 6.0).abs() < 1e-12);
    // The start is a peak, too.
    assert!((max_drawdown(&[-0.1, 0.2]) - 0.1).abs() < 1e-12);
}

#[test]
fn exposure_counts_overlapping_trades_once() {
    let trade = |opened: i64, closed: i64, side| Trade {
        opened_ms: opened * HOUR,
        closed_ms: closed * HOUR,
        side,
        profit: 1.0,
    };
    let trades = Trades::new(vec![
        trade(0, 4, Side::Long),
        trade(2, 6, Side::Short),
        trade(3, 3, Side::Long),
        trade(8, 30, Side::Short),
    ])
    .unwrap();
    let ours = exposure(&trades, 0, 10 * HOUR).unwrap();
    assert!((ours.in_market - 0.8).abs() < 1e-12, "{ours:?}");
    assert!((ours.long - 0.4).abs() < 1e-12, "{ours:?}");
    assert!((ours.short - 0.6).abs() < 1e-12, "{ours:?}");
    assert_eq!(ours.most_at_once, 2);
    assert!((ours.median_holding_hours.unwrap() - 4.0).abs() < 1e-12);
}
