//! Cache keys of thousands of random backtests: one for each that differs, whatever way it is written.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap, HashSet};

use jesse::{
    candles::{Series, Source},
    catalogue::{Catalogue, Engine, Exchange, Hyperparameter, HyperparameterType, Market, Strategy},
    plan::{PlannedSeries, cache_key, key_of_tenant},
    runner::SandboxState,
    spec::{BacktestRequest, BacktestSpec},
};
use jobs::{CacheKey, TenantId, blobs::BlobId};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde_json::{Value, json};

const SPECS: usize = 10_000;
const EXCHANGES: [&str; 2] = ["Binance Perpetual Futures", "Bybit USDT Perpetual"];
const SYMBOLS: [&str; 3] = ["BTC-USDT", "ETH-USDT", "SOL-USDT"];
const TIMEFRAMES: [&str; 4] = ["1m", "15m", "1h", "4h"];
const STRATEGIES: [&str; 2] = ["Sma", "Rsi"];
const DATES: [(&str, &str); 4] = [
    ("2023-01-01", "2023-02-01"),
    ("2023-01-01", "2023-02-02"),
    ("2023-01-02", "2023-02-01"),
    ("2023-01-12", "2023-02-10"),
];

fn catalogue() -> Catalogue {
    let exchange = |fee| Exchange {
        market: Market::Futures,
        fee,
        leverage_modes: vec!["cross".into(), "isolated".into()],
        simulation_model: None,
        annualization: None,
        settlement_currency: None,
    };
    let parameter = |name: &str, kind, default: Value| Hyperparameter {
        name: name.into(),
        kind,
        min: Some(0.0),
        max: Some(100.0),
        step: None,
        options: None,
        default: Some(default),
    };
    let strategy = |name: &str| Strategy {
        bundle: BlobId::of(name.as_bytes()),
        doc: String::new(),
        hyperparameters: vec![
            parameter("period", HyperparameterType::Int, json!(14)),
            parameter("factor", HyperparameterType::Float, json!(2.5)),
        ],
        error: None,
    };
    let fees = [0.0004, 0.0006];
    Catalogue {
        engine: engine("1", "runner/1"),
        exchanges: EXCHANGES.iter().zip(fees).map(|(name, fee)| ((*name).into(), exchange(fee))).collect(),
        timeframes: TIMEFRAMES.map(str::to_owned).to_vec(),
        strategies: STRATEGIES.iter().map(|name| ((*name).into(), strategy(name))).collect(),
        conflicts: BTreeMap::new(),
        written: BTreeMap::new(),
        sandbox: SandboxState::default(),
    }
}

fn engine(version: &str, semantics: &str) -> Engine {
    Engine { jesse_version: version.into(), semantics: semantics.into(), environment: "e".into() }
}

struct Random(ChaCha8Rng);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.0.next_u64() % limit as u64).unwrap()
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// What is wanted, every field with its value: equal ones are equal backtests.
type Wanted = BTreeMap<&'static str, Value>;

/// Few values each, so that near neighbours and equal ones come about.
fn wanted(random: &mut Random) -> Wanted {
    let (start, finish) = random.one(&DATES);
    BTreeMap::from([
        ("exchange", json!(random.one(&EXCHANGES))),
        ("strategy", json!(random.one(&STRATEGIES))),
        ("symbol", json!(random.one(&SYMBOLS))),
        ("timeframe", json!(random.one(&TIMEFRAMES))),
        ("start_date", json!(start)),
        ("finish_date", json!(finish)),
        ("balance", json!(random.one(&[10_000.0, 10_001.0, 0.5]))),
        ("fee", json!(random.one(&[0.0004, 0.0006, 0.0]))),
        ("leverage", json!(random.one(&[1, 2, 11]))),
        ("leverage_mode", json!(random.one(&["cross", "isolated"]))),
        ("warm_up_candles", json!(random.one(&[240, 24, 2_400]))),
        ("period", json!(random.one(&[14, 1, 41]))),
        ("factor", json!(random.one(&[2.5, 14.0, 0.0]))),
        ("fast_mode", json!(random.flip())),
        ("benchmark", json!(random.flip())),
    ])
}

/// A number as it is or, where that says the same, as a whole one, with an exponent, or as a zero with a sign.
fn spell(random: &mut Random, value: &Value) -> String {
    let Some(number) = value.as_f64().filter(|_| value.is_f64()) else { return value.to_string() };
    match random.below(4) {
        0 if number.fract() == 0.0 => format!("{number:.0}"),
        1 => format!("{number:e}"),
        2 if number == 0.0 => "-0.0".into(),
        _ => value.to_string(),
    }
}

