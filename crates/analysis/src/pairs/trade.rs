//! The backtest of a pair: what it is planned from, and what is told of it.

use jesse::{
    catalogue::{Catalogue, Market},
    pair,
    spec::{BacktestRequest, BacktestSpec},
};
use jobs::JobError;
use risk::{
    PeriodsPerYear, Returns,
    bootstrap::BootstrapOptions,
    pairs::{EngleGranger, engle_granger_both},
    performance::{performance, performance_intervals},
};
use serde_json::{Value, json};

use super::{PairsRequest, explained};
use crate::{
    answer::refusal,
    candles::Candles,
    inputs::{Body, Inputs, Ran},
    track::daily,
};

/// Days of a year.
const DAYS_PER_YEAR: f64 = 365.0;
/// What a bar must look like in a test before it is believed.
const BELIEVED: f64 = 0.05;

/// The backtest that the pair would have, but for its hedge ratio; or why it has none.
pub(crate) fn backtest(
    candles: &Candles,
    request: &PairsRequest,
    catalogue: &Catalogue,
) -> Result<BacktestSpec, String> {
    let [first, second] = &candles.series[..] else { return Err("a pair has two symbols".into()) };
    if first.exchange() != second.exchange() {
        return Err("one account trades both legs, so they must be on one exchange".into());
    }
    let known = catalogue.exchanges.get(first.exchange());
    if known.is_some_and(|exchange| exchange.market == Market::Spot) {
        return Err(format!(
            "{} is a spot market, and one leg is always short: name a futures exchange",
            first.exchange()
        ));
    }
    let said = |error: JobError| error.message;
    let asked = BacktestRequest {
        exchange: first.exchange().to_owned(),
        start_date: request.traded_from(candles).map_err(said)?.to_string(),
        finish_date: candles.finish_date.unwrap_or_default().to_string(),
        balance: request.balance,
        fee: request.fee,
        allow_gaps: candles.allow_gaps.then_some(true),
        ..BacktestRequest::default()
    };
    let legs = ([first.symbol(), second.symbol()], candles.timeframe.as_str());
    pair::check(asked, legs, &request.rules(), catalogue).map_err(said)
}

/// What was known before the first day that is traded.
pub(super) struct Formation {
    pub(super) hedge_ratio: f64,
    pub(super) explained: usize,
    /// Of no cointegration, in the direction that is traded.
    p_value: f64,
    bars: usize,
}

impl Formation {
    pub(super) fn of([first, second]: [&[f64]; 2]) -> Result<Self, String> {
        let tests = engle_granger_both(first, second)
            .map_err(|error| format!("no hedge ratio could be found before what is traded: {error}"))?;
        let explained = explained([&tests[0], &tests[1]]);
        let EngleGranger { hedge_ratio, p_value, .. } = tests[explained];
        if !pair::HEDGE_RATIOS.contains(&hedge_ratio.abs()) {
            return Err(format!(
                "before what is traded the hedge ratio is {hedge_ratio:.4}, so that one leg would be next to nothing"
            ));
        }
        // Six digits are more than is known of it, and equal pairs are equal backtests.
        Ok(Self { hedge_ratio: (hedge_ratio * 1e6).round() / 1e6, explained, p_value, bars: first.len() })
    }

    pub(super) fn shown(&self, names: &[String]) -> Value {
        let Self { hedge_ratio, explained, p_value, bars } = self;
        json!({
            "explained": names[*explained], "hedge_ratio": hedge_ratio, "p_value": p_value, "bars": bars,
            "cointegrated": *p_value < BELIEVED,
        })
    }

    fn words(&self) -> String {
        if self.p_value < BELIEVED {
            return String::new();
        }
        format!(
            "; before that nothing said that they are tied (p = {:.3}), so this had no ground",
            self.p_value
        )
    }
}

/// What the backtest came to, and the same in words.
pub(super) struct Traded {
    pub(super) shown: Value,
    pub(super) words: String,
}

impl Traded {
    fn refused(why: &str) -> Self {
        Self { shown: json!({ "refused": why }), words: format!("The spread was not traded: {why}") }
    }
}

