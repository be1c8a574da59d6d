#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
use super::*;

const DAY: i64 = 86_400;
const DAY_S: u32 = 86_400;

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.into()).unwrap()
}

fn fields(curve: &str) -> Fields {
    Fields::from([("equity_curve".to_owned(), raw(curve))])
}

fn about() -> About {
    let request = r#"{"routes":[{"strategy":"SmaCross","symbol":"BTC-USDT","timeframe":"1h"}]}"#;
    About::of(&raw(request))
}

fn look(kind: Kind, theme: Theme) -> Look {
    Look { kind, theme }
}

/// A walk whose steps come from a simple generator, so that it is the same everywhere.
fn walk(points: u32, step_s: u32, seed: u64) -> Vec<Point> {
    let scale = 0.03 * (f64::from(step_s) / 86_400.0).sqrt();
    let mut state = seed;
    let mut value = 10_000.0;
    (0..i64::from(points))
        .map(|number| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let share = f64::from(u32::try_from(state >> 33).unwrap()) / f64::from(1_u32 << 31) - 0.49;
            value *= 1.0 + share * scale;
            (1_672_531_200 + number * i64::from(step_s), value)
        })
        .collect()
}

fn curves(equity: Vec<Point>) -> Curves {
    Curves { equity, benchmark: None }
}

/// Both pictures on both grounds, each of them SVG that renders to a PNG.
fn drawn(name: &str, curves: &Curves) {
    for (kind, theme) in [
        (Kind::Equity, Theme::Light),
        (Kind::Equity, Theme::Dark),
        (Kind::Monthly, Theme::Light),
        (Kind::Monthly, Theme::Dark),
    ] {
        let look = look(kind, theme);
        let svg = picture(curves, &about(), look).unwrap_or_else(|error| panic!("{name} {look}: {error}"));
        assert!(
            svg.starts_with("<svg width=\"960\"") && svg.contains("SmaCross BTC-USDT 1h"),
            "{name} {look}"
        );
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name} {look}");
        let png = png::rendered(&svg).unwrap();
        assert!(png.starts_with(b"\x89PNG"), "{name} {look}");
        // For people to look at: JESSE_JOBS_CHARTS=/tmp/charts cargo test -p jesse-jobs --lib charts
        if let Some(folder) = std::env::var_os("JESSE_JOBS_CHARTS") {
            let file = std::path::Path::new(&folder).join(format!("{name} {look}.png").replace(' ', "-"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, &png).unwrap();
            std::fs::write(file.with_extension("svg"), &svg).unwrap();
        }
    }
}

#[test]
fn curves_of_all_lengths_and_shapes_are_drawn() {
    drawn("year", &curves(walk(365, DAY_S, 7)));
    drawn("years", &curves(walk(365 * 6, DAY_S, 3)));
    drawn("month", &curves(walk(29, DAY_S, 5)));
    drawn("day", &curves(walk(24, 3600, 5)));
    drawn("minutes", &curves(walk(1_000_000, 60, 11)));
    drawn("constant", &curves((0..60).map(|day| (1_672_531_200 + day * DAY, 10_000.0)).collect()));
    drawn("two", &curves(vec![(0, 100.0), (DAY, 90.0)]));
    drawn("tiny", &curves(walk(90, DAY_S, 9).into_iter().map(|(time, value)| (time, value / 1e9)).collect()));
    drawn("huge", &curves(walk(90, DAY_S, 9).into_iter().map(|(time, value)| (time, value * 1e9)).collect()));
    drawn("long", &curves(walk(365 * 60, DAY_S, 13)));
    let mut held = curves(walk(365, DAY_S, 7));
    held.benchmark = Some(("BTC-USDT".into(), walk(365, DAY_S, 21)));
    drawn("benchmark", &held);
}