fn object(random: &mut Random, mut fields: Vec<(&str, String)>) -> String {
    for last in (1..fields.len()).rev() {
        fields.swap(last, random.below(last + 1));
    }
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn default_of(name: &str, wanted: &Wanted) -> Option<Value> {
    Some(match name {
        "balance" => json!(10_000.0),
        "fee" if wanted["exchange"] == EXCHANGES[0] => json!(0.0004),
        "fee" => json!(0.0006),
        "leverage" => json!(1),
        "leverage_mode" => json!("cross"),
        "warm_up_candles" => json!(240),
        "period" => json!(14),
        "factor" => json!(2.5),
        "fast_mode" => json!(true),
        "benchmark" => json!(false),
        _ => return None,
    })
}

/// One of the many ways to write it: in any order, flat or as routes, defaults left out or not, under either name.
fn written(random: &mut Random, wanted: &Wanted) -> String {
    let (mut fields, mut parameters, mut route) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value) in wanted {
        if default_of(name, wanted).as_ref() == Some(value) && random.flip() {
            continue;
        }
        let text = spell(random, value);
        match *name {
            "period" | "factor" => parameters.push((*name, text)),
            "strategy" | "symbol" | "timeframe" => route.push((*name, text)),
            "balance" => fields.push((random.one(&["balance", "starting_balance"]), text)),
            "finish_date" => fields.push((random.one(&["finish_date", "end_date"]), text)),
            _ => fields.push((*name, text)),
        }
    }
    if !parameters.is_empty() || random.flip() {
        fields.push(("hyperparameters", object(random, parameters)));
    }
    if random.flip() {
        fields.extend(route);
    } else {
        fields.push(("routes", format!("[{}]", object(random, route))));
    }
    if random.flip() {
        fields.push(("data_routes", "[]".into()));
    }
    object(random, fields)
}

/// As it is planned, on candles whose content follows from their name and range.
fn key(text: &str, catalogue: &Catalogue) -> CacheKey {
    let request: BacktestRequest = serde_json::from_str(text).unwrap();
    let spec = BacktestSpec::check(&request, catalogue).unwrap();
    let names = spec.strategies();
    let bundles: Vec<_> = names.iter().map(|name| catalogue.strategies[*name].bundle.clone()).collect();
    let content = |symbol: &str| format!("{symbol} {} {}", spec.warm_up_start_ms(), spec.range_ms().1);
    let series: Vec<_> = spec
        .symbols()
        .into_iter()
        .map(|symbol| series(&spec.exchange, symbol, &content(symbol), Source::Imported))
        .collect();
    cache_key(&spec, &bundles, &series, &catalogue.engine)
}

fn series(exchange: &str, symbol: &str, content: &str, source: Source) -> PlannedSeries {
    let series = Series::new(exchange, symbol).unwrap();
    PlannedSeries { series, source, chunks: Vec::new(), content: content.into(), filled: None }
}

#[test]
fn keys_never_collide_and_do_not_depend_on_how_a_backtest_is_written() {
    let (mut random, catalogue) = (Random(ChaCha8Rng::seed_from_u64(20_230_101)), catalogue());
    let mut meant: HashMap<CacheKey, String> = HashMap::new();
    let mut keys: HashMap<String, CacheKey> = HashMap::new();
    for _ in 0..SPECS {
        let wanted = wanted(&mut random);
        let name = format!("{wanted:?}");
        for _ in 0..3 {
            let text = written(&mut random, &wanted);
            let key = key(&text, &catalogue);
            let before = keys.entry(name.clone()).or_insert_with(|| key.clone());
            assert_eq!(*before, key, "another key for the same backtest, written as {text}");
            let other = meant.entry(key).or_insert_with(|| name.clone());
            assert_eq!(*other, name, "one key for two backtests");
        }
    }
    assert_eq!(keys.len(), meant.len());
    assert!(keys.len() > SPECS / 2, "only {} that differ", keys.len());
}

#[test]
fn every_part_beside_the_spec_has_its_say() {
    let text = r#"{"strategy":"Sma","exchange":"Binance Perpetual Futures","symbol":"BTC-USDT","timeframe":"1h",
        "start_date":"2023-01-01","finish_date":"2023-02-01"}"#;
    let spec = BacktestSpec::check(&serde_json::from_str(text).unwrap(), &catalogue()).unwrap();
    let candles = |content: &str, source| [series(EXCHANGES[0], "BTC-USDT", content, source)];
    let bundle = |name: &str| BlobId::of(name.as_bytes());
    let (real, one) = (Source::Imported, engine("1", "s"));
    let made = |seed| Source::Synthetic { seed };
    let keys = [
        cache_key(&spec, &[bundle("a")], &candles("c", real), &one),
        cache_key(&spec, &[bundle("b")], &candles("c", real), &one),
        cache_key(&spec, &[bundle("a"), bundle("b")], &candles("c", real), &one),
        cache_key(&spec, &[bundle("a")], &candles("d", real), &one),
        cache_key(&spec, &[bundle("a")], &candles("c", made(1)), &one),
        cache_key(&spec, &[bundle("a")], &candles("c", made(2)), &one),
        cache_key(&spec, &[bundle("a")], &candles("c", real), &engine("2", "s")),
        cache_key(&spec, &[bundle("a")], &candles("c", real), &engine("1", "t")),
    ];
    let mut all = keys.to_vec();
    for tenant in ["a", "b", "", "a\0b"] {
        all.extend(keys.iter().map(|key| key_of_tenant(key, &TenantId::new(tenant))));
    }
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    assert_eq!(key_of_tenant(&keys[0], &TenantId::new("a")), all[keys.len()], "the same each time");
}
