//! `pairs_backtest`: whether two symbols are tied, and what trading their spread would have come to.
//!
//! The tests are about the whole range. What is traded is its later part, with the hedge ratio of the part before, so that nothing
//! of what is traded was known when it was chosen.

mod trade;

use jesse::{pair, spec::BacktestSpec};
use jiff::civil::Date;
use jobs::JobError;
use risk::{
    RiskError,
    dependence::{CorrelationMethod, correlation_matrix},
    pairs::{EngleGranger, HalfLife, engle_granger_both, half_life, johansen, rolling_z_scores},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use trade::Formation;
pub(crate) use trade::backtest;

use crate::{
    answer::{Answer, invalid, or_refused, refusal, unfit, value},
    candles::{Aligned, Candles},
    inputs::Inputs,
    track::date,
};

/// The longest series that is tested: what the tests take at most.
const MOST_BARS: usize = 20_000;
/// The fewest bars of the part in which the hedge ratio is found: what the tests take at least.
const FEWEST_BARS: usize = 50;

/// What may be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairsRequest {
    /// Lagged differences of Johansen's test.
    pub lags: usize,
    /// Bars before each from which its z-score is computed.
    pub window: usize,
    /// Of the intervals.
    pub confidence: f64,
    /// Whether the spread is traded.
    pub trade: bool,
    /// The part of the days in which the hedge ratio is found; the rest is traded.
    pub formation_share: f64,
    /// The spread is entered from this z-score on.
    pub entry_z: f64,
    /// It is left from this one on, on its way back.
    pub exit_z: f64,
    /// It is left from this one on, on its way further.
    pub stop_z: f64,
    /// At the start, in the quote asset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<f64>,
    /// As a fraction; that of the exchange by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fee: Option<f64>,
}

impl Default for PairsRequest {
    fn default() -> Self {
        Self {
            lags: 1,
            window: 60,
            confidence: 0.95,
            trade: true,
            formation_share: 0.5,
            entry_z: 2.0,
            exit_z: 0.5,
            stop_z: 4.0,
            balance: None,
            fee: None,
        }
    }
}

impl PairsRequest {
    pub(crate) fn check(&self, candles: &Candles) -> Result<(), JobError> {
        if self.lags > 50 {
            return Err(invalid("lags", "must be at most 50"));
        }
        if !(10..=5000).contains(&self.window) {
            return Err(invalid("window", "must be from 10 to 5000 bars"));
        }
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            return Err(invalid("confidence", "must be between 0 and 1, both excluded"));
        }
        if self.trade { self.check_trade(candles) } else { Ok(()) }
    }

    fn check_trade(&self, candles: &Candles) -> Result<(), JobError> {
        let Self { window, formation_share, entry_z, exit_z, stop_z, balance, fee, .. } = self;
        if !(0.1..=0.9).contains(formation_share) {
            return Err(invalid("formation_share", "must be from 0.1 to 0.9"));
        }
        if !(0.1..=100.0).contains(entry_z) {
            return Err(invalid("entry_z", "must be from 0.1 to 100"));
        }
        if !(0.0..*entry_z).contains(exit_z) {
            return Err(invalid("exit_z", "must be from 0 to entry_z, excluded"));
        }
        if !(*stop_z > *entry_z && *stop_z <= 100.0) {
            return Err(invalid("stop_z", "must be above entry_z and at most 100"));
        }
        if balance.is_some_and(|balance| !(balance > 0.0 && balance <= 1e15)) {
            return Err(invalid("balance", "must be above 0 and at most 1e15"));
        }
        if fee.is_some_and(|fee| !(0.0..=0.1).contains(&fee)) {
            return Err(invalid("fee", "must be a fraction from 0 to 0.1, e.g. 0.0006 for 0.06 %"));
        }
        let needed = FEWEST_BARS.max(window + 1);
        let bars = self.formation_bars(candles)?;
        if bars < needed {
            let message = format!(
                "the part in which the hedge ratio is found has {bars} bars and needs {needed} (window + 1, and {FEWEST_BARS} at \
                 least): give more days or a shorter timeframe, or trade: false for the tests alone"
            );
            return Err(invalid("start_date", message));
        }
        Ok(())
    }

    /// The first day that is traded.
    fn traded_from(&self, candles: &Candles) -> Result<Date, JobError> {
        let (Some(start), Some(finish)) = (candles.start_date, candles.finish_date) else {
            return Err(invalid("start_date", "is missing"));
        };
        let days = (finish - start).get_days();
        if days < 2 {
            return Err(invalid("finish_date", "a pair needs two days, one before what is traded"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "fewer than there are days")]
        let formation = (f64::from(days) * self.formation_share).round() as i32;
        let formation = jiff::Span::new().days(formation.clamp(1, days - 1));
        start.checked_add(formation).map_err(|error| invalid("start_date", error))
    }

    /// How many bars there are before it, if none is missing.
    fn formation_bars(&self, candles: &Candles) -> Result<usize, JobError> {
        let length = jesse::spec::midnight_ms(self.traded_from(candles)?) - candles.range_ms()?.0;
        Ok(usize::try_from(length / (candles.minutes()? * 60_000)).unwrap_or_default())
    }

    fn rules(&self) -> pair::Rules {
        let Self { window, entry_z, exit_z, stop_z, .. } = *self;
        pair::Rules { window, entry_z, exit_z, stop_z }
    }
}

