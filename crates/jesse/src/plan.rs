//! From a checked spec to what a worker computes, and to the cache key of its result.
//!
//! A plan pins everything by hash: the strategies' bundles and the candles' chunks. What runs later is what was planned,
//! whatever is edited or imported in between.

use std::{collections::HashMap, ops::Range, sync::Arc};

use jobs::{
    CacheKey, ErrorCode, Facets, JobError, Kind, QueueError, TenantId,
    blobs::BlobId,
    documents::{Document, Documents},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    candles::{self, CandlesMissing, Covering, Gap, Manifest, Series, Source, exchange::job::arguments},
    catalogue::{Catalogue, Engine},
    spec::BacktestSpec,
};

/// Changes whenever equal keys would no longer mean equal results.
pub const KEY_VERSION: u32 = 1;

/// What a worker needs to compute a backtest, beside its spec. The backtests of a batch mostly differ in their specs
/// alone and share a few plans.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BacktestPlan {
    /// How the exchange works, as Jesse knew it when this was planned.
    pub exchange: crate::catalogue::Exchange,
    /// The strategies' code.
    pub bundles: Vec<BlobId>,
    /// The candles.
    pub series: Vec<PlannedSeries>,
    /// The Jesse that was expected to run it.
    pub engine: Engine,
    /// What it may use.
    pub limits: Limits,
    /// Whether the result is stored under its key for others, rather than for this run alone.
    pub shared: bool,
    /// The tenant who alone may use the result, where tenants do not share any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Of a backtest for Jesse's server; the runner's has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerPlan>,
}

/// What a backtest on Jesse's server is planned with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPlan {
    /// The candles that the servers had.
    pub candles: Vec<crate::rest::Coverage>,
    /// How long a result may answer equal requests, in seconds. 0: not at all.
    pub cache_ttl_s: u64,
    /// Which period of that length this belongs to: only requests of one period share a result.
    pub period: u64,
}

/// A backtest that was planned.
#[derive(Debug, Clone)]
pub struct Planned {
    /// What is asked for.
    pub spec: BacktestSpec,
    /// What it is computed from and with.
    pub plan: BacktestPlan,
    /// The key of its result.
    pub cache_key: CacheKey,
}

/// The candles of one symbol.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlannedSeries {
    /// Which symbol on which exchange.
    #[serde(flatten)]
    pub series: Series,
    /// Real or synthetic.
    pub source: Source,
    /// The months, in order.
    pub chunks: Vec<BlobId>,
    /// A hash of the candles of every day in the range: what the result depends on. Candles that are added outside the
    /// range, be it in the same month, do not change it.
    pub content: String,
    /// The minutes of the range that have no candle, where the call allows for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filled: Option<Filled>,
}

/// What was missing in a range and repeats the last close before it, without volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    /// How many minutes.
    pub minutes: i64,
    /// In how many gaps.
    pub gaps: usize,
    /// The first of them.
    pub first: Gap,
}

impl Filled {
    /// What these gaps take of a range (end exclusive); `None` without one.
    fn of(gaps: &[Gap], from_ms: i64, to_ms: i64) -> Option<Self> {
        let inside = |gap: &Gap| (gap.to_ms.min(to_ms) - gap.from_ms.max(from_ms)) / candles::MINUTE_MS;
        let first = *gaps.first()?;
        Some(Self { minutes: gaps.iter().map(inside).sum(), gaps: gaps.len(), first })
    }
}

/// What a run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Seconds by the clock.
    pub wall_s: u32,
    /// Seconds of processor time.
    pub cpu_s: u32,
    /// Megabytes on top of Jesse itself.
    pub memory_mb: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { wall_s: 3600, cpu_s: 3600, memory_mb: 2048 }
    }
}

