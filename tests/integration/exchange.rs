//! Importing from an exchange through Jesse's driver: the real driver, against a server on loopback that answers as Binance does.
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    ops::Range,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::json;

use crate::candles::{candles, printed, refusal};

pub const EXCHANGE: &str = "Binance Spot";
pub const MINUTE: i64 = 60_000;
pub const DAY: i64 = 1440 * MINUTE;
/// Midnight of 2024-01-30.
pub const JANUARY_30: i64 = 1_706_572_800_000;

/// Open, high, low, close and volume as the exchange writes them.
type Prices = [String; 5];

/// What the exchange does.
#[derive(Default)]
pub struct Market {
    /// By the minute.
    candles: BTreeMap<i64, Prices>,
    /// What it answers to the next requests instead: status and headers.
    pub moods: VecDeque<(u16, &'static str)>,
    /// What it answers whoever asks for candles of a time in this range.
    refused: Option<(Range<i64>, u16)>,
    /// What was asked for: first minutes, without those of the question for the first candle.
    pub asked: Vec<i64>,
    /// From which minute on it answers nothing until this is taken away.
    pub held_from: Option<i64>,
}

pub struct Exchange {
    market: Arc<Mutex<Market>>,
    pub url: String,
}

impl Exchange {
    /// With candles in these ranges.
    pub fn start(ranges: &[Range<i64>]) -> Self {
        let mut market = Market::default();
        for at in ranges.iter().flat_map(|range| range.clone().step_by(60_000)) {
            market.candles.insert(at, prices(at));
        }
        let market = Arc::new(Mutex::new(market));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = market.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                // Whoever hangs up in the middle has its reasons.
                std::thread::spawn(move || _ = answer(&stream, &shared));
            }
        });
        Self { market, url }
    }

    pub fn market(&self) -> MutexGuard<'_, Market> {
        self.market.lock().unwrap()
    }

    fn import(&self, data: &Path, arguments: &[&str]) -> Command {
        self.import_of(data, "BTC-USDT", arguments)
    }

    fn import_of(&self, data: &Path, symbol: &str, arguments: &[&str]) -> Command {
        let mut command = candles(data, &["import", "--from-exchange", EXCHANGE, "--symbol", symbol]);
        command.args(arguments).args(["--exchange-url", &self.url, "--exchange-attempts", "3"]);
        command
    }
}

/// With as many digits as the exchange gives, and other ones each minute.
fn prices(at: i64) -> Prices {
    let minute = at / MINUTE;
    let price =
        |offset: i64| format!("{}.{:08}", 42_000 + minute % 97 + offset, minute * 7_919 % 100_000_000);
    [price(0), price(3), price(-3), price(1), format!("{}.{:05}", minute % 50, minute % 99_999)]
}

fn answer(stream: &TcpStream, market: &Mutex<Market>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let target = request.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query: HashMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let start: i64 = query.get("startTime").map_or(0, |text| text.parse().unwrap());
    while market.lock().unwrap().held_from.is_some_and(|held| start >= held) {
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let (status, headers, body) = if path == "/api/v3/klines" {
        klines(&query, &mut market.lock().unwrap())
    } else {
        (404, "", json!({}))
    };
    let body = body.to_string();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n\
         {body}",
        body.len()
    )
}

fn klines(query: &HashMap<&str, &str>, market: &mut Market) -> (u16, &'static str, serde_json::Value) {
    assert_eq!(query["interval"], "1m");
    if query["symbol"] != "BTCUSDT" {
        return (400, "", json!({"code": -1121, "msg": "Invalid symbol."}));
    }
    let number = |name: &str| query.get(name).map(|text| text.parse::<i64>().unwrap());
    let (start, end) = (number("startTime").unwrap(), number("endTime").unwrap_or(i64::MAX));
    if start > 0 {
        market.asked.push(start);
        if let Some((status, headers)) = market.moods.pop_front() {
            return (status, headers, json!({"code": -1003, "msg": "Too many requests."}));
        }
        if let Some((_, status)) = market.refused.as_ref().filter(|(range, _)| range.contains(&start)) {
            return (*status, "", json!({}));
        }
    }
    let limit = usize::try_from(number("limit").unwrap()).unwrap();
    let rows = market.candles.range(start..=end).take(limit).map(|(at, [open, high, low, close, volume])| {
        let closed = at + MINUTE - 1;
        json!([at, open, high, low, close, volume, closed, "1468253.07", 1842, "17.1", "733126.5", "0"])
    });
    (200, "", rows.collect())
}

