//! A report as headings, paragraphs and tables: what Markdown and HTML are both made of.

use serde_json::Value;

/// A part of a page.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// A title of a part.
    Heading(String),
    /// Text.
    Text(String),
    /// Lines that belong together.
    List(Vec<String>),
    /// Column titles and rows.
    Table(Vec<String>, Vec<Vec<String>>),
    /// Wealth over time, from 1: seconds since 1970 and level.
    Curve(Vec<(f64, f64)>),
}

/// A page.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its title.
    pub title: String,
    /// Its parts.
    pub blocks: Vec<Block>,
}

/// The page of a report's body; `trials` is what its campaign amounts to when the page is read, if that is known.
pub fn document(body: &Value, trials: Option<&Value>) -> Document {
    let data = &body["data"];
    let mut blocks = vec![Block::Text(about(data))];
    blocks.push(Block::Heading("Verdict".into()));
    blocks.push(Block::Text(text(&body["verdict"]["summary"])));
    if let Some(advice) = trials.and_then(|trials| trials["advice"].as_str()) {
        blocks.push(Block::Text(format!("Of the campaign: {advice}")));
    }
    blocks.push(Block::List(rules(&body["verdict"])));
    let curve = curve(&body["equity"]);
    if curve.len() > 1 {
        blocks.push(Block::Heading("Wealth and drawdown".into()));
        blocks.push(Block::Curve(curve));
    }
    blocks.push(Block::Heading("Performance".into()));
    blocks.push(performance(body));
    blocks.push(Block::Heading("Largest losses".into()));
    blocks.push(tail(&body["tail"]));
    if let Some(table) = drawdowns(&body["drawdowns"]) {
        blocks.push(Block::Heading("Deepest drawdowns".into()));
        blocks.push(table);
    }
    if let Some(table) = months(&body["months"]) {
        blocks.push(Block::Heading("Months, %".into()));
        blocks.push(table);
    }
    blocks.push(Block::Heading("What else could have come of it".into()));
    blocks.push(simulation(&body["simulation"]));
    if let Some(list) = positions(body) {
        blocks.push(Block::Heading("Trades and exposure".into()));
        blocks.push(list);
    }
    blocks.push(Block::Text(text(&body["definitions"])));
    Document { title: "Risk report".into(), blocks }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A number in so many digits; `-` where there is none.
fn number(value: &Value, digits: usize) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |value| format!("{:.2} %", 100.0 * value))
}

fn date(ms: &Value) -> String {
    ms.as_i64().map_or_else(|| "-".to_owned(), crate::track::date)
}

fn about(data: &Value) -> String {
    let one = |of: &Value| {
        let weight =
            of["weight"].as_f64().map_or_else(String::new, |weight| format!(" ({:.0} %)", 100.0 * weight));
        of["backtest"].as_str().map(|backtest| format!("{backtest} on {}{weight}", text(&of["exchange"])))
    };
    let of = match data["of"]["portfolio"].as_array() {
        Some(parts) => parts.iter().filter_map(one).collect::<Vec<_>>().join("; "),
        None => one(&data["of"]).unwrap_or_else(|| "A given series".into()),
    };
    let span = match (data["from"].as_str(), data["to"].as_str()) {
        (Some(from), Some(to)) => format!(", {from} to {to}"),
        _ => String::new(),
    };
    let (returns, period) = (number(&data["returns"], 0), text(&data["period"]));
    format!("{of}{span}: {returns} returns of {period}, {} a year.", number(&data["periods_per_year"], 0))
}

fn rules(verdict: &Value) -> Vec<String> {
    let rules = verdict["rules"].as_array().into_iter().flatten();
    let rules = rules
        .map(|rule| format!("{} {}: {}", text(&rule["name"]), text(&rule["outcome"]), text(&rule["reason"])));
    let checks = verdict["checks"].as_array().into_iter().flatten();
    let checks = checks
        .filter(|check| check["finding"] == "warning")
        .map(|check| format!("warning, {}: {}", text(&check["name"]), text(&check["reason"])));
    rules.chain(checks).collect()
}

fn curve(points: &Value) -> Vec<(f64, f64)> {
    let points = points.as_array().into_iter().flatten();
    points.filter_map(|point| Some((point[0].as_f64()?, point[1].as_f64()?))).collect()
}

