//! How values look on a page: numbers with aligned signs, times, states, and text that others wrote.

use std::fmt::Write;

use jobs::{JobId, JobState, JobView};
use maud::{Markup, html};
use serde_json::Value;

use crate::{mcp::table, views};

/// The most characters of a text in a table or a heading.
pub(super) const SHORT: usize = 80;
/// The most characters of a text that stands alone, such as a message.
pub(super) const LONG: usize = 4_000;

/// A text that others wrote, of at most so many characters. What would change how the rest of the page is read (control
/// characters, marks that turn the direction of writing) is shown as a sign of its own; `bdi` keeps what is left to itself.
pub(super) fn text(text: &str, most: usize) -> Markup {
    html! { bdi { (plain(text, most)) } }
}

/// The same as a text, e.g. for an attribute.
pub(super) fn plain(text: &str, most: usize) -> String {
    let mut shown: String = without_colors(text).chars().map(visible).take(most).collect();
    if text.len() > most && without_colors(text).chars().count() > most {
        shown.push('…');
    }
    shown
}

fn visible(letter: char) -> char {
    match letter {
        '\n' | '\t' => letter,
        // The pictures of control characters.
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(letter)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => '\u{fffd}',
        letter => letter,
    }
}

/// Without what colours text in a terminal: `ESC [ ... letter`.
fn without_colors(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some(start) = rest.find("\x1b[") {
        kept.push_str(&rest[..start]);
        let after = &rest[start + 2..];
        let end = after.find(|letter: char| !matches!(letter, '0'..='?' | ' '..='/'));
        match end {
            Some(end) if after[end..].starts_with(|letter: char| ('@'..='~').contains(&letter)) => {
                rest = &after[end + 1..];
            }
            _ => {
                kept.push('\x1b');
                rest = after;
            }
        }
    }
    kept + rest
}

/// A whole number with its thousands set apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with so many decimals, its thousands set apart, and a minus that is as wide as a digit.
pub(super) fn number(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), ""), |(whole, rest)| (whole, rest));
    let is_zero = text.chars().all(|letter| matches!(letter, '0' | '.'));
    let mut shown = String::from(if value < 0.0 && !is_zero { "−" } else { "" });
    match whole.parse() {
        Ok(whole) => shown.push_str(&count(whole)),
        // Larger than any count.
        Err(_) => return format!("{value:.3e}"),
    }
    if !fraction.is_empty() {
        let _never_fails = write!(shown, ".{fraction}");
    }
    shown
}

/// A number of the kind that a table has, or a dash where there is none.
pub(super) fn figure(value: &Value, decimals: usize) -> String {
    value.as_f64().map_or_else(|| "–".to_owned(), |value| number(value, decimals))
}

/// Any value of a spec or of a receipt, short.
pub(super) fn value(value: &Value) -> Markup {
    match value {
        Value::Null => html! { span.muted { "–" } },
        Value::Bool(yes) => html! { (if *yes { "yes" } else { "no" }) },
        Value::String(words) => text(words, 300),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            // As Jesse's `10000.0` is meant.
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => html! { (format!("{float:.0}")) },
            _ => html! { (number) },
        },
        other => text(&other.to_string(), 300),
    }
}

/// Bytes in the unit that fits.
#[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
pub(super) fn bytes(bytes: u64) -> String {
    let (unit, size) = match bytes {
        0..=9_999 => return format!("{} B", count(bytes)),
        10_000..=9_999_999 => ("KB", 1e3),
        10_000_000..=9_999_999_999 => ("MB", 1e6),
        _ => ("GB", 1e9),
    };
    format!("{} {unit}", number(bytes as f64 / size, 1))
}

