//! `analyze_results`: what drove a result.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use jobs::JobError;
use risk::simulation::win_rate;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    answer::{Answer, invalid, unfit, value},
    inputs::{ClosedTrade, Inputs, LoadedResult},
    track::{about, date, millis, trades},
};

/// What may be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResultsRequest {
    /// How many of the best and worst trades are listed.
    pub trades: usize,
}

impl Default for ResultsRequest {
    fn default() -> Self {
        Self { trades: 5 }
    }
}

impl ResultsRequest {
    pub(crate) fn check(&self) -> Result<(), JobError> {
        if self.trades > 100 { Err(invalid("trades", "must be at most 100")) } else { Ok(()) }
    }
}

/// The trades that have something in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
struct Group {
    trades: usize,
    wins: usize,
    profit: f64,
    fees: f64,
}

impl Group {
    fn add(&mut self, trade: &ClosedTrade) {
        self.trades += 1;
        self.wins += usize::from(trade.profit > 0.0);
        self.profit += trade.profit;
        self.fees += if trade.fee.is_finite() { trade.fee } else { 0.0 };
    }
}

type Groups = BTreeMap<String, Group>;

pub(crate) fn compute(request: &ResultsRequest, inputs: &Inputs) -> Result<Answer, JobError> {
    let [result] = &inputs.results[..] else {
        return Err(invalid("job_id", "one backtest is analysed at a time"));
    };
    // What is not sound is refused here, for all that follows.
    trades(&result.body.trades)?;
    let all = &result.body.trades;
    if all.is_empty() {
        return Err(unfit("the backtest made no trade, so there is nothing that drove it"));
    }
    let by = [
        ("month", grouped(all, month)),
        ("side", grouped(all, |trade| trade.side.clone())),
        ("symbol", grouped(all, |trade| trade.symbol.clone())),
        ("strategy", grouped(all, |trade| trade.strategy_name.clone())),
        ("weekday", grouped(all, weekday)),
        ("hour", grouped(all, hour)),
        ("holding_time", grouped(all, holding_time)),
    ];
    let mut total = Group::default();
    for trade in all {
        total.add(trade);
    }
    let totals = totals(all, &total, result);
    let mut sorted: Vec<&ClosedTrade> = all.iter().collect();
    sorted.sort_by(|a, b| b.profit.total_cmp(&a.profit));
    let best: Vec<_> = sorted.iter().take(request.trades).map(|trade| shown(trade)).collect();
    let worst: Vec<_> = sorted.iter().rev().take(request.trades).map(|trade| shown(trade)).collect();
    let drivers = drivers(&by, &total, &sorted);
    let groups: serde_json::Map<_, _> =
        by.iter().map(|(name, groups)| ((*name).to_owned(), value(groups))).collect();
    let body = json!({
        "of": about(result), "totals": totals, "drivers": drivers, "by": groups, "best": best, "worst": worst,
        "definitions": "profits are net of fees, in the quote asset; weekdays and hours (UTC) are those of the opening, months those \
                        of the closing",
    });
    let few = |from: &[Value]| from.iter().take(3).cloned().collect::<Vec<_>>();
    let summary = json!({
        "of": about(result), "totals": totals, "drivers": drivers, "side": by[1].1, "best": few(&best), "worst": few(&worst),
        "more": "the result's `by` has month, side, symbol, strategy, weekday, hour and holding_time",
    });
    Ok(Answer { body, summary })
}

fn grouped(all: &[ClosedTrade], name: impl Fn(&ClosedTrade) -> String) -> Groups {
    let mut groups = Groups::new();
    for trade in all {
        groups.entry(name(trade)).or_default().add(trade);
    }
    groups
}

fn calendar(ms: f64, format: &str) -> String {
    let time = Timestamp::from_millisecond(millis(ms)).unwrap_or_default();
    TimeZone::UTC.to_datetime(time).strftime(format).to_string()
}

fn month(trade: &ClosedTrade) -> String {
    calendar(trade.closed_at, "%Y-%m")
}

/// With a number in front, so that they stay in their order.
fn weekday(trade: &ClosedTrade) -> String {
    calendar(trade.opened_at, "%u %A")
}

fn hour(trade: &ClosedTrade) -> String {
    calendar(trade.opened_at, "%H")
}

fn holding_time(trade: &ClosedTrade) -> String {
    let hours = (trade.closed_at - trade.opened_at) / 3_600_000.0;
    let bounds = [(1.0, "1 under 1h"), (4.0, "2 1h to 4h"), (24.0, "3 4h to 1D"), (168.0, "4 1D to 1W")];
    bounds.iter().find(|(bound, _)| hours < *bound).map_or("5 over 1W", |(_, name)| name).to_owned()
}