#[test]
fn what_is_no_curve_is_told_from_what_cannot_be_read() {
    for none in
        ["[]", "null", r#"[{"time":0,"value":1}]"#, r#"[{"time":0,"value":1},{"time":1,"value":null}]"#]
    {
        let error = Curves::read(&fields(none)).unwrap_err();
        assert!(error.code == Code::ResultNotReady && error.message.contains("no trade"), "{none}: {error}");
    }
    let beyond = r#"[{"time":-9223372036854775808,"value":1},{"time":9223372036854775807,"value":5}]"#;
    for unreadable in [r#"{"a":1}"#, r#"[{"time":0}]"#, beyond] {
        assert_eq!(Curves::read(&fields(unreadable)).unwrap_err().code, Code::Internal, "{unreadable}");
    }
    let other = Curves::read(&Fields::new()).unwrap_err();
    assert!(other.code == Code::InvalidRequest && other.message.contains("another kind"), "{other}");
}

#[test]
fn odd_curves_are_drawn_or_refused_with_the_reason() {
    // All at once, all lost, less than nothing, beyond every axis, out of order.
    for odd in [
        r#"[{"time":0,"value":1},{"time":0,"value":5}]"#,
        r#"[{"time":0,"value":1},{"time":86400,"value":0}]"#,
        r#"[{"time":0,"value":-1},{"time":86400,"value":-5}]"#,
        r#"[{"time":0,"value":1e-308},{"time":86400,"value":1e308}]"#,
        r#"[{"time":172800,"value":2},{"time":0,"value":1},{"time":86400,"value":3}]"#,
    ] {
        let curves = Curves::read(&fields(odd)).unwrap();
        for theme in [Theme::Light, Theme::Dark] {
            let equity = picture(&curves, &about(), look(Kind::Equity, theme)).unwrap();
            assert!(png::rendered(&equity).is_ok(), "{odd}");
            match picture(&curves, &about(), look(Kind::Monthly, theme)) {
                Ok(monthly) => assert!(png::rendered(&monthly).is_ok(), "{odd}"),
                Err(error) => {
                    assert_eq!(error.code, Code::ResultNotReady, "{odd}: {error}");
                    assert!(error.message.starts_with("no monthly returns: "), "{odd}: {error}");
                }
            }
        }
    }
}

#[test]
fn thinning_keeps_the_ends_every_extreme_and_the_order() {
    let mut points = walk(200_000, 60, 17);
    let (spike, dip) = (123_457, 77_777);
    points[spike].1 = 1e6;
    points[dip].1 = -1e6;
    for most in [4, 5, 100, 500, 3200] {
        let thin = thinned(&points, most);
        assert!(thin.len() <= most, "{} of {most}", thin.len());
        assert_eq!((thin[0], thin[thin.len() - 1]), (points[0], points[points.len() - 1]));
        assert!(thin.contains(&points[spike]) && thin.contains(&points[dip]), "{most}");
        assert!(thin.is_sorted_by_key(|point| point.0));
    }
    // Each stretch keeps its own lowest and highest, not only those of the whole.
    let thin = thinned(&points, 202);
    let stretch =
        |point: &Point| (point.0 - points[0].0) * 100 / (points[points.len() - 1].0 - points[0].0 + 1);
    for number in 0..100 {
        let of = |points: &[Point]| {
            let inside = points.iter().filter(|point| stretch(point) == number).map(|point| point.1);
            inside.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            })
        };
        assert_eq!(of(&thin), of(&points), "{number}");
    }
    assert_eq!(thinned(&points[..50], 100), points[..50]);
    assert_eq!(thinned(&[], 100), []);
}

#[test]
fn a_drawdown_is_what_is_lost_since_the_highest_point() {
    let equity = [(0, 100.0), (1, 120.0), (2, 90.0), (3, 150.0), (4, 75.0)];
    let below: Vec<_> = curve::drawdown(&equity).iter().map(|point| point.1.round()).collect();
    assert_eq!(below.as_slice(), [0.0, 0.0, -25.0, 0.0, -50.0].as_slice());
    assert!(curve::drawdown(&[(0, -5.0), (1, -10.0)]).iter().all(|point| point.1 == 0.0));
}

