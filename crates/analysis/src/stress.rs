//! `stress_test`: what a result did in bad times, and what it would have come to under worse terms.
//!
//! Dated windows are lists of dates only: how far the market fell in them is computed from the tenant's own candles. Shocks are
//! applied to the trades that were made. What a strategy would have done otherwise under them, only running it again can tell: that
//! is done for fees, which Jesse knows. It has no spreads, funding and halts.

use jesse::{
    candles::{Series, closes::Close},
    spec::{BacktestSpec, midnight_ms},
};
use jiff::civil::{Date, date};
use jobs::JobError;
use risk::performance::max_drawdown;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    answer::{Answer, invalid, unfit},
    candles::Candles,
    inputs::{ClosedTrade, Inputs, LoadedResult, Pinned, Ran, SymbolCloses},
    source::Source,
    track::{DAY_MS, Track, date as shown_date, millis},
};

const HOUR_MS: i64 = 3_600_000;

/// What may be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StressRequest {
    /// Moves against all that is held, at once, with no stop in between.
    pub gaps: Vec<f64>,
    /// Factors on all fees.
    pub fee_multiples: Vec<f64>,
    /// What each entry and each exit loses to a wider spread, as a fraction of the price.
    pub spreads: Vec<f64>,
    /// Hours for which no exit is possible.
    pub halt_hours: Vec<u32>,
    /// Funding that is paid every 8 hours on all that is held, as a fraction.
    pub funding_rates: Vec<f64>,
    /// Whether the backtest is also run again with each fee.
    pub rerun: bool,
}

impl Default for StressRequest {
    fn default() -> Self {
        Self {
            gaps: vec![0.1, 0.2, 0.3, 0.5],
            fee_multiples: vec![2.0, 3.0, 5.0],
            spreads: vec![0.0005, 0.001, 0.002],
            halt_hours: vec![1, 6, 24],
            funding_rates: vec![0.0001, 0.001, 0.003],
            rerun: true,
        }
    }
}

impl StressRequest {
    pub(crate) fn check(&self) -> Result<(), JobError> {
        let fractions = |name: &str, values: &[f64]| {
            if values.len() > 10 || values.iter().any(|value| !(*value > 0.0 && *value < 1.0)) {
                return Err(invalid(name, "at most 10 fractions between 0 and 1, e.g. 0.2 for 20 %"));
            }
            Ok(())
        };
        fractions("gaps", &self.gaps)?;
        fractions("spreads", &self.spreads)?;
        fractions("funding_rates", &self.funding_rates)?;
        if self.fee_multiples.len() > 10 || self.fee_multiples.iter().any(|by| !(0.0..=100.0).contains(by)) {
            return Err(invalid("fee_multiples", "at most 10 factors from 0 to 100"));
        }
        if self.halt_hours.len() > 10 || self.halt_hours.iter().any(|hours| !(1..=720).contains(hours)) {
            return Err(invalid("halt_hours", "at most 10 numbers of hours from 1 to 720"));
        }
        Ok(())
    }

    /// Whether there is something to run again.
    pub(crate) fn runs_again(&self) -> bool {
        self.rerun && !self.fee_multiples.is_empty()
    }
}

/// The highest fee that a backtest takes.
const HIGHEST_FEE: f64 = 0.1;

/// The backtest with each fee, after it itself as it was: whether that comes to the same as before tells what the others are
/// to be compared with.
pub(crate) fn backtests(request: &StressRequest, of: &BacktestSpec) -> Vec<BacktestSpec> {
    let fees = request.fee_multiples.iter().map(|by| by * of.fee).filter(|fee| *fee <= HIGHEST_FEE);
    std::iter::once(of.fee).chain(fees).map(|fee| BacktestSpec { fee, ..of.clone() }).collect()
}

/// The candles that a stress test looks at: hours of all that the backtest trades, over its time.
pub fn candles(pinned: &Pinned) -> Result<Option<Candles>, JobError> {
    let [result] = &pinned.results[..] else { return Ok(None) };
    let backtest = &result.backtest;
    let mut symbols: Vec<&str> = backtest.routes.iter().map(|route| route.symbol.as_str()).collect();
    symbols.sort_unstable();
    symbols.dedup();
    let series = symbols.into_iter().map(|symbol| Series::new(&backtest.exchange, symbol));
    Ok(Some(Candles {
        series: series.collect::<Result<_, _>>().map_err(|error| invalid("symbols", error))?,
        timeframe: "1h".into(),
        start_date: Some(backtest.start_date),
        finish_date: Some(backtest.finish_date),
        // Hours in which nothing was traded are left out, as in the backtest itself.
        allow_gaps: true,
    }))
}

/// A time to look at.
struct Window {
    name: &'static str,
    from: Date,
    /// The day after the last.
    to: Date,
}

