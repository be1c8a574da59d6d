//! What the servers can run, as a document that API instances plan with: strategies, exchanges, candles.

use std::collections::BTreeMap;

use jobs::{CacheKey, ErrorCode, JobError, Kind, blobs::BlobId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    coverage::{self, Coverage},
    http::{CallError, Client, now_ms},
};
use crate::{
    catalogue::{Catalogue, Engine, Exchange, Market, Strategy},
    plan::{BacktestPlan, KEY_VERSION, Limits, Planned, ServerPlan},
    runner::SandboxState,
    spec::{BacktestRequest, BacktestSpec},
};

/// The way Jesse's server is called, with a number that changes when a change of ours changes results.
pub const SEMANTICS: &str = "rest/1";
/// The collection of documents, and the one in it.
pub const COLLECTION: &str = "servers";
/// See [`COLLECTION`].
pub const DOCUMENT: &str = "current";
/// An offer that nobody has repeated for so long is void: the workers that could reach the servers are gone, or cannot.
const VALID_MS: u64 = 5 * 60 * 1000;

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// When it was made, in milliseconds.
    pub made_ms: u64,
    /// How long a result may answer equal requests, in seconds. 0: not at all.
    pub cache_ttl_s: u64,
    /// What can be run. A strategy's bundle is the hash of its main file: all that a server tells of its code.
    pub catalogue: Catalogue,
    /// The candles.
    pub candles: Vec<Coverage>,
}

impl Offer {
    /// Whether it was repeated lately.
    pub fn is_valid(&self) -> bool {
        now_ms().saturating_sub(self.made_ms) < VALID_MS
    }

    /// Whether it says the same.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let Self { made_ms: _, cache_ttl_s, catalogue, candles } = self;
        *cache_ttl_s == other.cache_ttl_s && *catalogue == other.catalogue && *candles == other.candles
    }

    /// Checks a request against what the servers can run, and plans it.
    pub fn plan(&self, request: &BacktestRequest, limits: Limits) -> Result<Planned, JobError> {
        refuse_unsupported(request)?;
        let spec = BacktestSpec::check(request, &self.catalogue)?;
        let candles = coverage::needed(&spec, &self.candles)?;
        let unknown = || JobError::new(ErrorCode::InvalidSpec, "exchange: unknown");
        let exchange = self.catalogue.exchanges.get(&spec.exchange).cloned().ok_or_else(unknown)?;
        let known = |name| Some(self.catalogue.strategies.get(name)?.bundle.clone());
        let mut bundles: Vec<BlobId> = spec.strategies().into_iter().filter_map(known).collect();
        bundles.sort_unstable();
        bundles.dedup();
        let period = (now_ms() / 1000).checked_div(self.cache_ttl_s).unwrap_or(0);
        let server = ServerPlan { candles, cache_ttl_s: self.cache_ttl_s, period };
        let engine = self.catalogue.engine.clone();
        let cache_key = cache_key(&spec, &bundles, &server, &engine);
        let plan = BacktestPlan {
            exchange,
            bundles,
            series: Vec::new(),
            engine,
            limits,
            shared: true,
            tenant: None,
            server: Some(server),
        };
        Ok(Planned { spec, plan, cache_key })
    }
}

/// What the servers have no way to be asked for is said, not left out.
fn refuse_unsupported(request: &BacktestRequest) -> Result<(), JobError> {
    let mut errors = Vec::new();
    if request.hyperparameters.as_ref().is_some_and(|given| !given.is_empty()) {
        errors.push((
            "hyperparameters",
            "cannot be set on Jesse's server, which runs a strategy with its defaults; the engine runner can",
        ));
    }
    if request.benchmark == Some(true) {
        errors.push(("benchmark", "is not told by Jesse's server; the engine runner has it"));
    }
    if request.scenario.is_some() {
        errors.push(("scenario", "cannot be asked of Jesse's server; the engine runner alters candles"));
    }
    if request.allow_gaps == Some(true) {
        errors.push(("allow_gaps", "cannot be asked of Jesse's server; the engine runner can fill gaps"));
    }
    if errors.is_empty() {
        return Ok(());
    }
    let text: Vec<_> = errors.iter().map(|(field, message)| format!("{field}: {message}")).collect();
    let errors: Vec<_> =
        errors.iter().map(|(field, message)| json!({"field": field, "message": message})).collect();
    Err(JobError::new(ErrorCode::InvalidSpec, text.join("; ")).with_detail(json!({ "errors": errors })))
}

/// The key of a result of this engine: never that of another one's, and another one in every period of the cache's TTL, since
/// neither helper files nor the candles' versions can be known.
pub fn cache_key(spec: &BacktestSpec, bundles: &[BlobId], server: &ServerPlan, engine: &Engine) -> CacheKey {
    let ServerPlan { candles, cache_ttl_s, period } = server;
    let engine = (&engine.jesse_version, &engine.semantics);
    let all = (KEY_VERSION, Kind::Backtest, spec, bundles, candles, engine, cache_ttl_s, period);
    let mut hasher = blake3::Hasher::new();
    // Writing into a hasher cannot fail, and all of these types have a JSON form.
    let _written = serde_json::to_writer(&mut hasher, &all);
    CacheKey::new(hasher.finalize().to_hex().as_str())
}