/// All that is stored, as the exchange would give it to Jesse: time, open, close, high, low, volume.
fn exported(data: &Path) -> Vec<[f64; 6]> {
    let arguments = ["export", "--exchange", EXCHANGE, "--symbol", "BTC-USDT"];
    let text = printed(&mut candles(data, &arguments));
    let header: Vec<_> = text.lines().next().unwrap().split(',').collect();
    let row = |line: &str| {
        let values: HashMap<_, f64> =
            header.iter().copied().zip(line.split(',').map(|value| value.parse().unwrap())).collect();
        ["timestamp", "open", "close", "high", "low", "volume"].map(|name| values[name])
    };
    text.lines().skip(1).map(row).collect()
}

fn expected(market: &Market, range: Range<i64>) -> Vec<[f64; 6]> {
    let number = |text: &String| text.parse::<f64>().unwrap();
    let row = |(at, [open, high, low, close, volume]): (&i64, &Prices)| {
        #[expect(clippy::cast_precision_loss, reason = "times are whole numbers below 10^14")]
        let at = *at as f64;
        [at, number(open), number(close), number(high), number(low), number(volume)]
    };
    market.candles.range(range).map(row).collect()
}

#[test]
fn an_exchange_is_followed() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let gap = JANUARY_30 + DAY + 600 * MINUTE..JANUARY_30 + DAY + 630 * MINUTE;
    // From noon of December 31.
    let listed = JANUARY_30 - 30 * DAY + DAY / 2;
    let exchange = Exchange::start(&[listed..gap.start, gap.end..JANUARY_30 + 5 * DAY]);
    let days = ["--start", "2024-01-30", "--finish", "2024-02-02"];

    // It is asked too often, and out of order, for a moment.
    exchange.market().moods = VecDeque::from([(429, "Retry-After: 0\r\n"), (503, "")]);
    let said = printed(&mut exchange.import(data, &days));
    let lines: Vec<_> = said.lines().collect();
    assert!(
        lines[0].starts_with("4290 candles into 2 months; Binance Spot BTC-USDT: 4290 candles"),
        "{said}"
    );
    assert_eq!(lines[1..], ["missing: 2024-01-31 10:00 to 2024-01-31 10:30 (UTC), 30 minutes"]);
    assert!(exchange.market().moods.is_empty());
    assert_eq!(exported(data), expected(&exchange.market(), JANUARY_30..JANUARY_30 + 3 * DAY));

    // Nothing that is stored is asked for again.
    exchange.market().asked.clear();
    assert!(printed(&mut exchange.import(data, &days)).starts_with("0 candles into 0 months; "));
    assert_eq!(exchange.market().asked, [0; 0]);

    // Before and after it. Stopped in the month before, it leaves no hole, and goes on from there.
    let more = ["--start", "2023-12-30", "--finish", "2024-02-03"];
    let new_year = JANUARY_30 - 29 * DAY;
    exchange.market().refused = Some((0..new_year, 403));
    let said = refusal(&mut exchange.import(data, &more));
    assert!(said.contains("Binance Spot refuses BTC-USDT: ERROR 403"), "{said}");
    assert_eq!(exported(data), expected(&exchange.market(), new_year..JANUARY_30 + 3 * DAY));
    exchange.market().refused = None;
    exchange.market().asked.clear();
    let said = printed(&mut exchange.import(data, &more));
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("2160 candles into 2 months; "), "{said}");
    assert_eq!(lines[1], "missing: 2023-12-30 00:00 to 2023-12-31 12:00 (UTC), 2160 minutes");
    assert_eq!(lines.len(), 3);
    let stored = new_year..JANUARY_30 + 3 * DAY;
    assert!(exchange.market().asked.iter().all(|at| *at >= listed && !stored.contains(at)));
    assert_eq!(exported(data), expected(&exchange.market(), listed..JANUARY_30 + 4 * DAY));

    // What was corrected and filled since is seen when all is asked for.
    exchange.market().candles.insert(JANUARY_30 + DAY, prices(0));
    exchange.market().candles.extend(gap.step_by(60_000).map(|at| (at, prices(at))));
    let said = printed(&mut exchange.import(data, &[&days[..], &["--full"]].concat()));
    assert!(said.starts_with("4320 candles into 1 months; "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(exported(data), expected(&exchange.market(), listed..JANUARY_30 + 4 * DAY));
}

#[test]
fn an_exchange_that_fails_is_told_of() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let exchange = Exchange::start(std::slice::from_ref(&(JANUARY_30..JANUARY_30 + DAY / 2)));
    let day = ["--start", "2024-01-30", "--finish", "2024-01-31"];

    // For good: tried as often as allowed.
    exchange.market().moods = VecDeque::from(vec![(429, "Retry-After: 0\r\n"); 10]);
    let said = refusal(&mut exchange.import(data, &day));
    assert!(said.contains("Binance Spot is asked too often; try again later: ERROR 429"), "{said}");
    assert!(said.contains("(tried 3 times)"), "{said}");
    assert_eq!(exchange.market().asked.len(), 3);
    // A pause that nobody wants to wait for.
    exchange.market().moods = VecDeque::from([(418, "Retry-After: 86400\r\n")]);
    let said = refusal(&mut exchange.import(data, &day));
    assert!(said.contains("asks to wait 86400 seconds"), "{said}");
    exchange.market().moods.clear();

    let said = refusal(&mut exchange.import_of(data, "NONE-USDT", &day));
    assert!(said.contains("Binance Spot refuses NONE-USDT: ") && said.contains("Invalid symbol."), "{said}");
    let said = refusal(&mut exchange.import(data, &["--start", "2024-02-01", "--finish", "2024-02-02"]));
    assert!(
        said.contains("Binance Spot has no candles of BTC-USDT from 2024-02-01 00:00 to 2024-02-02"),
        "{said}"
    );
    // High and low are swapped.
    exchange.market().candles.get_mut(&(JANUARY_30 + MINUTE)).unwrap().swap(1, 2);
    let said = refusal(&mut exchange.import(data, &day));
    assert!(said.contains("Binance Spot answers something that Jesse's driver cannot use: "), "{said}");
    let arguments = ["import", "--from-exchange", "Nowhere", "--symbol", "BTC-USDT", "--start", "2024-01-30"];
    let said = refusal(&mut candles(data, &arguments));
    assert!(
        said.contains("Jesse has no driver for 'Nowhere'; it has: ") && said.contains("Binance Spot"),
        "{said}"
    );
    assert_eq!(printed(&mut candles(data, &["list"])), "no candles are stored\n");

    // What can be told without asking anybody.
    for (arguments, part) in [
        (vec!["--start", "yesterday"], "\"yesterday\" is not a date"),
        (vec!["--start", "2999-01-01"], "must begin before the present minute"),
        (
            vec!["--start", "2024-01-02", "--finish", "2024-01-01"],
            "the range from 2024-01-02 00:00 to 2024-01-01",
        ),
        (vec!["--start", "2024-01-02", "--exchange", EXCHANGE], "cannot be used with"),
        (vec![], "--start"),
    ] {
        let said = refusal(&mut exchange.import(data, &arguments));
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}