/// Bad times of crypto markets, by their dates alone.
const WINDOWS: [Window; 14] = [
    Window { name: "China bans", from: date(2013, 12, 4), to: date(2013, 12, 19) },
    Window { name: "Mt. Gox", from: date(2014, 2, 5), to: date(2014, 2, 26) },
    Window { name: "ICO ban in China", from: date(2017, 9, 1), to: date(2017, 9, 16) },
    Window { name: "bear market of 2018", from: date(2017, 12, 17), to: date(2018, 12, 16) },
    Window { name: "fork of Bitcoin Cash", from: date(2018, 11, 14), to: date(2018, 12, 16) },
    Window { name: "March 2020", from: date(2020, 3, 7), to: date(2020, 3, 14) },
    Window { name: "May 2021", from: date(2021, 5, 12), to: date(2021, 5, 24) },
    Window { name: "Terra and Luna", from: date(2022, 5, 5), to: date(2022, 5, 13) },
    Window { name: "Celsius and Three Arrows", from: date(2022, 6, 10), to: date(2022, 6, 19) },
    Window { name: "FTX", from: date(2022, 11, 6), to: date(2022, 11, 11) },
    Window { name: "USDC depeg", from: date(2023, 3, 9), to: date(2023, 3, 14) },
    Window { name: "yen carry trade", from: date(2024, 8, 1), to: date(2024, 8, 6) },
    Window { name: "tariffs of April 2025", from: date(2025, 4, 2), to: date(2025, 4, 9) },
    Window { name: "October 2025", from: date(2025, 10, 10), to: date(2025, 10, 13) },
];

pub(crate) fn compute(source: &Source, request: &StressRequest, inputs: &Inputs) -> Result<Answer, JobError> {
    let [result] = &inputs.results[..] else { return Err(invalid("job_id", "name one succeeded backtest")) };
    let track = Track::of(source, inputs)?;
    let held = held(result)?;
    let (windows, outside) = windows(&track, inputs);
    let body = json!({
        "data": track.data(),
        "windows": windows,
        "windows_outside_of_its_time": outside,
        "worst_markets": worst_markets(&track, inputs),
        "gaps": gaps(request, &held),
        "fees": fees(request, result, inputs),
        "run_again": run_again(request, result, inputs),
        "spreads": spreads(request, result),
        "funding": funding(request, result),
        "halts": halts(request, result, inputs),
        "largest_exposure": held,
        "warning": inputs.warning(),
        "definitions": "windows have dates only, moves are those of your candles; gaps hit the largest position of all times, as a \
                        fraction of the equity then; fees, spreads, funding and halts change what the trades that were made earned, and a \
                        strategy might trade otherwise under them; run_again is what it did with that fee: a backtest of its own",
    });
    let few =
        |name: &str| body[name].as_array().map_or_else(Vec::new, |all| all.iter().take(5).cloned().collect());
    let mut summary = json!({
        "data": body["data"], "windows": few("windows"), "worst_markets": few("worst_markets"), "gaps": few("gaps"),
        "fees": few("fees"), "spreads": few("spreads"), "halts": few("halts"), "break_even_fee_multiple": break_even(result),
        "estimated": "gaps, spreads, funding, halts, and of fees all but run_again: the same trades at another price",
    });
    if let Some(why) = body["run_again"].get("refused").or(body["run_again"].get("warning")) {
        summary["run_again"] = why.clone();
    }
    if let Some(warning) = inputs.warning() {
        summary["warning"] = warning.into();
    }
    Ok(Answer { body, summary })
}

/// The dated windows that lie in the result's time, and the names of the others.
fn windows(track: &Track, inputs: &Inputs) -> (Vec<Value>, Vec<&'static str>) {
    let (Some(start), Some(end)) = (track.start_ms, track.end_ms()) else { return (Vec::new(), Vec::new()) };
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for window in &WINDOWS {
        let (from, to) = (midnight_ms(window.from), midnight_ms(window.to));
        if from < start || to > end {
            outside.push(window.name);
            continue;
        }
        let mut shown = stretch(track, inputs, from, to);
        shown["name"] = window.name.into();
        inside.push(shown);
    }
    (inside, outside)
}

/// What the result and its markets did between two midnights.
fn stretch(track: &Track, inputs: &Inputs, from: i64, to: i64) -> Value {
    let start = track.start_ms.unwrap_or_default();
    let at = |ms: i64| {
        usize::try_from((ms - start) / DAY_MS).unwrap_or_default().min(track.returns.values().len())
    };
    let own = &track.returns.values()[at(from)..at(to)];
    let total = own.iter().fold(1.0, |wealth, value| wealth * (1.0 + value)) - 1.0;
    let markets: serde_json::Map<_, _> = inputs
        .candles
        .iter()
        .map(|symbol| {
            // From the close before it, where there is one.
            let closes = between(symbol, from - HOUR_MS, to);
            (
                symbol.series.symbol().to_owned(),
                json!({"return": moved(closes), "max_drawdown": fallen(closes)}),
            )
        })
        .collect();
    json!({
        "from": shown_date(from), "to": shown_date(to), "return": total, "max_drawdown": max_drawdown(own), "markets": markets,
    })
}