/// The whole range, tested.
struct Tested {
    aligned: Aligned,
    names: Vec<String>,
    logs: [Vec<f64>; 2],
    on_second: EngleGranger,
    on_first: EngleGranger,
    half: HalfLife,
    explained: usize,
}

/// The direction that says more is the one to trade, and the weaker one is the one to believe.
fn explained([on_second, on_first]: [&EngleGranger; 2]) -> usize {
    usize::from(on_second.statistic > on_first.statistic)
}

impl Tested {
    fn of(candles: &Candles, request: &PairsRequest, inputs: &Inputs) -> Result<Self, JobError> {
        let aligned = candles.aligned(inputs)?;
        let [first, second] = &aligned.closes[..] else { return Err(invalid("symbols", "a pair has two")) };
        if first.len() > MOST_BARS {
            let message =
                format!("{} bars, at most {MOST_BARS} are tested: use a longer timeframe", first.len());
            return Err(unfit(message));
        }
        let logs = [first, second].map(|closes| closes.iter().map(|close| close.ln()).collect::<Vec<f64>>());
        let refused = |error: RiskError| refusal(&error);
        let [on_second, on_first] = engle_granger_both(&logs[0], &logs[1]).map_err(refused)?;
        let explained = explained([&on_second, &on_first]);
        let spread = if explained == 0 { &on_second.spread } else { &on_first.spread };
        let half = half_life(spread, request.confidence).map_err(refused)?;
        Ok(Self { names: inputs.names(), aligned, logs, on_second, on_first, half, explained })
    }

    fn spread(&self) -> &[f64] {
        if self.explained == 0 { &self.on_second.spread } else { &self.on_first.spread }
    }

    /// The part before what is traded, or why there is no pair in it.
    fn formation(&self, candles: &Candles, request: &PairsRequest) -> Result<Formation, String> {
        let until = request.traded_from(candles).map_err(|error| error.message)?;
        let bars = self.aligned.bars_ms.partition_point(|time| *time < jesse::spec::midnight_ms(until));
        Formation::of([&self.logs[0][..bars], &self.logs[1][..bars]])
    }
}

/// The backtest of the pair: none where the part before it has no pair in it, which the answer says.
pub(crate) fn backtests(
    candles: &Candles,
    request: &PairsRequest,
    of: &BacktestSpec,
    inputs: &Inputs,
) -> Result<Vec<BacktestSpec>, JobError> {
    let formation = Tested::of(candles, request, inputs)?.formation(candles, request);
    Ok(formation.iter().map(|found| pair::hedged(of.clone(), found.hedge_ratio, found.explained)).collect())
}

