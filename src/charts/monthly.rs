//! Returns by month, as a heat map: a row for each year.

use analysis::{MonthlyTable, YearOfReturns};
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{About, Drawn, Palette, WIDTH, axis, drawing, equity::text, px};

const HEAD: i32 = 78;
const ROW: i32 = 36;
const FOOT: i32 = 40;
const MARGIN: i32 = 18;
const YEAR: i32 = 56;
const CELL: i32 = 64;
const GAP: i32 = 2;
/// The last years of a longer record: more would not be a picture.
const MOST_YEARS: usize = 40;
/// The least return, in percent, that has the full colour, so that little is not made to look like much.
const FULL: f64 = 4.0;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

pub(super) fn draw(table: &MonthlyTable, about: &About, palette: &Palette) -> Drawn {
    let left_out = table.years.len().saturating_sub(MOST_YEARS);
    let years = &table.years[left_out..];
    let rows = i32::try_from(years.len())?;
    let height = u32::try_from(HEAD + rows * ROW + FOOT)?;
    let label = format!("Monthly returns of {}: {}", about.title, in_words(years));
    drawing((WIDTH, height), &label, |backend| {
        let root = backend.into_drawing_area();
        root.fill(&palette.surface)?;
        let write = |words: String, (x, y): (i32, i32), style: TextStyle<'_>| {
            root.draw(&Text::new(words, (px(x), px(y)), style))
        };
        let centred = |style: TextStyle<'static>| style.pos(Pos::new(HPos::Center, VPos::Center));
        let end = i32::try_from(WIDTH)? - MARGIN;
        write(about.title.clone(), (MARGIN, 14), text(17.0, palette.ink))?;
        let right = Pos::new(HPos::Right, VPos::Top);
        write("Monthly returns, %".to_owned(), (end, 16), text(14.0, palette.muted).pos(right))?;
        let column = |number: usize| i32::try_from(number).map(|number| MARGIN + YEAR + number * CELL);
        for (number, name) in MONTHS.iter().chain(&["Year"]).enumerate() {
            let middle = column(number)? + CELL / 2 + if number == 12 { CELL / 4 } else { 0 };
            write((*name).to_owned(), (middle, HEAD - 16), centred(text(13.0, palette.muted)))?;
        }
        let full = years.iter().flat_map(|year| year.months).flatten().map(|value| (value * 100.0).abs());
        let full = full.fold(FULL, f64::max);
        for (number, year) in years.iter().enumerate() {
            let top = HEAD + i32::try_from(number)? * ROW;
            let middle = top + ROW / 2;
            let style = text(13.0, palette.muted).pos(Pos::new(HPos::Left, VPos::Center));
            write(year.year.to_string(), (MARGIN, middle), style)?;
            let months = year.months.iter().enumerate().map(|(month, value)| (month, *value, false));
            for (place, value, whole_year) in months.chain([(12, Some(year.total), true)]) {
                let from = column(place)? + if whole_year { CELL / 4 } else { 0 };
                let to = from + CELL - GAP;
                let corners = [(px(from), px(top)), (px(to), px(top + ROW - GAP))];
                let percent = value.map(|value| value * 100.0);
                // Years are of another size than months: they are told, not coloured.
                let color = match percent {
                    Some(percent) if !whole_year => shade(percent, full, palette),
                    _ => palette.surface,
                };
                if percent.is_none() {
                    root.draw(&Rectangle::new(corners, faint(palette).filled()))?;
                    continue;
                }
                root.draw(&Rectangle::new(corners, color.filled()))?;
                let percent = percent.unwrap_or_default();
                let ink = if whole_year { palette.ink } else { legible(color) };
                let words = written(percent);
                write(words, (i32::midpoint(from, to), middle - GAP / 2), centred(text(13.0, ink)))?;
            }
        }
        let mut note = "Months in UTC; the first and the last may be parts of one.".to_owned();
        if left_out > 0 {
            note = format!("The last {MOST_YEARS} of {} years. {note}", table.years.len());
        }
        write(note, (MARGIN, HEAD + rows * ROW + 12), text(12.0, palette.muted))?;
        root.present()?;
        Ok(())
    })
}

/// As many digits as a cell holds.
fn written(percent: f64) -> String {
    match percent.abs() {
        large if large >= 99_999.5 => format!("{percent:+.0e}"),
        large if large >= 99.95 => axis::signed(percent, 0),
        _ => axis::signed(percent, 1),
    }
}

/// What the picture shows, for those who cannot see it.
fn in_words(years: &[YearOfReturns]) -> String {
    let year = |year: &YearOfReturns| format!("{}: {} %", year.year, written(year.total * 100.0));
    years.iter().map(year).collect::<Vec<_>>().join(", ")
}

/// The colour of a month: from that of the surface at 0 to the full one at `full` percent.
fn shade(percent: f64, full: f64, palette: &Palette) -> RGBColor {
    let toward = if percent < 0.0 { palette.loss } else { palette.gain };
    // The square root lets small differences around 0 be seen.
    blended(palette.surface, toward, (percent.abs() / full).min(1.0).sqrt() * 0.9 + 0.04)
}

/// A cell without a month.
fn faint(palette: &Palette) -> RGBColor {
    blended(palette.surface, palette.grid, 0.35)
}

fn blended(from: RGBColor, to: RGBColor, share: f64) -> RGBColor {
    let part = |from: u8, to: u8| {
        let value = f64::from(from) + (f64::from(to) - f64::from(from)) * share.clamp(0.0, 1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "lies between two numbers of a byte"
        )]
        let part = value.round() as u8;
        part
    };
    RGBColor(part(from.0, to.0), part(from.1, to.1), part(from.2, to.2))
}

/// Black or white, whichever stands out more: by relative luminance (WCAG 2.2), whose contrast with both is equal at 0.179.
fn legible(on: RGBColor) -> RGBColor {
    let linear = |part: u8| {
        let part = f64::from(part) / 255.0;
        if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    };
    let luminance = 0.2126 * linear(on.0) + 0.7152 * linear(on.1) + 0.0722 * linear(on.2);
    if luminance > 0.179 { RGBColor(0x10, 0x13, 0x17) } else { WHITE }
}