fn between(symbol: &SymbolCloses, from: i64, to: i64) -> &[Close] {
    let place = |ms: i64| symbol.closes.partition_point(|bar| bar.0 < ms);
    &symbol.closes[place(from)..place(to)]
}

fn moved(closes: &[Close]) -> Option<f64> {
    Some(closes.last()?.1 / closes.first()?.1 - 1.0)
}

fn fallen(closes: &[Close]) -> Option<f64> {
    let returns: Vec<f64> = closes.windows(2).map(|pair| pair[1].1 / pair[0].1 - 1.0).collect();
    (!returns.is_empty()).then(|| max_drawdown(&returns))
}

/// The stretches of 1, 7 and 30 days in which the first market fell most, and what the result did in them.
fn worst_markets(track: &Track, inputs: &Inputs) -> Vec<Value> {
    let (Some(start), Some(end), Some(market)) = (track.start_ms, track.end_ms(), inputs.candles.first())
    else {
        return Vec::new();
    };
    let worst = |days: i64| {
        let starts = (start..=end - days * DAY_MS).step_by(usize::try_from(DAY_MS).unwrap_or(1));
        let falls = starts.filter_map(|from| {
            let closes = between(market, from - HOUR_MS, from + days * DAY_MS);
            Some((moved(closes)?, from))
        });
        let (_, from) = falls.min_by(|a, b| a.0.total_cmp(&b.0))?;
        let mut shown = stretch(track, inputs, from, from + days * DAY_MS);
        shown["days"] = days.into();
        Some(shown)
    };
    [1, 7, 30].into_iter().filter_map(worst).collect()
}

/// The largest position of all times.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Held {
    /// When it was held, in milliseconds.
    at_ms: i64,
    /// What was long less what was short, as a fraction of the equity then.
    net: f64,
    /// Both together.
    gross: f64,
}

/// Walks through all openings and closings. The realised equity stands for all equity, since what is open is priced at its entry.
fn held(result: &LoadedResult) -> Result<Held, JobError> {
    let mut events: Vec<(i64, bool, &ClosedTrade)> = Vec::with_capacity(2 * result.body.trades.len());
    for trade in &result.body.trades {
        events.push((millis(trade.closed_at), false, trade));
        events.push((millis(trade.opened_at), true, trade));
    }
    events.sort_by_key(|(time, opens, _)| (*time, *opens));
    let (mut equity, mut long, mut short) = (result.backtest.balance, 0.0, 0.0);
    let mut largest = Held { at_ms: 0, net: 0.0, gross: 0.0 };
    for (at_ms, opens, trade) in events {
        let size = notional(trade);
        let book = if trade.side == "short" { &mut short } else { &mut long };
        *book += if opens { size } else { -size };
        if !opens {
            equity += trade.profit;
        }
        if equity <= 0.0 || !equity.is_finite() {
            return Err(unfit("the account was wiped out: there is nothing left to stress"));
        }
        let gross: f64 = (long + short) / equity;
        if gross > largest.gross {
            largest = Held { at_ms, net: (long - short) / equity, gross };
        }
    }
    Ok(largest)
}

fn notional(trade: &ClosedTrade) -> f64 {
    let size = trade.qty.abs() * trade.entry_price;
    if size.is_finite() { size } else { 0.0 }
}

fn gaps(request: &StressRequest, held: &Held) -> Vec<Value> {
    let gap = |gap: &f64| {
        let (one_way, both_ways) = (gap * held.net.abs(), gap * held.gross);
        json!({"gap": gap, "loss": one_way, "loss_if_all_go_against_it": both_ways, "wiped_out": one_way >= 1.0})
    };
    request.gaps.iter().map(gap).collect()
}

/// What all trades earn when each costs so much more.
fn with_costs(result: &LoadedResult, cost: impl Fn(&ClosedTrade) -> f64) -> Value {
    let trades = &result.body.trades;
    let profits: Vec<f64> = trades.iter().map(|trade| trade.profit - cost(trade)).collect();
    let profit: f64 = profits.iter().sum();
    json!({
        "profit": profit,
        "profit_fraction": profit / result.backtest.balance,
        "winning": profits.iter().filter(|profit| **profit > 0.0).count(),
        "trades": profits.len(),
    })
}

