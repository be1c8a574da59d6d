//! Equity, and the drawdown below it.

use std::ops::Range;

use plotters::{
    coord::{
        Shift,
        combinators::BindKeyPoints,
        ranged1d::{DefaultFormatting, KeyPointHint, Ranged},
        types::RangedCoordf64,
    },
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{
    About, Drawn, FINE, FONT_SCALE, Palette, WIDTH,
    axis::{self, Ticks},
    curve::{Curves, Point, drawdown, thinned},
    drawing, px,
};

const HEIGHT: u32 = 540;
/// Where the panels begin and end, in pixels from above.
const HEAD: i32 = 76;
const SPLIT: i32 = 380;
/// Room for the labels of values, and of times.
const LEFT: u32 = 84;
const BELOW: u32 = 32;
const MARGIN: i32 = 18;
/// Points of a curve: two for each unit of the panel's width at most.
const MOST_POINTS: usize = 3200;
/// Labels of times that fit beside each other.
const MOST_TIMES: usize = 8;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Text of a size in pixels.
pub(super) fn text(size: f64, color: RGBColor) -> TextStyle<'static> {
    TextStyle {
        font: ("sans-serif", size * FONT_SCALE * f64::from(FINE)).into_font(),
        color: color.to_backend_color(),
        pos: Pos::new(HPos::Left, VPos::Top),
    }
}

/// A line of a panel.
struct Line<'a> {
    points: &'a [Point],
    color: RGBColor,
}

/// What a panel shows, in which range, and how its values are written.
struct Panel<'a> {
    range: Range<f64>,
    ticks: Vec<f64>,
    /// Filled down, or up, to this value.
    base: f64,
    main: Line<'a>,
    /// Where it began.
    level: Option<f64>,
    other: Option<Line<'a>>,
    unit: &'static str,
    /// Whether the labels of times stand below it.
    times: bool,
}

pub(super) fn draw(curves: &Curves, about: &About, palette: &Palette) -> Drawn {
    let equity = &curves.equity;
    let below = drawdown(equity);
    let (first, last) = (equity[0], equity[equity.len() - 1]);
    let deepest = below.iter().map(|point| point.1).fold(0.0, f64::min);
    let gain = (first.1 > 0.0).then(|| (last.1 / first.1 - 1.0) * 100.0);
    let gain = gain.map_or_else(String::new, |gain| format!("{} %, ", axis::signed(gain, 2)));
    let figures = format!("{gain}max drawdown {} %", axis::number(deepest, 2));
    let days = format!("{} to {}", axis::day(first.0), axis::day(last.0));
    let label = format!("Equity of {}, {days}: {figures}", about.title);
    drawing((WIDTH, HEIGHT), &label, |backend| {
        let root = backend.into_drawing_area();
        root.fill(&palette.surface)?;
        let end = i32::try_from(root.dim_in_pixel().0)? - px(MARGIN);
        let right = Pos::new(HPos::Right, VPos::Top);
        let line = |words: &str, place: (i32, i32), style: &TextStyle<'_>| {
            root.draw(&Text::new(words.to_owned(), place, style.clone()))
        };
        line(&about.title, (px(MARGIN), px(14)), &text(17.0, palette.ink))?;
        line(&figures, (end, px(15)), &text(15.0, palette.ink).pos(right))?;
        let unit = if about.unit.is_empty() { String::new() } else { format!(", {}", about.unit) };
        line(&format!("Equity{unit}"), (px(MARGIN), px(46)), &text(13.0, palette.gain))?;
        if let Some((symbol, _)) = &curves.benchmark {
            let held = format!("buying and holding {}", super::shown(symbol, 30));
            line(&held, (px(MARGIN + 130), px(46)), &text(13.0, palette.benchmark))?;
        }
        line(&days, (end, px(46)), &text(13.0, palette.muted).pos(right))?;

        let times = Ticks::new(first.0, last.0, MOST_TIMES);
        let span = first.0..last.0.max(first.0.saturating_add(1));
        let (upper, lower) = root.margin(px(HEAD), 0, 0, px(MARGIN)).split_vertically(px(SPLIT - HEAD));
        let main = thinned(equity, MOST_POINTS);
        let other = curves.benchmark.as_ref().map(|(_, points)| thinned(points, MOST_POINTS));
        let (low, high) = bounds(main.iter().chain(other.iter().flatten()));
        let margin = ((high - low) * 0.05).max(high.abs() * 0.002).max(1e-9);
        let range = low - margin..high + margin;
        let mut ticks = axis::values(range.start, range.end, 5.0);
        // The label of one at the very bottom would stand in the heading below.
        ticks.retain(|tick| tick - range.start > (range.end - range.start) * 0.04);
        panel(
            &upper,
            &Panel {
                ticks,
                base: range.start,
                range,
                main: Line { points: &main, color: palette.gain },
                level: Some(first.1),
                other: other.as_ref().map(|points| Line { points, color: palette.benchmark }),
                unit: "",
                times: false,
            },
            span.clone(),
            &times,
            palette,
        )?;
        let below = thinned(&below, MOST_POINTS);
        let range = deepest.min(-0.5) * 1.08..0.0;
        let heading = (px(MARGIN), px(SPLIT + 3));
        let lower = lower.margin(px(32), 0, 0, 0);
        line("Drawdown, %", heading, &text(13.0, palette.loss))?;
        panel(
            &lower,
            &Panel {
                ticks: axis::values(range.start, range.end, 4.0),
                base: 0.0,
                range,
                main: Line { points: &below, color: palette.loss },
                level: None,
                other: None,
                unit: " %",
                times: true,
            },
            span,
            &times,
            palette,
        )?;
        root.present()?;
        Ok(())
    })
}

fn bounds<'a>(points: impl Iterator<Item = &'a Point>) -> (f64, f64) {
    points
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| (low.min(point.1), high.max(point.1)))
}

/// An axis of values with ticks of ours.
struct Values {
    axis: RangedCoordf64,
    ticks: Vec<f64>,
}

impl Ranged for Values {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.axis.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.axis.range()
    }
}

fn panel(
    area: &Area<'_>,
    panel: &Panel<'_>,
    span: Range<i64>,
    times: &Ticks,
    palette: &Palette,
) -> Result<(), Box<dyn std::error::Error>> {
    let decimals = axis::decimals(&panel.ticks);
    let mut chart = ChartBuilder::on(area)
        .x_label_area_size(if panel.times { px(i32::try_from(BELOW)?) } else { 0 })
        .y_label_area_size(px(i32::try_from(LEFT)?))
        .build_cartesian_2d(
            span.clone().with_key_points(times.at.clone()),
            Values { axis: panel.range.clone().into(), ticks: panel.ticks.clone() },
        )?;
    let labels = text(13.0, palette.muted);
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(palette.grid)
        .axis_style(palette.grid)
        .set_all_tick_mark_size(px(4))
        .label_style(labels)
        .x_label_formatter(&|at| times.label(*at))
        .y_label_formatter(&|value| axis::number(*value, decimals) + panel.unit)
        .draw()?;
    let Line { points, color } = &panel.main;
    chart.draw_series(AreaSeries::new(points.iter().copied(), panel.base, color.mix(0.12)))?;
    if let Some(level) = panel.level {
        let dashes = [(span.start, level), (span.end, level)];
        chart.draw_series(DashedLineSeries::new(dashes, px(5), px(4), palette.muted.stroke_width(1)))?;
    }
    if let Some(Line { points, color }) = &panel.other {
        chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?;
    }
    chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(3)))?;
    Ok(())
}
