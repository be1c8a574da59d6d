//! The kinds of analysis: what each takes, what it is computed from, and the key of what it finds.

use jesse::{catalogue::Catalogue, spec::BacktestSpec};
use jiff::civil::Date;
use jobs::{CacheKey, Facets, JobError, Kind};
use risk::dependence::MOST_SERIES;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    answer::{Answer, invalid, read},
    candles::Candles,
    correlation::{self, CorrelationRequest},
    factors::{self, FactorRequest},
    inputs::{Inputs, Pinned},
    pairs::{self, PairsRequest},
    regimes::{self, RegimeRequest},
    report::{self, ReportRequest},
    results::{self, ResultsRequest},
    simulation::{self, SimulationRequest},
    source::Source,
    stress::{self, StressRequest},
    tail::{self, TailRequest},
    track::DAY_MS,
};

/// Changes whenever equal keys would no longer mean equal answers.
const KEY_VERSION: u32 = 2;

/// What is asked, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Options {
    /// One page of all that matters.
    RiskReport(ReportRequest),
    /// How much can be lost.
    VarCalculation(TailRequest),
    /// What else could have come of it.
    MonteCarlo(SimulationRequest),
    /// What it would have come to in bad times and under worse terms.
    StressTest(StressRequest),
    /// How series move together.
    CorrelationMatrix(CorrelationRequest),
    /// Whether two symbols are tied.
    PairsBacktest(PairsRequest),
    /// What moves it.
    FactorAnalysis(FactorRequest),
    /// Which state it is in.
    RegimeDetector(RegimeRequest),
    /// What drove it.
    AnalyzeResults(ResultsRequest),
}

/// An analysis with every default filled in: the request of its job. Returns that a client gave are not part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// What is analysed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The candles it is computed from, or beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candles: Option<Candles>,
    /// What is asked.
    #[serde(flatten)]
    pub options: Options,
}

/// A checked request, and the returns that came with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// What is asked.
    pub analysis: Analysis,
    /// The returns that it is asked of, if they were given.
    pub returns: Option<Vec<f64>>,
}

/// Whether jobs of this kind are analyses. Those of `monte_carlo` are where the request names a source.
pub fn is_analysis(kind: Kind, fields: &Map<String, Value>) -> bool {
    match kind {
        Kind::MonteCarlo => ["job_id", "jobs", "returns"].iter().any(|name| fields.contains_key(*name)),
        Kind::Backtest
        | Kind::StrategyValidate
        | Kind::CandlesImport
        | Kind::Batch
        | Kind::Optimize
        | Kind::WalkForward
        | Kind::SignificanceTest => false,
        Kind::RiskReport
        | Kind::VarCalculation
        | Kind::StressTest
        | Kind::CorrelationMatrix
        | Kind::PairsBacktest
        | Kind::FactorAnalysis
        | Kind::RegimeDetector
        | Kind::AnalyzeResults => true,
    }
}

impl Analysis {
    /// Checks a request of this kind and fills in what it leaves open.
    pub fn check(kind: Kind, mut fields: Map<String, Value>) -> Result<Checked, JobError> {
        let taken = Source::take(&mut fields)?;
        let (source, returns) = taken.map_or((None, None), |(source, returns)| (Some(source), returns));
        let candles = Candles::take(&mut fields, source.is_some())?;
        let options = Options::read(kind, fields)?;
        let analysis = Self { source, candles, options };
        analysis.check_parts()?;
        Ok(Checked { analysis, returns })
    }

    /// Whether it has what it is computed from, and options that make sense.
    fn check_parts(&self) -> Result<(), JobError> {
        let parts = self.source.as_ref().map_or(0, |source| source.parts().len());
        let symbols = self.candles.as_ref().map_or(0, |candles| candles.series.len());
        let sourced = || match &self.source {
            Some(_) => Ok(()),
            None => Err(invalid("job_id", "give one of job_id, jobs ([{job_id, weight}]) and returns")),
        };
        let bare = || match &self.candles {
            Some(_) => Err(invalid("symbols", "are not part of this analysis")),
            None => Ok(()),
        };
        match &self.options {
            Options::RiskReport(options) => sourced().and_then(|()| bare()).and_then(|()| options.check()),
            Options::VarCalculation(options) => {
                sourced().and_then(|()| bare()).and_then(|()| options.check())
            }
            Options::MonteCarlo(options) => sourced().and_then(|()| bare()).and_then(|()| options.check()),
            Options::AnalyzeResults(options) => {
                single(parts).and_then(|()| bare()).and_then(|()| options.check())
            }
            Options::StressTest(options) => {
                single(parts).and_then(|()| bare()).and_then(|()| options.check())
            }
            Options::FactorAnalysis(options) => sourced().and_then(|()| options.check(symbols > 0)),
            Options::PairsBacktest(options) => match &self.candles {
                Some(candles) if symbols == 2 && self.source.is_none() => options.check(candles),
                _ => Err(invalid("symbols", "a pair has two, on one exchange or two")),
            },
            Options::RegimeDetector(_) if (symbols == 1) == self.source.is_some() => Err(invalid(
                "symbol",
                "give one symbol (with exchange, start_date, finish_date), or a job_id or returns",
            )),
            Options::RegimeDetector(options) => options.check(),
            Options::CorrelationMatrix(_) if symbols > MOST_SERIES => {
                Err(invalid("symbols", format!("at most {MOST_SERIES}")))
            }
            Options::CorrelationMatrix(_)
                if (symbols >= 2) == (parts >= 2) || (symbols == 0 && parts == 0) =>
            {
                Err(invalid(
                    "symbols",
                    "give two or more (with exchange, start_date, finish_date), or jobs: two or more results",
                ))
            }
            Options::CorrelationMatrix(options) => options.check(),
        }
    }