pub(crate) fn compute(
    candles: &Candles,
    request: &PairsRequest,
    inputs: &Inputs,
) -> Result<Answer, JobError> {
    let tested = Tested::of(candles, request, inputs)?;
    let Tested { aligned, names, logs, on_second, on_first, half, explained } = &tested;
    let rank = johansen(logs, request.lags);
    let scores = rolling_z_scores(tested.spread(), request.window);
    let last = scores.as_ref().ok().and_then(|scores| scores.last().copied().flatten());
    let correlation = correlation_matrix(&aligned.returns, CorrelationMethod::Pearson, 0.95);
    let correlation = correlation.map(|found| found.pairs.first().map(|pair| pair.value));
    let mut verdict = verdict(names, (on_second, on_first), half, *explained);
    let data = aligned.data(candles, inputs);
    let tests = json!({
        "first_on_second": on_second, "second_on_first": on_first,
        "johansen": or_refused(rank), "half_life": half, "correlation_of_returns": or_refused(correlation),
    });
    let ends: Vec<_> = aligned.bars_ms.iter().map(|time| date(*time)).collect();
    let (mut formation, mut traded) = (Value::Null, Value::Null);
    if request.trade {
        let found = tested.formation(candles, request);
        let trade = trade::traded(&found, request, inputs);
        verdict = format!("{verdict}. {}", trade.words);
        traded = trade.shown;
        formation = found.map_or_else(|refused| json!({ "refused": refused }), |found| found.shown(names));
    }
    let mut body = json!({
        "data": data, "symbols": names, "tests": tests, "explained": names[*explained], "spread": tested.spread(),
        "z_scores": {"window": request.window, "values": or_refused(scores)}, "days": ends,
        "formation": formation, "backtest": traded, "verdict": verdict,
        "definitions": "log prices; the spread is the explained symbol's less hedge_ratio times the other's less the intercept; a \
                        z-score takes mean and deviation from the window before it; tests are about the whole range, the backtest \
                        trades its later part with the hedge ratio of the formation before it, both legs together of the size of \
                        the balance, their values in the hedge ratio; fractions, drawdowns positive",
    });
    if request.trade {
        body["strategy"] = json!({"name": pair::STRATEGY, "source": pair::SOURCE});
    }
    let brief = |test: &EngleGranger| json!({"hedge_ratio": test.hedge_ratio, "statistic": test.statistic, "p_value": test.p_value});
    let mut summary = json!({
        "data": data, "symbols": names, "first_on_second": brief(on_second), "second_on_first": brief(on_first),
        "johansen_cointegrated": tests["johansen"]["cointegrated"], "half_life_bars": half.periods,
        "half_life_interval": [value(&half.low), value(&half.high)], "explained": names[*explained], "z_score_now": last,
        "correlation_of_returns": tests["correlation_of_returns"], "verdict": verdict,
    });
    if request.trade {
        summary["formation"] = body["formation"].clone();
        summary["backtest"] = body["backtest"].clone();
    }
    Ok(Answer { body, summary })
}

fn verdict(
    names: &[String],
    (on_second, on_first): (&EngleGranger, &EngleGranger),
    half: &HalfLife,
    explained: usize,
) -> String {
    let weaker = on_second.p_value.max(on_first.p_value);
    let stronger = on_second.p_value.min(on_first.p_value);
    let pair = names.join(" and ");
    if stronger >= 0.05 {
        return format!(
            "no evidence that {pair} are tied (Engle-Granger p = {stronger:.3} at best): do not trade their spread"
        );
    }
    let returns = half.periods.map_or_else(
        || "its half-life is undefined".to_owned(),
        |periods| format!("half of a deviation is gone in {periods:.0} bars"),
    );
    let both =
        if weaker < 0.05 { "in both directions" } else { "in one direction only, which is weak evidence" };
    format!(
        "{pair} are cointegrated {both} (p = {stronger:.4} and {weaker:.4}); {} is the one to hedge, {returns}",
        names[explained]
    )
}