/// On the trades that were made, and beside that what the backtest came to with such a fee, where it was run.
fn fees(request: &StressRequest, result: &LoadedResult, inputs: &Inputs) -> Vec<Value> {
    let by = |by: &f64| {
        let mut shown = with_costs(result, |trade| (by - 1.0) * known(trade.fee));
        shown["multiple"] = (*by).into();
        let fee = by * result.backtest.fee;
        if fee > HIGHEST_FEE && !inputs.ran.is_empty() {
            shown["run_again"] =
                json!({"refused": format!("a fee of {fee} is more than a backtest takes: {HIGHEST_FEE}")});
        } else if let Some(ran) = inputs.ran.iter().skip(1).find(|ran| same(ran.backtest.fee, fee)) {
            shown["run_again"] = came_to(ran);
        }
        shown
    };
    request.fee_multiples.iter().map(by).collect()
}

fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
}

/// What a backtest came to, from its metrics.
fn came_to(Ran { job_id, summary, .. }: &Ran) -> Value {
    let metrics = match summary {
        Ok(summary) => &summary["metrics"],
        Err(why) => return json!({"job_id": job_id, "refused": why}),
    };
    let fraction = |name: &str| metrics[name].as_f64().map(|percent| percent / 100.0);
    json!({
        "job_id": job_id,
        "profit": metrics["net_profit"],
        "profit_fraction": fraction("net_profit_percentage"),
        "sharpe": metrics["sharpe_ratio"],
        "max_drawdown": fraction("max_drawdown").map(f64::abs),
        "trades": metrics["total"],
    })
}

/// What running it again with its own fee came to: the same as it did, or what the others are to be compared with instead.
fn run_again(request: &StressRequest, result: &LoadedResult, inputs: &Inputs) -> Value {
    if !request.runs_again() {
        return Value::Null;
    }
    let Some(own) = inputs.ran.first() else {
        return json!({"refused": inputs.not_run.as_deref().unwrap_or("nothing was run again")});
    };
    let mut shown = came_to(own);
    let before: f64 = result.body.trades.iter().map(|trade| trade.profit).sum();
    if let Some(now) = shown["profit"].as_f64()
        && (now - before).abs() > 1e-6 * result.backtest.balance
    {
        shown["warning"] = format!(
            "run again with its own fee it came to {now:.2}, not {before:.2}: another Jesse computed it; compare the others with this"
        )
        .into();
    }
    shown
}

fn known(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

/// The factor on all fees at which nothing is left; `None` without fees or without profit before them.
fn break_even(result: &LoadedResult) -> Option<f64> {
    let (mut fees, mut profit) = (0.0, 0.0);
    for trade in &result.body.trades {
        fees += known(trade.fee);
        profit += trade.profit;
    }
    (fees > 0.0 && profit + fees > 0.0).then(|| (profit + fees) / fees)
}

fn spreads(request: &StressRequest, result: &LoadedResult) -> Vec<Value> {
    let by = |spread: &f64| {
        let both = |trade: &ClosedTrade| {
            spread * trade.qty.abs() * (known(trade.entry_price) + known(trade.exit_price))
        };
        let mut shown = with_costs(result, |trade| known(both(trade)));
        shown["spread"] = (*spread).into();
        shown
    };
    request.spreads.iter().map(by).collect()
}

fn funding(request: &StressRequest, result: &LoadedResult) -> Vec<Value> {
    let by = |rate: &f64| {
        let times = |trade: &ClosedTrade| ((trade.closed_at - trade.opened_at) / (8.0 * 3_600_000.0)).floor();
        let mut shown = with_costs(result, |trade| rate * notional(trade) * times(trade));
        shown["rate"] = (*rate).into();
        shown
    };
    request.funding_rates.iter().map(by).collect()
}

/// Every exit comes so many hours late, at the first close from then on.
fn halts(request: &StressRequest, result: &LoadedResult, inputs: &Inputs) -> Vec<Value> {
    let late = |trade: &ClosedTrade, hours: u32| {
        let symbol = inputs.candles.iter().find(|symbol| symbol.series.symbol() == trade.symbol)?;
        let at = millis(trade.closed_at) + i64::from(hours) * HOUR_MS;
        let place = symbol.closes.partition_point(|bar| bar.0 + HOUR_MS < at);
        let price = symbol.closes.get(place)?.1;
        let change = trade.qty.abs() * (price - trade.exit_price);
        Some(if trade.side == "short" { -change } else { change })
    };
    let by = |hours: &u32| {
        let changes: Vec<f64> =
            result.body.trades.iter().filter_map(|trade| late(trade, *hours)).map(known).collect();
        let mut shown = with_costs(result, |trade| -known(late(trade, *hours).unwrap_or(0.0)));
        shown["hours"] = (*hours).into();
        shown["worst_trade"] = changes.iter().copied().fold(0.0, f64::min).into();
        shown["known_for"] = changes.len().into();
        shown
    };
    request.halt_hours.iter().map(by).collect()
}