    /// What it is of.
    pub fn kind(&self) -> Kind {
        match self.options {
            Options::RiskReport(_) => Kind::RiskReport,
            Options::VarCalculation(_) => Kind::VarCalculation,
            Options::MonteCarlo(_) => Kind::MonteCarlo,
            Options::StressTest(_) => Kind::StressTest,
            Options::CorrelationMatrix(_) => Kind::CorrelationMatrix,
            Options::PairsBacktest(_) => Kind::PairsBacktest,
            Options::FactorAnalysis(_) => Kind::FactorAnalysis,
            Options::RegimeDetector(_) => Kind::RegimeDetector,
            Options::AnalyzeResults(_) => Kind::AnalyzeResults,
        }
    }

    /// Fills in the range of candles that are set beside a source: the time that all of it has in common.
    pub fn resolve(&mut self, pinned: &Pinned) -> Result<(), JobError> {
        if matches!(self.options, Options::StressTest(_)) {
            self.candles = stress::candles(pinned)?;
        }
        let Some(candles) = self.candles.as_mut().filter(|candles| candles.start_date.is_none()) else {
            return Ok(());
        };
        let range = match &self.source {
            Some(source @ Source::Returns { values, start_date: Some(start), .. }) => {
                let given = source.given(pinned.returns.clone().unwrap_or_default())?;
                let length = i64::try_from(*values).unwrap_or(i64::MAX).saturating_mul(given.period_ms);
                candles.set_period(given.period_ms)?;
                days_after(*start, length).map(|finish| (*start, finish))
            }
            Some(Source::Results { .. }) => {
                let starts = pinned.results.iter().map(|result| result.backtest.start_date).max();
                let ends = pinned.results.iter().map(|result| result.backtest.finish_date).min();
                starts.zip(ends)
            }
            _ => None,
        };
        let (start, finish) =
            range.ok_or_else(|| invalid("start_date", "say on which day the first of the returns is"))?;
        candles.start_date = Some(start);
        candles.finish_date = Some(finish);
        candles.check_size()
    }

    /// The key of what it finds: job ids are no part of it.
    pub fn cache_key(&self, pinned: &Pinned) -> CacheKey {
        let results: Vec<_> = pinned.results.iter().map(|result| (&result.result, &result.blob)).collect();
        let candles: Vec<_> = pinned
            .candles
            .iter()
            .map(|planned| (&planned.series, &planned.source, &planned.content))
            .collect();
        let source = self.source.as_ref().map(Source::key_part);
        // What varies between the runs follows from all the rest.
        let runs = pinned.runs.as_ref().map(|runs| runs.plan.key_of(&runs.backtest));
        let runs = (runs, &pinned.not_run);
        let all = (KEY_VERSION, self.kind(), source, &self.candles, &self.options, results, candles, runs);
        let mut hasher = blake3::Hasher::new_derive_key("jesse-jobs cache key of an analysis");
        // Writing into a hasher cannot fail, and all of these types have a JSON form.
        let _written = serde_json::to_writer(&mut hasher, &all);
        CacheKey::new(hasher.finalize().to_hex().as_str())
    }

    /// What invalidations may name the answer by: all that it was computed from. With several exchanges, the first one.
    pub fn facets(&self, pinned: &Pinned) -> Facets {
        let run = || pinned.runs.iter().map(|runs| &runs.backtest);
        let backtests = || pinned.results.iter().map(|result| &result.backtest).chain(run());
        let symbols = backtests().flat_map(BacktestSpec::symbols);
        let symbols = symbols.chain(pinned.candles.iter().map(|planned| planned.series.symbol()));
        let strategies = backtests().flat_map(BacktestSpec::strategies);
        let exchange = backtests().map(|backtest| backtest.exchange.as_str()).next();
        let exchange = exchange.or_else(|| pinned.candles.first().map(|planned| planned.series.exchange()));
        let unique = |mut names: Vec<String>| {
            names.sort_unstable();
            names.dedup();
            names
        };
        let symbols = unique(symbols.map(str::to_owned).collect());
        let strategies = unique(strategies.map(str::to_owned).collect());
        Facets::new(
            exchange.unwrap_or_default(),
            symbols.iter().map(String::as_str),
            strategies.iter().map(String::as_str),
        )
    }