/// A length of time in its two largest units.
pub(super) fn duration(milliseconds: i64) -> String {
    let seconds = milliseconds.max(0) / 1000;
    match seconds {
        0..=9 => {
            #[expect(clippy::cast_precision_loss, reason = "less than ten seconds")]
            let exact = milliseconds.max(0) as f64 / 1e3;
            format!("{exact:.1} s")
        }
        10..=59 => format!("{seconds} s"),
        60..=3_599 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3_600..=86_399 => format!("{} h {:02} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A moment (UTC), for readers and for programs.
pub(super) fn time(milliseconds: i64) -> Markup {
    let exact = views::time(milliseconds);
    let shown = jiff::Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| exact.clone(), |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string());
    html! { time datetime=(exact) { (shown) } }
}

/// The same from the text that clients get.
pub(super) fn time_of(text: &str) -> Markup {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        self::time(time.as_millisecond())
    } else {
        html! { (text) }
    }
}

pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// A state by colour, sign and word: none of the three is needed to understand the others.
pub(super) fn state(state: JobState) -> Markup {
    let (kind, sign) = match state {
        JobState::Queued | JobState::Scheduled => ("waits", "○"),
        JobState::Running => ("runs", "▶"),
        JobState::Waiting => ("runs", "◐"),
        JobState::Succeeded => ("good", "✓"),
        JobState::Failed | JobState::Dead => ("bad", "✕"),
        JobState::Cancelled | JobState::Expired => ("over", "–"),
    };
    html! { span class={ "state " (kind) } { span aria-hidden="true" { (sign) } " " (state.as_str()) } }
}

/// A link to a job, by the end of its id: what it begins with is the time.
pub(super) fn job_link(job: JobId) -> Markup {
    let id = job.to_string();
    let end = id.rsplit('-').next().unwrap_or(&id).to_owned();
    html! { a.mono href={ "/console/jobs/" (id) } title=(id) { (end) } }
}

/// What a job is about, in a few words.
pub(super) fn about(view: &JobView) -> Markup {
    let what = table::what(&view.request);
    match view.counts {
        Some(counts) => html! { (count(counts.total)) " backtests" },
        None if what.is_empty() => html! { span.muted { "–" } },
        None => text(&what, SHORT),
    }
}

/// How far something is.
pub(super) fn bar(fraction: f64, what: &str) -> Markup {
    let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
    html! { progress max="1" value=(format!("{fraction:.3}")) aria-label=(what) { (number(fraction * 100.0, 0)) "%" } }
}

/// A text for the query of an address or for a part of its path.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            let _never_fails = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_set_in_groups_and_signed_by_a_real_minus() {
        for (value, decimals, shown) in [
            (0.0, 2, "0.00"),
            (-0.001, 2, "0.00"),
            (-1234.567, 2, "−1,234.57"),
            (999.0, 0, "999"),
            (1_234_567.0, 0, "1,234,567"),
            (f64::NAN, 2, "–"),
            (1e300, 2, "1.000e300"),
        ] {
            assert_eq!(number(value, decimals), shown);
        }
        assert_eq!((count(0).as_str(), count(1_000).as_str()), ("0", "1,000"));
        assert_eq!(bytes(12_345_678), "12.3 MB");
        assert_eq!(duration(3_725_000), "1 h 02 min");
        assert_eq!(duration(-5), "0.0 s");
    }

    #[test]
    fn what_others_wrote_is_shown_and_does_nothing() {
        let hostile = "<script>alert(1)</script>\u{202e}txt.exe\x1b[31mred\x1b[0m\x07\x1b]0;title";
        assert_eq!(
            text(hostile, 200).into_string(),
            "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;\u{fffd}txt.exered\u{2407}\u{241b}]0;title</bdi>"
        );
        let long = plain(&"é".repeat(1 << 20), SHORT);
        assert_eq!(long.chars().count(), SHORT + 1);
        assert_eq!(plain("cut \x1b[31", 20), "cut \u{241b}31");
    }

    #[test]
    fn any_text_fits_into_an_address() {
        assert_eq!(encoded("a b/é&?"), "a%20b%2F%C3%A9%26%3F");
    }
}