/// Why a backtest cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The request's fault.
    #[error(transparent)]
    Job(#[from] JobError),
    /// Redis's.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Plans backtests against the candle manifests.
#[derive(Debug)]
pub struct Planner {
    manifests: Documents<Manifest>,
    /// Whether clients may have candles fetched from exchanges: then they are told how.
    imports: bool,
}

impl Planner {
    /// A planner that reads these manifests, and tells how to import what is missing where clients may do that.
    pub fn new(manifests: Documents<Manifest>, imports: bool) -> Self {
        Self { manifests, imports }
    }

    /// Pins code and candles of one backtest, and works out the cache key of its result.
    pub async fn plan(
        &self,
        spec: BacktestSpec,
        catalogue: &Catalogue,
        limits: Limits,
    ) -> Result<Planned, PlanError> {
        let manifests = self.manifests(std::iter::once(&spec)).await?;
        let needed = needed(&spec);
        match plan(spec, catalogue, limits, &manifests, self.imports) {
            Err(Unplanned::NothingStored(series)) => Err(self.nothing_stored(&series, needed).await?.into()),
            Err(Unplanned::Job(error)) => Err(error.into()),
            Ok(planned) => Ok(planned),
        }
    }

    /// Plans many, all on the same manifests; answers one outcome for each.
    pub async fn plan_all(
        &self,
        specs: Vec<BacktestSpec>,
        catalogue: &Catalogue,
        limits: Limits,
    ) -> Result<Vec<Result<Planned, JobError>>, QueueError> {
        let manifests = self.manifests(specs.iter()).await?;
        let mut planned = Vec::with_capacity(specs.len());
        for (spec, number) in specs.into_iter().zip(1_usize..) {
            let needed = needed(&spec);
            planned.push(match plan(spec, catalogue, limits, &manifests, self.imports) {
                Err(Unplanned::NothingStored(series)) => Err(self.nothing_stored(&series, needed).await?),
                Err(Unplanned::Job(error)) => Err(error),
                Ok(planned) => Ok(planned),
            });
            // Thousands take a moment, in which other calls want to be served too.
            if number.is_multiple_of(PLANNED_AT_ONCE) {
                tokio::task::yield_now().await;
            }
        }
        Ok(planned)
    }

    /// Pins the candles of some series over a range (milliseconds, end exclusive), for what is computed from candles alone.
    /// Missing minutes are refused unless gaps are allowed.
    pub async fn pin(
        &self,
        wanted: &[Series],
        range: (i64, i64),
        allow_gaps: bool,
    ) -> Result<Vec<PlannedSeries>, PlanError> {
        let names: Vec<_> = wanted.iter().map(candles::store::document_name).collect();
        let found = self.manifests.get_all(&names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        let mut pinned = Vec::with_capacity(wanted.len());
        for (series, manifest) in wanted.iter().zip(found) {
            let Some(manifest) = manifest else {
                return Err(self.nothing_stored(series, range.0..range.1).await?.into());
            };
            let found = pin_series(series.clone(), &manifest.value, range, allow_gaps)?;
            pinned.push(found.map_err(|missing| {
                let hint = match missing {
                    CandlesMissing::Gap { .. } => {
                        "; pass allow_gaps: true to leave out the bars that are missing"
                    }
                    CandlesMissing::OutOfRange { .. } | CandlesMissing::EmptyRange { .. } => "",
                };
                let mut message = format!("{missing}{hint}");
                let mut detail = serde_json::Value::Null;
                if self.imports {
                    tell_how_to_import(
                        &missing,
                        &manifest.value,
                        &(range.0..range.1),
                        (&mut message, &mut detail),
                    );
                }
                JobError::new(ErrorCode::CandlesMissing, message).with_detail(detail)
            })?);
        }
        Ok(pinned)
    }

    /// The manifests of all series that these backtests need, by name.
    async fn manifests(&self, specs: impl Iterator<Item = &BacktestSpec>) -> Result<Manifests, QueueError> {
        let mut names: Vec<String> = specs
            .flat_map(|spec| {
                spec.symbols().into_iter().filter_map(|symbol| series(&spec.exchange, symbol).ok())
            })
            .map(|series| candles::store::document_name(&series))
            .collect();
        names.sort_unstable();
        names.dedup();
        let found = self.manifests.get_all(&names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        Ok(names.into_iter().zip(found).filter_map(|(name, found)| Some((name, found?))).collect())
    }

    async fn nothing_stored(&self, missing: &Series, needed: Range<i64>) -> Result<JobError, QueueError> {
        let names = self.manifests.names().await?;
        let shown: Vec<_> = names.iter().map(String::as_str).take(40).collect();
        let stored = if shown.is_empty() {
            "nothing is stored yet".into()
        } else {
            format!("stored: {}", shown.join(", "))
        };
        let mut detail = json!({ "stored": shown });
        let how = if self.imports {
            let import = arguments(missing, &needed);
            let how = format!("{} {import} fetches them", Kind::CandlesImport.as_str());
            detail["import"] = import;
            how
        } else {
            "Import them with `jesse-jobs candles import`, or make synthetic ones with `jesse-jobs candles generate`".into()
        };
        let message = format!("no candles of {missing} are stored; {stored}. {how}");
        Ok(JobError::new(ErrorCode::CandlesMissing, message).with_detail(detail))
    }
}

/// How many backtests are planned without a pause.
const PLANNED_AT_ONCE: usize = 200;

type Manifests = HashMap<String, Arc<Document<Manifest>>>;

enum Unplanned {
    Job(JobError),
    NothingStored(Series),
}

impl From<JobError> for Unplanned {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}

fn plan(
    spec: BacktestSpec,
    catalogue: &Catalogue,
    limits: Limits,
    manifests: &Manifests,
    imports: bool,
) -> Result<Planned, Unplanned> {
    let exchange = catalogue.exchanges.get(&spec.exchange).cloned();
    let exchange = exchange.ok_or_else(|| JobError::new(ErrorCode::InvalidSpec, "exchange: unknown"))?;
    let bundle = |name: &str| match catalogue.strategies.get(name) {
        Some(strategy) => Ok(strategy.bundle.clone()),
        None => Err(JobError::new(ErrorCode::StrategyNotFound, format!("no strategy {name:?}"))),
    };
    let mut bundles = spec.strategies().into_iter().map(bundle).collect::<Result<Vec<_>, _>>()?;
    bundles.sort_unstable();
    bundles.dedup();
    let mut planned = Vec::new();
    for symbol in spec.symbols() {
        let series = series(&spec.exchange, symbol)?;
        match manifests.get(&candles::store::document_name(&series)) {
            Some(manifest) => planned.push(plan_series(series, &manifest.value, &spec, imports)?),
            None => return Err(Unplanned::NothingStored(series)),
        }
    }
    let engine = catalogue.engine.clone();
    let cache_key = cache_key(&spec, &bundles, &planned, &engine);
    let plan = BacktestPlan {
        exchange,
        bundles,
        series: planned,
        engine,
        limits,
        shared: true,
        tenant: None,
        server: None,
    };
    Ok(Planned { spec, plan, cache_key })
}

fn series(exchange: &str, symbol: &str) -> Result<Series, JobError> {
    Series::new(exchange, symbol).map_err(|error| JobError::new(ErrorCode::InvalidSpec, error.to_string()))
}

/// The candles of each symbol that a backtest sees (milliseconds, end exclusive).
fn needed(spec: &BacktestSpec) -> Range<i64> {
    spec.warm_up_start_ms()..spec.range_ms().1
}

fn plan_series(
    series: Series,
    manifest: &Manifest,
    spec: &BacktestSpec,
    imports: bool,
) -> Result<PlannedSeries, JobError> {
    let needed = needed(spec);
    let pinned = pin_series(series, manifest, (needed.start, needed.end), spec.allow_gaps)?;
    pinned.map_err(|missing| candles_missing(&missing, manifest, spec, imports))
}

/// Pins a range (end exclusive), or says what of it is not there.
fn pin_series(
    series: Series,
    manifest: &Manifest,
    (from, finish): (i64, i64),
    allow_gaps: bool,
) -> Result<Result<PlannedSeries, CandlesMissing>, JobError> {
    let covering = match manifest.covering(from, finish).map(|_| ()) {
        Err(missing) if !allow_gaps => return Ok(Err(missing)),
        _ => manifest.covering_despite_gaps(from, finish),
    };
    let Covering { chunks, gaps, from_ms } = match covering {
        Ok(covering) => covering,
        Err(missing) => return Ok(Err(missing)),
    };
    let filled = Filled::of(&gaps, from, finish);
    let invalid = |error: jobs::blobs::BlobError| JobError::new(ErrorCode::Internal, error.to_string());
    let hashes = chunks.iter().map(|chunk| chunk.hash.parse()).collect::<Result<_, _>>().map_err(invalid)?;
    let mut content = blake3::Hasher::new();
    for day in chunks.iter().flat_map(|chunk| chunk.days_between(from_ms, finish)) {
        content.update(day.as_bytes());
    }
    let content = content.finalize().to_hex().to_string();
    Ok(Ok(PlannedSeries { series, source: manifest.source(), chunks: hashes, content, filled }))
}

fn candles_missing(
    missing: &CandlesMissing,
    manifest: &Manifest,
    spec: &BacktestSpec,
    imports: bool,
) -> JobError {
    let (needed, (start_ms, _)) = (needed(spec), spec.range_ms());
    let from_ms = needed.start;
    let mut message = missing.to_string();
    let mut detail = json!({ "needed_from_ms": from_ms, "needed_to_ms": needed.end });
    if let CandlesMissing::Gap { gap, .. } = missing {
        detail["gap"] = json!(gap);
        message.push_str(
            ". Import what is missing, or pass allow_gaps: true to have these minutes repeat the last close",
        );
    }
    if let CandlesMissing::OutOfRange { missing_from, available_from, available_to, .. } = missing {
        detail["available_from_ms"] = (*available_from).into();
        detail["available_to_ms"] = (*available_to).into();
        if *missing_from < start_ms && *missing_from == from_ms {
            let warm_up = spec.warm_up_candles;
            let why = format!(
                ". The {warm_up} warm_up_candles before start_date count: start later, or lower warm_up_candles"
            );
            message.push_str(&why);
        }
    }
    if imports {
        tell_how_to_import(missing, manifest, &needed, (&mut message, &mut detail));
    }
    JobError::new(ErrorCode::CandlesMissing, message).with_detail(detail)
}

/// Names the import that may bring what is missing of a range. What lies between stored candles is not asked for again, and
/// synthetic candles take none of a market.
fn tell_how_to_import(
    missing: &CandlesMissing,
    manifest: &Manifest,
    needed: &Range<i64>,
    (message, detail): (&mut String, &mut serde_json::Value),
) {
    let CandlesMissing::OutOfRange { series, .. } = missing else { return };
    if manifest.source() != Source::Imported {
        return;
    }
    let import = arguments(series, needed);
    *message = format!("{message}. {} {import} fetches them", Kind::CandlesImport.as_str());
    detail["import"] = import;
}

impl Planned {
    /// The same for this tenant alone: its result is found by no other, and no other's run is joined.
    #[must_use]
    pub fn of_tenant(mut self, tenant: &TenantId) -> Self {
        self.cache_key = key_of_tenant(&self.cache_key, tenant);
        self.plan.tenant = Some(tenant.clone());
        self
    }
}

impl BacktestPlan {
    /// The key of what this backtest finds on the plan's code and candles.
    pub fn key_of(&self, spec: &BacktestSpec) -> CacheKey {
        self.scoped(cache_key(spec, &self.bundles, &self.series, &self.engine))
    }

    /// The key for those who may use the result.
    pub fn scoped(&self, key: CacheKey) -> CacheKey {
        match &self.tenant {
            Some(tenant) => key_of_tenant(&key, tenant),
            None => key,
        }
    }
}

/// What a result is found by that one tenant alone may use.
pub fn key_of_tenant(key: &CacheKey, tenant: &TenantId) -> CacheKey {
    let mut hasher = blake3::Hasher::new_derive_key("jesse-jobs cache key of one tenant");
    hasher.update(key.as_str().as_bytes()).update(b"\0").update(tenant.as_str().as_bytes());
    CacheKey::new(hasher.finalize().to_hex().as_str())
}

/// What invalidations may name a backtest's result by.
pub fn facets(spec: &BacktestSpec) -> Facets {
    Facets::new(&spec.exchange, spec.symbols(), spec.strategies())
}

/// The hash of all that the result depends on. What is hashed is canonical JSON: structs and sorted maps, each in one
/// order, floats in their shortest form.
pub fn cache_key(
    spec: &BacktestSpec,
    bundles: &[BlobId],
    series: &[PlannedSeries],
    engine: &Engine,
) -> CacheKey {
    let candles: Vec<_> =
        series.iter().map(|planned| (&planned.series, &planned.source, &planned.content)).collect();
    let engine = (&engine.jesse_version, &engine.semantics);
    let mut hasher = blake3::Hasher::new();
    let all = (KEY_VERSION, Kind::Backtest, spec, bundles, candles, engine);
    // Writing into a hasher cannot fail, and all of these types have a JSON form.
    let _written = serde_json::to_writer(&mut hasher, &all);
    CacheKey::new(hasher.finalize().to_hex().as_str())
}
