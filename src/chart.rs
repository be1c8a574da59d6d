//! The equity curve with the drawdown below it, as SVG.

use jiff::Timestamp;
use plotters::{coord::Shift, prelude::*};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::errors::{Code, ServiceError};

const SIZE: (u32, u32) = (960, 540);
const FONT: (&str, u32) = ("sans-serif", 14);
const EQUITY: RGBColor = RGBColor(31, 119, 180);
const DRAWDOWN: RGBColor = RGBColor(214, 39, 40);

#[derive(Deserialize)]
struct Point {
    time: i64,
    value: f64,
}

/// Draws an equity curve as the result has it: `[{"time": seconds, "value": balance}, ...]`. Results of other kinds than
/// backtests have none.
pub(crate) fn equity(curve: Option<&RawValue>) -> Result<String, ServiceError> {
    let Some(curve) = curve else {
        let message =
            "only the result of a backtest has an equity curve to draw; this job is of another kind";
        return Err(ServiceError::new(Code::InvalidRequest, message));
    };
    // A strategy without a trade may have no curve at all; one that cannot be read is another matter.
    let points: Option<Vec<Point>> = serde_json::from_str(curve.get())
        .map_err(|error| ServiceError::internal("a stored equity curve cannot be read", &error))?;
    let points = points.unwrap_or_default();
    if points.len() < 2 {
        let message = "the result has no equity curve to draw: the strategy made no trade";
        return Err(ServiceError::new(Code::ResultNotReady, message));
    }
    let mut svg = String::new();
    draw(&points, &mut svg).map_err(|error| ServiceError::internal("a chart cannot be drawn", &*error))?;
    Ok(svg)
}

fn draw(points: &[Point], svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (upper, lower) = root.split_vertically((70).percent_height());
    let equity: Vec<_> = points.iter().map(|point| (point.time, point.value)).collect();
    let mut peak = f64::MIN;
    let drawdown: Vec<_> = equity
        .iter()
        .map(|&(time, value)| {
            peak = peak.max(value);
            (time, if peak > 0.0 { (value / peak - 1.0) * 100.0 } else { 0.0 })
        })
        .collect();
    let values = equity.iter().map(|point| point.1);
    let (low, high) = (values.clone().fold(f64::MAX, f64::min), values.fold(f64::MIN, f64::max));
    let margin = ((high - low) * 0.05).max(high.abs() * 1e-6).max(1e-9);
    let deepest = drawdown.iter().map(|point| point.1).fold(0.0, f64::min).min(-0.1);
    panel(&upper, "Equity", &equity, low - margin..high + margin, low - margin, EQUITY)?;
    panel(&lower, "Drawdown, %", &drawdown, deepest * 1.05..0.0, 0.0, DRAWDOWN)?;
    root.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    points: &[(i64, f64)],
    range: std::ops::Range<f64>,
    base: f64,
    color: RGBColor,
) -> Result<(), Box<dyn std::error::Error>> {
    let (first, last) = (points[0].0, points[points.len() - 1].0.max(points[0].0 + 1));
    let mut chart = ChartBuilder::on(area)
        .caption(title, FONT)
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(70)
        .build_cartesian_2d(first..last, range)?;
    let day = |seconds: &i64| {
        Timestamp::from_second(*seconds)
            .map_or_else(|_| String::new(), |time| time.strftime("%Y-%m-%d").to_string())
    };
    chart.configure_mesh().light_line_style(WHITE).x_labels(6).y_labels(5).x_label_formatter(&day).draw()?;
    chart.draw_series(AreaSeries::new(points.iter().copied(), base, color.mix(0.15)))?;
    chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.into()).unwrap()
    }

    #[test]
    fn draws_a_curve_and_refuses_what_is_none() {
        let svg = equity(Some(&raw(
            r#"[{"time":0,"value":100},{"time":86400,"value":90},{"time":172800,"value":120}]"#,
        )))
        .unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("Drawdown") && svg.contains("1970-01-02"), "{svg}");
        for none in ["[]", "null", r#"[{"time":0,"value":1}]"#] {
            assert_eq!(equity(Some(&raw(none))).unwrap_err().code, Code::ResultNotReady, "{none}");
        }
        for unreadable in [r#"{"a":1}"#, r#"[{"time":0}]"#] {
            assert_eq!(equity(Some(&raw(unreadable))).unwrap_err().code, Code::Internal, "{unreadable}");
        }
        let other = equity(None).unwrap_err();
        assert!(other.code == Code::InvalidRequest && other.message.contains("another kind"), "{other}");
        // A flat curve, and one that loses everything, are curves too.
        for odd in [
            r#"[{"time":0,"value":1},{"time":1,"value":1}]"#,
            r#"[{"time":0,"value":1},{"time":0,"value":-5}]"#,
        ] {
            assert!(equity(Some(&raw(odd))).is_ok(), "{odd}");
        }
    }
}