fn performance(body: &Value) -> Block {
    let (figures, intervals) = (&body["performance"], &body["intervals"]);
    let row = |title: &str, name: &str, show: &dyn Fn(&Value) -> String| {
        let interval = &intervals[name];
        let interval = match interval["low"].as_f64() {
            Some(_) => format!("{} to {}", show(&interval["low"]), show(&interval["high"])),
            None => String::new(),
        };
        vec![title.to_owned(), show(&figures[name]), interval]
    };
    let two = |value: &Value| number(value, 2);
    let mut rows = vec![
        row("Total return", "total_return", &percent),
        row("Growth a year (CAGR)", "cagr", &percent),
        row("Volatility a year", "volatility", &percent),
        row("Sharpe ratio", "sharpe", &two),
        row("Sortino ratio", "sortino", &two),
        row("Calmar ratio", "calmar", &two),
        row("Omega ratio", "omega", &two),
        row("Largest drawdown", "max_drawdown", &percent),
        row("Skewness", "skewness", &two),
        row("Kurtosis (raw)", "kurtosis", &two),
    ];
    let sharpe = &body["sharpe"];
    let only = |title: &str, shown: String| vec![title.to_owned(), shown, String::new()];
    rows.push(only("Probability that the true Sharpe ratio is above 0", percent(&sharpe["probabilistic"])));
    rows.push(only("Periods that a record like this needs", number(&sharpe["minimum_track_record"], 0)));
    let confidence = number(&(intervals["sharpe"]["confidence"].as_f64().unwrap_or(0.95) * 100.0).into(), 0);
    Block::Table(vec!["Figure".into(), "Value".into(), format!("{confidence} % interval")], rows)
}

fn tail(figures: &Value) -> Block {
    let row = |figure: &Value| {
        let loss = match figure["refused"].as_str() {
            Some(reason) => [reason.to_owned(), String::new()],
            None => [percent(&figure["value_at_risk"]), percent(&figure["expected_shortfall"])],
        };
        let [var, es] = loss;
        vec![text(&figure["method"]), percent(&figure["confidence"]), var, es]
    };
    let rows = figures.as_array().into_iter().flatten().map(row).collect();
    let titles = ["Method", "Confidence", "Value at risk, one period", "Expected shortfall"];
    Block::Table(titles.map(str::to_owned).to_vec(), rows)
}

fn drawdowns(table: &Value) -> Option<Block> {
    let row = |drawdown: &Value| {
        vec![
            percent(&drawdown["depth"]),
            date(&drawdown["peak_ms"]),
            date(&drawdown["trough_ms"]),
            date(&drawdown["recovered_ms"]),
            number(&drawdown["days_under_water"], 0),
        ]
    };
    let rows: Vec<_> = table["deepest"].as_array()?.iter().map(row).collect();
    let titles = ["Depth", "Peak", "Trough", "Recovered", "Days under water"];
    (!rows.is_empty()).then(|| Block::Table(titles.map(str::to_owned).to_vec(), rows))
}

fn months(table: &Value) -> Option<Block> {
    let shown =
        |value: &Value| value.as_f64().map_or_else(String::new, |value| format!("{:.1}", 100.0 * value));
    let row = |year: &Value| {
        let mut row = vec![number(&year["year"], 0)];
        row.extend(year["months"].as_array().into_iter().flatten().map(shown));
        row.push(shown(&year["total"]));
        row
    };
    let rows: Vec<_> = table["years"].as_array()?.iter().map(row).collect();
    let mut titles = vec!["Year".to_owned()];
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    titles.extend(names.map(str::to_owned));
    titles.push("Year".into());
    Some(Block::Table(titles, rows))
}

fn simulation(found: &Value) -> Block {
    if let Some(reason) = found["refused"].as_str() {
        return Block::Text(reason.to_owned());
    }
    let quantile = |distribution: &Value, wanted: f64| {
        let quantiles = distribution["quantiles"].as_array().into_iter().flatten();
        let near = |one: &&Value| one["probability"].as_f64().is_some_and(|p| (p - wanted).abs() < 1e-9);
        quantiles.into_iter().find(near).map_or(Value::Null, |one| one["value"].clone())
    };
    let row = |title: &str, name: &str, show: &dyn Fn(&Value) -> String| {
        let at = |wanted: f64| show(&quantile(&found[name], wanted));
        vec![title.to_owned(), at(0.05), at(0.5), at(0.95)]
    };
    let rows = vec![
        row("Wealth at the end", "terminal_wealth", &|value| number(value, 3)),
        row("Growth a year", "cagr", &percent),
        row("Largest drawdown", "max_drawdown", &percent),
        row("Longest time under water, periods", "longest_under_water", &|value| number(value, 0)),
    ];
    let titles = ["Over as many periods", "5 % of the paths below", "Half", "5 % above"];
    Block::Table(titles.map(str::to_owned).to_vec(), rows)
}

fn positions(body: &Value) -> Option<Block> {
    let (trades, exposure) = (&body["trades"], &body["exposure"]);
    trades["number"].as_u64()?;
    let rate = &trades["win_rate"];
    Some(Block::List(vec![
        format!(
            "{} trades, {} of them won (interval {} to {})",
            number(&trades["number"], 0),
            percent(&rate["value"]),
            percent(&rate["interval"]["low"]),
            percent(&rate["interval"]["high"])
        ),
        format!("mean profit of a trade: {}", number(&trades["expectancy"], 2)),
        format!(
            "in the market {} of the time: long {}, short {}; a trade is held {} hours in the median",
            percent(&exposure["in_market"]),
            percent(&exposure["long"]),
            percent(&exposure["short"]),
            number(&exposure["median_holding_hours"], 1)
        ),
    ]))
}