fn totals(all: &[ClosedTrade], total: &Group, result: &LoadedResult) -> Value {
    let profits: Vec<f64> = all.iter().map(|trade| trade.profit).collect();
    let sum = |which: &dyn Fn(f64) -> bool| profits.iter().filter(|profit| which(**profit)).sum::<f64>();
    let (gains, losses) = (sum(&|profit| profit > 0.0), -sum(&|profit| profit < 0.0));
    #[expect(clippy::cast_precision_loss, reason = "no result has so many trades")]
    let mean = total.profit / all.len() as f64;
    json!({
        "trades": total.trades,
        "profit": total.profit,
        "profit_fraction": total.profit / result.backtest.balance,
        "fees": total.fees,
        "profit_before_fees": total.profit + total.fees,
        "win_rate": win_rate(&profits, 0.95).ok().flatten(),
        "expectancy": mean,
        "profit_factor": (losses > 0.0).then(|| gains / losses),
        "longest_winning_streak": streak(&profits, true),
        "longest_losing_streak": streak(&profits, false),
    })
}

fn streak(profits: &[f64], winning: bool) -> usize {
    let mut longest = 0;
    let mut now = 0;
    for profit in profits {
        now = if (*profit > 0.0) == winning { now + 1 } else { 0 };
        longest = longest.max(now);
    }
    longest
}

fn shown(trade: &ClosedTrade) -> Value {
    json!({
        "symbol": trade.symbol, "side": trade.side, "opened": date(millis(trade.opened_at)),
        "closed": date(millis(trade.closed_at)), "profit": trade.profit, "entry": trade.entry_price, "exit": trade.exit_price,
    })
}

/// What stands out, in words.
fn drivers(by: &[(&str, Groups)], total: &Group, sorted: &[&ClosedTrade]) -> Vec<String> {
    let mut words = Vec::new();
    let gross = total.profit + total.fees;
    if total.fees > 0.0 && gross > 0.0 {
        words.push(format!("fees took {:.0} % of the profit before fees", 100.0 * total.fees / gross));
    }
    if gross > 0.0 && total.profit < 0.0 {
        words.push("it would have gained without fees: trade less often, or find cheaper ones".to_owned());
    }
    let few = sorted.len().div_ceil(20);
    let carried: f64 = sorted.iter().take(few).map(|trade| trade.profit).sum();
    if total.profit > 0.0 && carried >= total.profit {
        words.push(format!("without its best {few} of {} trades it would have lost", sorted.len()));
    }
    for (name, groups) in by {
        let ordered = || groups.iter().filter(|(_, group)| group.trades >= 3);
        let best = ordered().max_by(|a, b| a.1.profit.total_cmp(&b.1.profit));
        let worst = ordered().min_by(|a, b| a.1.profit.total_cmp(&b.1.profit));
        if let (Some((high, up)), Some((low, down))) = (best, worst)
            && high != low
            && up.profit > 0.0
            && down.profit < 0.0
        {
            words.push(format!(
                "{name}: {high} made {:.2} in {} trades, {low} lost {:.2} in {}",
                up.profit, up.trades, -down.profit, down.trades
            ));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn trade(side: &str, opened_h: f64, hours: f64, profit: f64) -> ClosedTrade {
        serde_json::from_value(json!({
            "type": side, "symbol": "BTC-USDT", "strategy_name": "S", "qty": 1.0, "entry_price": 100.0, "exit_price": 101.0,
            "fee": 1.0, "PNL": profit, "opened_at": opened_h * 3_600_000.0, "closed_at": (opened_h + hours) * 3_600_000.0,
        }))
        .unwrap()
    }

    #[test]
    fn every_trade_is_in_one_group_of_each_and_what_stands_out_is_said() {
        let all: Vec<_> = (0..40)
            .map(|i| {
                trade(
                    if i % 4 == 0 { "short" } else { "long" },
                    f64::from(i) * 30.0,
                    5.0,
                    if i % 4 == 0 { -9.0 } else { 4.0 },
                )
            })
            .collect();
        for groups in
            [grouped(&all, month), grouped(&all, weekday), grouped(&all, hour), grouped(&all, holding_time)]
        {
            assert_eq!(groups.values().map(|group| group.trades).sum::<usize>(), 40);
            let profit: f64 = groups.values().map(|group| group.profit).sum();
            assert!((profit - 30.0).abs() < 1e-9);
        }
        let sides = grouped(&all, |trade| trade.side.clone());
        assert_eq!((sides["long"].wins, sides["short"].wins, sides["short"].trades), (30, 0, 10));
        let mut total = Group::default();
        for trade in &all {
            total.add(trade);
        }
        let mut sorted: Vec<_> = all.iter().collect();
        sorted.sort_by(|a, b| b.profit.total_cmp(&a.profit));
        let words = drivers(&[("side", sides)], &total, &sorted);
        assert!(words.iter().any(|word| word.contains("fees took 57 %")), "{words:?}");
        assert!(
            words.iter().any(|word| word.contains("long made 120.00 in 30 trades, short lost 90.00")),
            "{words:?}"
        );
        assert_eq!((streak(&[1.0, 1.0, -1.0, 2.0], true), streak(&[1.0, -1.0, -1.0], false)), (2, 2));
        assert_eq!(weekday(&all[0]), "4 Thursday");
        assert_eq!(holding_time(&all[0]), "3 4h to 1D");
    }
}
