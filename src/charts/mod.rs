//! Pictures of a backtest's result, as SVG or PNG, on light or dark: equity with the drawdown below it, and monthly returns
//! as a heat map.
//!
//! They are drawn as SVG; a PNG is that SVG rendered with the font that the binary carries, so both show the same on every
//! machine. Curves are thinned to what a picture can show, without losing an extreme ([`curve`]). Monthly returns are
//! those of the risk report.

mod axis;
mod curve;
mod equity;
mod monthly;
mod png;

use std::{collections::BTreeMap, fmt};

use plotters::prelude::{RGBColor, SVGBackend};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    errors::{Code, ServiceError},
    service::ResultBody,
};

pub(crate) use curve::{Curves, Point, thinned};

/// Width of a picture in pixels.
const WIDTH: u32 = 960;
/// Units of drawing in a pixel: the backend draws on whole numbers.
const FINE: i32 = 2;
/// Text sizes are multiplied by this to be in pixels, which the backend takes back.
const FONT_SCALE: f64 = 1.24;

/// What a picture shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ChartKind")]
pub(crate) enum Kind {
    /// Equity, and the drawdown below it.
    #[default]
    Equity,
    /// Returns by month, as a heat map.
    Monthly,
}

/// What a picture stands on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ChartTheme")]
pub(crate) enum Theme {
    /// Dark on white.
    #[default]
    Light,
    /// Light on nearly black.
    Dark,
}

/// Which picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Look {
    /// `equity` (default) or `monthly`
    #[serde(default)]
    pub(crate) kind: Kind,
    /// `light` (default) or `dark`
    #[serde(default)]
    pub(crate) theme: Theme,
}

impl fmt::Display for Look {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Equity => "equity",
            Kind::Monthly => "monthly",
        };
        let theme = match self.theme {
            Theme::Light => "light",
            Theme::Dark => "dark",
        };
        write!(formatter, "{kind} {theme}")
    }
}

/// The colours of a theme; those of `chart.js`.
struct Palette {
    surface: RGBColor,
    ink: RGBColor,
    muted: RGBColor,
    grid: RGBColor,
    gain: RGBColor,
    loss: RGBColor,
    benchmark: RGBColor,
}

const LIGHT: Palette = Palette {
    surface: RGBColor(0xff, 0xff, 0xff),
    ink: RGBColor(0x1b, 0x1f, 0x24),
    muted: RGBColor(0x59, 0x63, 0x6e),
    grid: RGBColor(0xe4, 0xe7, 0xeb),
    gain: RGBColor(0x1d, 0x5f, 0xc4),
    loss: RGBColor(0xb4, 0x23, 0x2a),
    benchmark: RGBColor(0x6b, 0x72, 0x80),
};

const DARK: Palette = Palette {
    surface: RGBColor(0x14, 0x17, 0x1b),
    ink: RGBColor(0xe6, 0xe9, 0xed),
    muted: RGBColor(0x9a, 0xa4, 0xb0),
    grid: RGBColor(0x2a, 0x30, 0x38),
    gain: RGBColor(0x6e, 0xa8, 0xfe),
    loss: RGBColor(0xff, 0x81, 0x82),
    benchmark: RGBColor(0x9a, 0xa4, 0xb0),
};

impl Theme {
    fn palette(self) -> &'static Palette {
        match self {
            Self::Light => &LIGHT,
            Self::Dark => &DARK,
        }
    }
}

/// What a picture says it is of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// Strategy, symbol and timeframe of the first route.
    pub(crate) title: String,
    /// What balances are counted in; empty where it is not known.
    pub(crate) unit: String,
}

impl About {
    /// The longest title, in characters: more would run out of the picture.
    const LONGEST: usize = 70;

    /// Reads what a backtest was asked for.
    pub(crate) fn of(request: &RawValue) -> Self {
        let request: Value = serde_json::from_str(request.get()).unwrap_or_default();
        let routes = request["routes"].as_array().map_or(&[][..], Vec::as_slice);
        let first = routes.first().unwrap_or(&Value::Null);
        let words = ["strategy", "symbol", "timeframe"].iter().filter_map(|name| first[*name].as_str());
        let mut title = words.collect::<Vec<_>>().join(" ");
        if routes.len() > 1 {
            title = format!("{title} and {} more", routes.len() - 1);
        }
        let unit = first["symbol"].as_str().and_then(|symbol| symbol.rsplit_once('-'));
        Self { title: shown(&title, Self::LONGEST), unit: shown(unit.map_or("", |(_, quote)| quote), 12) }
    }
}

/// A text that can stand in a picture: without control characters, which XML has no way to write, without those that turn
/// the direction of what follows, and not too long.
fn shown(text: &str, longest: usize) -> String {
    let turns = |letter: char| matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let seen = || text.chars().filter(|letter| !letter.is_control() && !turns(*letter));
    let mut shown: String = seen().take(longest).collect();
    if seen().nth(longest).is_some() {
        shown.push('…');
    }
    shown
}

/// The picture as SVG.
pub(crate) fn svg(result: &ResultBody, look: Look) -> Result<String, ServiceError> {
    let (curves, about) = (Curves::read(&result.fields)?, About::of(&result.request));
    picture(&curves, &about, look)
}

/// The picture as PNG, drawn where it keeps nobody waiting: rendering takes some ten milliseconds.
pub(crate) async fn png(result: ResultBody, look: Look) -> Result<Vec<u8>, ServiceError> {
    let rendered = tokio::task::spawn_blocking(move || png::rendered(&svg(&result, look)?)).await;
    rendered.map_err(|error| ServiceError::internal("a chart cannot be drawn", &error))?
}

fn picture(curves: &Curves, about: &About, look: Look) -> Result<String, ServiceError> {
    let palette = look.theme.palette();
    let drawn = match look.kind {
        Kind::Equity => equity::draw(curves, about, palette),
        Kind::Monthly => {
            // A curve that loses everything has no returns, for one; the error says which it is.
            let table = analysis::monthly_returns(&curves.points()).map_err(|error| {
                ServiceError::new(Code::ResultNotReady, format!("no monthly returns: {}", error.message))
            })?;
            monthly::draw(&table, about, palette)
        }
    };
    drawn.map_err(|error| ServiceError::internal("a chart cannot be drawn", &*error))
}

type Drawn = Result<String, Box<dyn std::error::Error>>;

/// Draws on a canvas of this size in pixels, each of which has [`FINE`] units, and calls the picture `label` for those who
/// cannot see it.
fn drawing(
    (width, height): (u32, u32),
    label: &str,
    draw: impl FnOnce(SVGBackend<'_>) -> Result<(), Box<dyn std::error::Error>>,
) -> Drawn {
    let fine = |pixels: u32| pixels * FINE.unsigned_abs();
    let mut svg = String::new();
    draw(SVGBackend::with_string(&mut svg, (fine(width), fine(height))))?;
    let drawn = format!(r#"width="{}" height="{}""#, fine(width), fine(height));
    let label = label.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    // Without round joins the spikes of a curve would be drawn longer than they are.
    let shown = format!(
        r#"width="{width}" height="{height}" role="img" aria-label="{label}" stroke-linejoin="round" stroke-linecap="round""#
    );
    Ok(svg.replacen(&drawn, &shown, 1))
}

/// A number of drawing units.
fn px(pixels: i32) -> i32 {
    pixels * FINE
}

/// The fields of a result by their names.
type Fields = BTreeMap<String, Box<RawValue>>;

#[cfg(test)]
mod tests;