    /// The backtests whose results the answer needs, as variants of the one that was planned. As long as they have not been run,
    /// this is all that can be computed; what cannot be answered at all is refused here already.
    pub fn backtests(&self, of: &BacktestSpec, inputs: &Inputs) -> Result<Vec<BacktestSpec>, JobError> {
        match &self.options {
            Options::PairsBacktest(options) => {
                let candles = self.candles.as_ref().ok_or_else(|| invalid("symbols", "are missing"))?;
                pairs::backtests(candles, options, of, inputs)
            }
            Options::StressTest(options) => Ok(stress::backtests(options, of)),
            Options::RiskReport(_)
            | Options::VarCalculation(_)
            | Options::MonteCarlo(_)
            | Options::CorrelationMatrix(_)
            | Options::FactorAnalysis(_)
            | Options::RegimeDetector(_)
            | Options::AnalyzeResults(_) => Ok(Vec::new()),
        }
    }

    /// Whether it has a pair traded.
    pub fn trades_a_pair(&self) -> bool {
        matches!(&self.options, Options::PairsBacktest(options) if options.trade)
    }

    /// The backtest of the pair, but for its hedge ratio, which a worker finds; or why there can be none.
    pub fn pair_backtest(&self, catalogue: &Catalogue) -> Result<BacktestSpec, String> {
        match (&self.options, &self.candles) {
            (Options::PairsBacktest(options), Some(candles)) => pairs::backtest(candles, options, catalogue),
            _ => Err("this analysis has no pair".into()),
        }
    }

    /// Whether it has its backtest run again.
    pub fn runs_again(&self) -> bool {
        matches!(&self.options, Options::StressTest(options) if options.runs_again())
    }

    /// Whether it reads more of the backtests that it has run than their metrics.
    pub fn reads_bodies(&self) -> bool {
        matches!(self.options, Options::PairsBacktest(_))
    }

    /// Computes the answer. Takes seconds at most, on all cores.
    pub fn compute(&self, inputs: &Inputs) -> Result<Answer, JobError> {
        let source = self.source.as_ref();
        let sourced = || source.ok_or_else(|| invalid("job_id", "is missing"));
        let candles = self.candles.as_ref();
        match &self.options {
            Options::RiskReport(options) => report::compute(sourced()?, options, inputs),
            Options::VarCalculation(options) => tail::compute(sourced()?, options, inputs),
            Options::MonteCarlo(options) => simulation::compute(sourced()?, options, inputs),
            Options::StressTest(options) => stress::compute(sourced()?, options, inputs),
            Options::CorrelationMatrix(options) => correlation::compute((candles, source), *options, inputs),
            Options::PairsBacktest(options) => {
                let candles = candles.ok_or_else(|| invalid("symbols", "are missing"))?;
                pairs::compute(candles, options, inputs)
            }
            Options::FactorAnalysis(options) => factors::compute(sourced()?, candles, options, inputs),
            Options::RegimeDetector(options) => regimes::compute((candles, source), *options, inputs),
            Options::AnalyzeResults(options) => results::compute(options, inputs),
        }
    }
}

fn single(parts: usize) -> Result<(), JobError> {
    if parts == 1 { Ok(()) } else { Err(invalid("job_id", "name one succeeded backtest")) }
}

/// The day by which so many milliseconds after the start of a day have passed.
fn days_after(start: Date, length_ms: i64) -> Option<Date> {
    let days = length_ms.saturating_add(DAY_MS - 1).div_euclid(DAY_MS);
    start.checked_add(jiff::Span::new().try_days(days).ok()?).ok()
}

impl Options {
    fn read(kind: Kind, fields: Map<String, Value>) -> Result<Self, JobError> {
        Ok(match kind {
            Kind::RiskReport => Self::RiskReport(read(fields)?),
            Kind::VarCalculation => Self::VarCalculation(read(fields)?),
            Kind::MonteCarlo => Self::MonteCarlo(read(fields)?),
            Kind::StressTest => Self::StressTest(read(fields)?),
            Kind::CorrelationMatrix => Self::CorrelationMatrix(read(fields)?),
            Kind::PairsBacktest => Self::PairsBacktest(read(fields)?),
            Kind::FactorAnalysis => Self::FactorAnalysis(read(fields)?),
            Kind::RegimeDetector => Self::RegimeDetector(read(fields)?),
            Kind::AnalyzeResults => Self::AnalyzeResults(read(fields)?),
            Kind::Backtest
            | Kind::StrategyValidate
            | Kind::CandlesImport
            | Kind::Batch
            | Kind::Optimize
            | Kind::WalkForward
            | Kind::SignificanceTest => {
                return Err(invalid("kind", format!("{} is no analysis", kind.as_str())));
            }
        })
    }
}