#[test]
fn months_are_those_of_the_days_whose_returns_they_are() {
    // Doubled in January, all of that lost again on the first day of February.
    let points: Vec<Point> =
        [(0, 100.0), (31, 200.0), (32, 100.0)].map(|(day, value)| (day * DAY, value)).into();
    let table = analysis::monthly_returns(&curves(points.clone()).points()).unwrap();
    let near =
        |value: Option<f64>, expected: f64| value.is_some_and(|value| (value - expected).abs() < 1e-12);
    // A return belongs to the day in which the middle of its time lies.
    assert!(near(table.years[0].months[0], 1.0) && near(table.years[0].months[1], -0.5), "{table:?}");
    let svg = picture(&curves(points), &about(), look(Kind::Monthly, Theme::Light)).unwrap();
    assert!(svg.contains("+100") && svg.contains("\u{2212}50.0") && svg.contains("1970: 0.0 %"), "{svg}");
}

#[test]
fn ticks_are_round_times_and_values() {
    let hour = 3600;
    let january = 1_672_531_200;
    for (length, labels) in [
        (12 * hour, vec!["01-01 00:00", "01-01 03:00", "01-01 06:00", "01-01 09:00", "01-01 12:00"]),
        (
            6 * DAY,
            vec![
                "2023-01-01",
                "2023-01-02",
                "2023-01-03",
                "2023-01-04",
                "2023-01-05",
                "2023-01-06",
                "2023-01-07",
            ],
        ),
        (28 * DAY, vec!["2023-01-02", "2023-01-09", "2023-01-16", "2023-01-23"]),
        (200 * DAY, vec!["2023-01", "2023-02", "2023-03", "2023-04", "2023-05", "2023-06", "2023-07"]),
        (6 * 365 * DAY, vec!["2023", "2024", "2025", "2026", "2027", "2028"]),
    ] {
        let ticks = axis::Ticks::new(january, january + length, 8);
        let found: Vec<_> = ticks.at.iter().map(|at| ticks.label(*at)).collect();
        assert_eq!(found, labels);
    }
    let ticks = axis::values(9_700.0, 10_420.0, 5.0);
    assert_eq!(ticks.as_slice(), [9_800.0, 10_000.0, 10_200.0, 10_400.0].as_slice());
    assert!(axis::values(1.0, 1.0, 5.0).is_empty());
    for (low, high, decimals) in [(0.0, 1e4, 0), (0.0, 11.0, 1), (0.0, 1.1, 2), (1e-5, 1.2e-5, 7)] {
        assert_eq!(axis::decimals(&axis::values(low, high, 5.0)), decimals, "{low} {high}");
    }
    for (value, decimals, text) in [
        (1_234_567.891, 1, "1,234,567.9"),
        (-0.001, 2, "0.00"),
        (-1234.5, 0, "\u{2212}1,234"),
        (999.0, 0, "999"),
        (1.5e15, 2, "1.50e15"),
    ] {
        assert_eq!(axis::number(value, decimals), text);
    }
}

#[test]
fn names_cannot_break_out_of_a_picture() {
    let hostile = "\u{1b}[31m</text><script>alert(1)</script>\"&\u{202e}\u{0}".repeat(20);
    let request =
        serde_json::json!({"routes": [{"strategy": hostile, "symbol": hostile, "timeframe": "1h"}, {}]});
    let about = About::of(&raw(&request.to_string()));
    for kind in [Kind::Equity, Kind::Monthly] {
        let svg = picture(&curves(walk(90, DAY_S, 1)), &about, look(kind, Theme::Dark)).unwrap();
        for hostile in ["<script", "\u{1b}", "\u{0}", "\u{202e}"] {
            assert!(!svg.contains(hostile), "{hostile:?}: {svg}");
        }
        assert!(png::rendered(&svg).is_ok());
    }
}
