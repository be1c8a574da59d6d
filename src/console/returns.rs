//! What an equity curve comes to, month by month.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use maud::{Markup, html};

use super::{heat, layout::table, show};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A year's returns by month, in percent, and that of the whole year.
#[derive(Debug, Clone, PartialEq)]
struct Year {
    months: [Option<f64>; 12],
    whole: f64,
}

/// Returns in percent from points of (milliseconds since 1970, equity) in their order: of a month from the last equity before it (or
/// its first) to its last, by calendar month (UTC). Only where the equity is above zero.
fn by_year(points: &[(i64, f64)]) -> BTreeMap<i16, Year> {
    let mut last = BTreeMap::<(i16, usize), f64>::new();
    for (time, equity) in points {
        let Ok(time) = Timestamp::from_millisecond(*time) else { continue };
        let date = TimeZone::UTC.to_datetime(time).date();
        let month = usize::try_from(date.month()).unwrap_or(1) - 1;
        last.insert((date.year(), month), *equity);
    }
    let mut years = BTreeMap::<i16, Year>::new();
    let Some((_, mut before)) = points.first().copied() else { return years };
    for ((year, month), equity) in last {
        let entry = years.entry(year).or_insert(Year { months: [None; 12], whole: 1.0 });
        if before > 0.0 {
            let change = equity / before;
            if let Some(slot) = entry.months.get_mut(month) {
                *slot = Some((change - 1.0) * 100.0);
            }
            entry.whole *= change;
        }
        before = equity;
    }
    for year in years.values_mut() {
        year.whole = (year.whole - 1.0) * 100.0;
    }
    years
}

/// The table.
pub(super) fn by_month(points: &[(i64, f64)]) -> Markup {
    let years = by_year(points);
    let all = years.values().flat_map(|year| year.months.iter().flatten());
    let most = all.fold(0.0_f64, |most, value| most.max(value.abs()));
    table(
        "Returns by month",
        html! {
            thead {
                tr {
                    th scope="col" { "Year" }
                    @for month in MONTHS { th.number scope="col" { (month) } }
                    th.number scope="col" { "Year" }
                }
            }
            tbody {
                @for (year, Year { months, whole }) in years.iter().rev() {
                    tr {
                        th scope="row" { (year) }
                        @for month in months {
                            @match month {
                                Some(value) => td class={ "number " (heat::around_zero(*value, most)) } { (show::number(*value, 1)) },
                                None => td {},
                            }
                        }
                        td.number { strong { (show::number(*whole, 1)) } }
                    }
                }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn months_add_up_to_their_year() {
        let at = |text: &str| format!("{text}T12:00:00Z").parse::<Timestamp>().unwrap().as_millisecond();
        let points = [
            (at("2023-11-30"), 100.0),
            (at("2023-12-15"), 90.0),
            (at("2023-12-31"), 110.0),
            (at("2024-01-31"), 121.0),
            (at("2024-03-01"), 60.5),
        ];
        let years = by_year(&points);
        let close = |value: Option<f64>, expected: f64| (value.unwrap() - expected).abs() < 1e-9;
        assert!(close(years[&2023].months[10], 0.0) && close(years[&2023].months[11], 10.0), "{years:?}");
        assert!(close(years[&2024].months[0], 10.0) && close(years[&2024].months[2], -50.0), "{years:?}");
        assert_eq!(years[&2024].months[1], None);
        assert!(close(Some(years[&2024].whole), -45.0) && close(Some(years[&2023].whole), 10.0), "{years:?}");
        assert!(by_year(&[]).is_empty());
        // What is lost altogether cannot grow again.
        assert!(close(by_year(&[(0, 1.0), (1, 0.0)])[&1970].months[0], -100.0));
        assert!(by_year(&[(0, 0.0), (1, 5.0)])[&1970].months.iter().all(Option::is_none));
    }
}