pub(super) fn traded(
    formation: &Result<Formation, String>,
    request: &PairsRequest,
    inputs: &Inputs,
) -> Traded {
    let formation = match (&inputs.not_run, formation) {
        (Some(why), _) | (None, Err(why)) => return Traded::refused(why),
        (None, Ok(formation)) => formation,
    };
    let [ran] = &inputs.ran[..] else { return Traded::refused("its backtest is not there") };
    match (&ran.summary, &ran.body) {
        (Ok(summary), Some(body)) => came_to(formation, request, ran, (&summary["metrics"], body)),
        (Err(why), _) => {
            let mut traded = Traded::refused(&format!("its backtest, job {}, failed: {why}", ran.job_id));
            traded.shown["job_id"] = json!(ran.job_id);
            traded
        }
        (Ok(_), None) => Traded::refused("the result of its backtest is not there"),
    }
}

fn came_to(
    formation: &Formation,
    request: &PairsRequest,
    ran: &Ran,
    (metrics, body): (&Value, &Body),
) -> Traded {
    let Ran { job_id, backtest, .. } = ran;
    let legs = body.trades.len();
    let first = backtest.routes.first().map_or("", |route| route.symbol.as_str());
    let round_trips = body.trades.iter().filter(|trade| trade.symbol == first).count();
    let net = metrics["net_profit_percentage"].as_f64().map(|percent| percent / 100.0);
    let figures = figures(body, request.confidence);
    let mut shown = json!({
        "job_id": job_id, "from": backtest.start_date, "to": backtest.finish_date,
        "rules": {"entry_z": request.entry_z, "exit_z": request.exit_z, "stop_z": request.stop_z, "window": request.window},
        "fee": backtest.fee, "trades": legs, "round_trips": round_trips, "net_profit": net,
    });
    let range = format!("from {} to {}", backtest.start_date, backtest.finish_date);
    let ground = formation.words();
    if legs == 0 {
        let entry = request.entry_z;
        let words = format!("Traded {range} it was never entered: no z-score was {entry} or more{ground}");
        return Traded { shown, words };
    }
    match figures {
        Err(error) => shown["refused"] = error.message.into(),
        Ok(Value::Object(figures)) => {
            if let Value::Object(shown) = &mut shown {
                shown.extend(figures);
            }
        }
        Ok(_) => {}
    }
    let words = format!(
        "Traded {range} at the hedge ratio of the days before, it came to {} in {round_trips} round trips{}{ground}",
        net.map_or_else(|| "nothing that is known".into(), |net| format!("{:+.2} % after fees", 100.0 * net)),
        in_words(&shown["sharpe"]),
    );
    Traded { shown, words }
}

/// From the daily returns.
fn figures(body: &Body, confidence: f64) -> Result<Value, JobError> {
    let frequency = PeriodsPerYear::new(DAYS_PER_YEAR).map_err(|error| refusal(&error))?;
    let returns = Returns::new(daily(body)?.returns, frequency).map_err(|error| refusal(&error))?;
    let whole = performance(&returns);
    let options = BootstrapOptions { confidence, ..BootstrapOptions::default() };
    // From a few days there is a figure and no interval.
    let interval = performance_intervals(&returns, &options).ok().and_then(|found| found.sharpe);
    Ok(json!({
        "sharpe": {
            "value": whole.sharpe, "low": interval.map(|sharpe| sharpe.low), "high": interval.map(|sharpe| sharpe.high),
        },
        "max_drawdown": whole.max_drawdown, "volatility": whole.volatility,
    }))
}

fn in_words(sharpe: &Value) -> String {
    let Some(value) = sharpe["value"].as_f64() else { return String::new() };
    match (sharpe["low"].as_f64(), sharpe["high"].as_f64()) {
        (Some(low), Some(high)) => {
            let judged = if low > 0.0 {
                "more than luck gives"
            } else if high < 0.0 {
                "a loss that is no bad luck"
            } else {
                "not to be told from luck"
            };
            format!(", a Sharpe ratio of {value:.2} ({low:.2} to {high:.2}), {judged}")
        }
        _ => format!(", a Sharpe ratio of {value:.2} of too few days to say how sure it is"),
    }
}