/// Asks a server what it can run.
pub(super) async fn ask(client: &Client, cache_ttl_s: u64) -> Result<Offer, CallError> {
    let info = client.post("system/general-info/local", &json!({})).await?;
    let candles = coverage::stored(client).await?;
    let mut strategies = BTreeMap::new();
    for name in names(&info["strategies"]).filter(|name| is_name(name)) {
        match client.post("strategy/get", &json!({"name": name})).await {
            Ok(answer) => {
                let code = answer["content"].as_str().unwrap_or_default();
                let bundle = BlobId::of(code.as_bytes());
                let strategy =
                    Strategy { bundle, doc: String::new(), hyperparameters: Vec::new(), error: None };
                strategies.insert(name.to_owned(), strategy);
            }
            // A folder without a strategy in it.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let system = &info["system_info"];
    let environment = json!([system["python_version"], system["operating_system"]]).to_string();
    let catalogue = Catalogue {
        engine: Engine {
            jesse_version: system["jesse_version"].as_str().unwrap_or("unknown").to_owned(),
            semantics: SEMANTICS.into(),
            environment: blake3::hash(environment.as_bytes()).to_hex()[..32].to_owned(),
        },
        exchanges: exchanges(&info["exchanges"]),
        timeframes: names(&info["jesse_supported_timeframes"]).map(str::to_owned).collect(),
        strategies,
        conflicts: BTreeMap::new(),
        written: BTreeMap::new(),
        sandbox: SandboxState::default(),
    };
    Ok(Offer { made_ms: now_ms(), cache_ttl_s, catalogue, candles })
}

fn names(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The server joins names to paths without looking at them.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
}

fn exchanges(known: &Value) -> BTreeMap<String, Exchange> {
    let exchange = |(name, info): (&String, &Value)| {
        let market = match info["type"].as_str()? {
            "spot" => Market::Spot,
            "futures" => Market::Futures,
            _ => return None,
        };
        info["modes"]["backtesting"].as_bool().filter(|backtesting| *backtesting)?;
        let exchange = Exchange {
            market,
            fee: info["fee"].as_f64()?,
            leverage_modes: names(&info["supported_leverage_modes"]).map(str::to_owned).collect(),
            simulation_model: info["simulation_model"].as_str().map(str::to_owned),
            annualization: info["annualization"].as_u64().and_then(|days| u32::try_from(days).ok()),
            settlement_currency: info["settlement_currency"].as_str().map(str::to_owned),
        };
        Some((name.clone(), exchange))
    };
    known.as_object().into_iter().flatten().filter_map(exchange).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::rest::testing::spec;

    fn offer() -> Offer {
        let exchanges = json!({
            "Binance Perpetual Futures": {"type": "futures", "fee": 0.0004, "supported_leverage_modes": ["cross"],
                "modes": {"backtesting": true}, "simulation_model": "perpetual_futures", "annualization": 365},
            "Other": {"type": "options", "fee": 0.1, "modes": {"backtesting": true}},
            "Live only": {"type": "spot", "fee": 0.1, "modes": {"backtesting": false}},
        });
        let bundle = BlobId::of(b"code");
        let strategy = Strategy { bundle, doc: String::new(), hyperparameters: Vec::new(), error: None };
        let engine =
            Engine { jesse_version: "3.5.3".into(), semantics: SEMANTICS.into(), environment: String::new() };
        let candles = json!([{"exchange": "Binance Perpetual Futures", "symbol": "BTC-USDT",
            "start_date": "2023-01-01", "end_date": "2023-03-01"}]);
        Offer {
            made_ms: now_ms(),
            cache_ttl_s: 3600,
            catalogue: Catalogue {
                engine,
                exchanges: super::exchanges(&exchanges),
                timeframes: vec!["1h".into()],
                strategies: BTreeMap::from([("SmaCross".into(), strategy)]),
                conflicts: BTreeMap::new(),
                written: BTreeMap::new(),
                sandbox: SandboxState::default(),
            },
            candles: serde_json::from_value(candles).unwrap(),
        }
    }

    fn request() -> BacktestRequest {
        serde_json::from_value(json!({
            "strategy": "SmaCross", "exchange": "Binance Perpetual Futures", "symbol": "BTC-USDT", "timeframe": "1h",
            "start_date": "2023-02-01", "finish_date": "2023-03-01",
        }))
        .unwrap()
    }

    #[test]
    fn only_what_can_be_backtested_is_offered() {
        assert_eq!(offer().catalogue.exchanges.keys().collect::<Vec<_>>(), ["Binance Perpetual Futures"]);
        for wrong in ["", "../../etc", "a/b", "a.b"] {
            assert!(!is_name(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_a_server_cannot_do_is_said_at_submit() {
        let mut request = request();
        request.hyperparameters = Some(BTreeMap::from([("fast".into(), json!(5))]));
        request.benchmark = Some(true);
        request.allow_gaps = Some(true);
        let error = offer().plan(&request, Limits::default()).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidSpec);
        assert!(error.message.contains("hyperparameters: ") && error.message.contains("benchmark: "));
        assert!(error.message.contains("allow_gaps: "));
    }

    #[test]
    fn a_key_depends_on_the_period_and_is_never_a_runners() {
        let planned = offer().plan(&request(), Limits::default()).unwrap();
        let BacktestPlan { bundles, engine, server, .. } = planned.plan;
        let mut server = server.unwrap();
        assert_eq!(cache_key(&planned.spec, &bundles, &server, &engine), planned.cache_key);
        let runners = crate::plan::cache_key(&planned.spec, &bundles, &[], &engine);
        assert_ne!(runners, planned.cache_key);
        server.period += 1;
        assert_ne!(cache_key(&planned.spec, &bundles, &server, &engine), planned.cache_key);
        assert_ne!(spec("Other"), planned.spec);
    }

    #[test]
    fn an_old_offer_is_void() {
        let mut offer = offer();
        assert!(offer.is_valid());
        offer.made_ms -= VALID_MS;
        assert!(!offer.is_valid());
    }
}
