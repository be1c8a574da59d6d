//! Wealth on a logarithmic scale, with the drawdown below it, as SVG in a page.

use std::fmt::Write;

const WIDTH: f64 = 960.0;
const UPPER: f64 = 260.0;
const LOWER: f64 = 120.0;
const GAP: f64 = 20.0;

/// Points are seconds since 1970, ascending, and levels above 0.
pub(super) fn svg(points: &[(f64, f64)]) -> String {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    let span = (last.0 - first.0).max(1.0);
    let x = |time: f64| (time - first.0) / span * WIDTH;
    let logs = || points.iter().map(|point| point.1.max(1e-12).ln());
    let (low, high) = (logs().fold(f64::INFINITY, f64::min), logs().fold(f64::NEG_INFINITY, f64::max));
    let height = (high - low).max(1e-9);
    let wealth = line(
        points.iter().zip(logs()).map(|(point, log)| (x(point.0), UPPER - (log - low) / height * UPPER)),
    );
    let mut peak = f64::NEG_INFINITY;
    let depths: Vec<(f64, f64)> = points
        .iter()
        .map(|point| {
            peak = peak.max(point.1);
            (point.0, 1.0 - point.1 / peak)
        })
        .collect();
    let deepest = depths.iter().map(|depth| depth.1).fold(1e-9, f64::max);
    let below = |depth: f64| UPPER + GAP + depth / deepest * LOWER;
    let water = line(depths.iter().map(|depth| (x(depth.0), below(depth.1))));
    let total = UPPER + GAP + LOWER;
    let label = |at: f64, text: &str| {
        format!("<text x=\"4\" y=\"{at:.0}\" font-size=\"13\" fill=\"currentColor\">{text}</text>")
    };
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {total}\" role=\"img\" aria-label=\"wealth and drawdown\">\
         <polyline fill=\"none\" stroke=\"#1f77b4\" stroke-width=\"2\" points=\"{wealth}\"/>\
         <polyline fill=\"none\" stroke=\"#d62728\" stroke-width=\"1.5\" points=\"{water}\"/>{}{}</svg>",
        label(14.0, &format!("wealth {:.3} to {:.3}", low.exp(), high.exp())),
        label(UPPER + GAP - 4.0, &format!("drawdown, deepest {:.1} %", 100.0 * deepest)),
    )
}

fn line(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut text = String::new();
    for (x, y) in points {
        // Writing to a string cannot fail.
        let _written = write!(text, "{x:.1},{y:.1} ");
    }
    text
}
