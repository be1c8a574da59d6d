//! The tools as clients see them. Every word here is paid for by every agent that connects.

use std::sync::Arc;

use jesse::{
    candles::{exchange::job::ImportRequest, store::SeriesView},
    monte_carlo::ScenariosRequest,
    optimize::{spec::SearchRequest, walk_forward::WindowsRequest},
    significance::BootstrapRequest,
    spec::BacktestRequest,
    strategies::draft::DraftRequest,
};
use rmcp::{
    handler::server::tool::schema_for_type,
    model::{JsonObject, Tool, ToolAnnotations},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    app,
    arguments::{Job, Nothing, Read, Replace, Wait},
    batch::{Batch, BatchAnswer},
    lookup::{Get, List, Listed, get_output},
    risk, webhooks,
};

use crate::service::{
    Health, Invalidate, Invalidated, ResendRequest, StrategySource, StrategyView, SubmitOptions, Validation,
    WebhookFields,
};

pub(super) const BACKTEST: &str = "backtest";
pub(super) const BACKTEST_BATCH: &str = "backtest_batch";
pub(super) const JOB_LIST: &str = "job_list";
pub(super) const OPTIMIZE: &str = "optimize";
pub(super) const WALK_FORWARD: &str = "walk_forward";
pub(super) const MONTE_CARLO: &str = "monte_carlo";
pub(super) const SIGNIFICANCE_TEST: &str = "significance_test";
pub(super) const JOB_GET: &str = "job_get";
pub(super) const JOB_CHART: &str = "job_chart";
pub(super) const JOB_SERIES: &str = "job_series";
pub(super) const JOB_CANCEL: &str = "job_cancel";
pub(super) const STRATEGY_LIST: &str = "strategy_list";
pub(super) const CACHE_INVALIDATE: &str = "cache_invalidate";
pub(super) const STRATEGY_READ: &str = "strategy_read";
pub(super) const STRATEGY_VALIDATE: &str = "strategy_validate";
pub(super) const STRATEGY_WRITE: &str = "strategy_write";
pub(super) const HEALTH: &str = "health";
pub(super) const CANDLES_LIST: &str = "candles_list";
pub(super) const CANDLES_IMPORT: &str = "candles_import";

#[derive(Serialize, JsonSchema)]
struct Strategies {
    strategies: Vec<StrategyView>,
}

#[derive(Serialize, JsonSchema)]
struct Candles {
    candles: Vec<SeriesView>,
}

#[derive(Clone, Copy)]
pub(super) enum Effect {
    Reads,
    Submits,
    /// Changes what is there, and nothing more when it is repeated.
    Removes,
    /// Whatever its arguments say.
    Manages,
}

impl Effect {
    /// Without a title, as a tool has one itself, and without what the protocol takes for granted (not read-only, destructive,
    /// not to be repeated) or what descriptions say: that the same submit again costs nothing.
    pub(super) fn annotations(self) -> ToolAnnotations {
        match self {
            Self::Reads => ToolAnnotations::new().read_only(true),
            Self::Submits => ToolAnnotations::new().destructive(false),
            Self::Removes => ToolAnnotations::new().idempotent(true),
            Self::Manages => ToolAnnotations::new(),
        }
    }
}

/// All tools, in the order in which an agent needs them; those that write strategies and import candles only where that is
/// allowed.
pub(super) fn all(writable: bool, imports: bool) -> Vec<Tool> {
    let mut tools = always();
    if imports {
        let beside = tools.iter().position(|tool| tool.name == CANDLES_LIST).map_or(0, |at| at + 1);
        tools.insert(beside, candles_import());
    }
    tools.extend(searches());
    tools.extend(risk::all());
    tools.extend(jobs());
    if writable {
        tools.push(strategy_write());
    }
    tools
}

fn strategy_write() -> Tool {
    let mut input = merged(&[schema_for_type::<DraftRequest>(), schema_for_type::<Wait>()]);
    undescribed(&mut input);
    tool::<Validation>(
        STRATEGY_WRITE,
        "Write a strategy",
        "Validate a strategy and, if it is valid (written: true), let backtest use it by its name. Takes strategy_validate's \
         arguments and replace.",
        &merged(&[input.into(), schema_for_type::<Replace>()]),
        Effect::Removes,
    )
}

fn candles_import() -> Tool {
    // backtest says what these are.
    let mut input = merged(&[schema_for_type::<ImportRequest>(), schema_for_type::<Wait>()]);
    undescribed(&mut input);
    job_tool(
        CANDLES_IMPORT,
        "Import candles",
        "Fetch from the exchange what is not stored, by default up to now.",
        &input,
        Effect::Submits,
    )
}

/// Without arguments that are taken all the same.
fn unlisted(input: &mut JsonObject, names: &[&str]) {
    if let Some(Value::Object(properties)) = input.get_mut("properties") {
        properties.retain(|name, _| !names.contains(&name.as_str()));
    }
}

fn webhooks_tool() -> Tool {
    let mut input = merged(&[
        schema_for_type::<webhooks::Which>(),
        schema_for_type::<WebhookFields>(),
        schema_for_type::<webhooks::Page>(),
        schema_for_type::<ResendRequest>(),
    ]);
    // The tool's description says what each action takes; docs/webhooks.md has the rest.
    undescribed(&mut input);
    tool::<webhooks::Answer>(
        webhooks::NAME,
        "Manage webhooks",
        webhooks::DESCRIPTION,
        &input,
        Effect::Manages,
    )
}

fn always() -> Vec<Tool> {
    let mut backtest = merged(&[
        schema_for_type::<BacktestRequest>(),
        schema_for_type::<SubmitOptions>(),
        schema_for_type::<Wait>(),
    ]);
    // Taken, but of use to few: docs/agents.md tells of it.
    unlisted(&mut backtest, &["holdout_share"]);
    vec![
        tool::<Strategies>(
            STRATEGY_LIST,
            "List strategies",
            "Strategies that backtest can run, with their hyperparameters (range, default).",
            &schema_for_type::<Nothing>(),
            Effect::Reads,
        ),
        tool::<StrategySource>(
            STRATEGY_READ,
            "Read a strategy",
            "The source of a strategy and of all that it imports.",
            &schema_for_type::<Read>(),
            Effect::Reads,
        ),
        tool::<Validation>(
            STRATEGY_VALIDATE,
            "Validate a strategy",
            "Check a strategy without storing it. Tells file and line of each mistake. Files that are not given are those stored by that \
             name.",
            &merged(&[schema_for_type::<DraftRequest>(), wait()]),
            Effect::Submits,
        ),
        tool::<Candles>(
            CANDLES_LIST,
            "List candles",
            "Exchanges and symbols that have candles, and from when to when. A backtest needs warm_up_candles before its start_date.",
            &schema_for_type::<Nothing>(),
            Effect::Reads,
        ),
        app::shown(job_tool(
            BACKTEST,
            "Run a backtest",
            "Backtest a strategy. Mostly answers with the metrics (state \"succeeded\", summary.metrics), else with a job_id for \
             job_get, as all tools that submit. The same call again costs nothing. Example: {\"strategy\":\"SmaCross\",\"exchange\":\"Binance Perpetual \
             Futures\",\"symbol\":\"BTC-USDT\",\"timeframe\":\"1h\",\"start_date\":\"2023-02-01\",\"finish_date\":\"2023-03-01\"}",
            &backtest,
            Effect::Submits,
        )),
        backtest_batch(),
    ]
}

/// What is made of backtests.
fn searches() -> Vec<Tool> {
    let backtest = ("backtest", "Arguments of backtest");
    let mut search = made_of::<SearchRequest>(&[backtest]);
    unlisted(&mut search, &["prune_share"]);
    let windows =
        made_of::<WindowsRequest>(&[backtest, ("optimize", "Arguments of optimize, but no test_*")]);
    let histories = or_a_result(made_of::<ScenariosRequest>(&[backtest]));
    let bootstrap = made_of::<BootstrapRequest>(&[backtest]);
    vec![
        job_tool(
            OPTIMIZE,
            "Search hyperparameters",
            "Search the hyperparameters with which a strategy does best on the first part of a period, and judge the best on the \
             rest, which the search never sees.",
            &search,
            Effect::Submits,
        ),
        job_tool(
            WALK_FORWARD,
            "Walk-forward",
            "Cut a period into windows, optimize on each training period and test the winner on the days after it: the honest \
             estimate of what optimizing is worth.",
            &windows,
            Effect::Submits,
        ),
        job_tool(
            MONTE_CARLO,
            "Monte Carlo",
            "Run a backtest on many altered histories and say where the real one lies among them. Or resample a result: job_id, method \
             \"returns\" or \"trades\".",
            &histories,
            Effect::Submits,
        ),
        job_tool(
            SIGNIFICANCE_TEST,
            "Significance",
            "Whether entry signals (of one route) foretell the next bar's return better than chance; exits, sizes and fees play no \
             part. p_value: the share of chance means as high.",
            &bootstrap,
            Effect::Submits,
        ),
    ]
}

fn jobs() -> Vec<Tool> {
    let mut which = (*schema_for_type::<Invalidate>()).clone();
    undescribed(&mut which);
    vec![
        job_get(),
        job_list(),
        job_chart(),
        app::series_tool(),
        job_tool(
            JOB_CANCEL,
            "Cancel a job",
            "Stop a job, or a batch, that has not ended.",
            &schema_for_type::<Job>(),
            Effect::Removes,
        ),
        tool::<Invalidated>(
            CACHE_INVALIDATE,
            "Invalidate results",
            "Remove stored results that have all that is named (key: provenance.cache_key). Seldom needed: edits, new candles and \
             upgrades miss by themselves.",
            &which,
            Effect::Removes,
        ),
        webhooks_tool(),
        tool::<Health>(
            HEALTH,
            "Health",
            "Whether Redis and Jesse are there, and the queue's length.",
            &schema_for_type::<Nothing>(),
            Effect::Reads,
        ),
    ]
}

fn backtest_batch() -> Tool {
    tool::<BatchAnswer>(
        BACKTEST_BATCH,
        "Run many backtests",
        "Run a list or a grid of backtests, all or none; answers one table: the best rows first, then the worst, and how many are \
         in each state. backtest's options (cache, campaign, ...) hold for all.",
        &merged(&[schema_for_type::<Batch>(), wait()]),
        Effect::Submits,
    )
}

fn job_get() -> Tool {
    described(
            JOB_GET,
            "Get jobs",
            "State, progress and, once it has succeeded, metrics of a job; the table of a batch; or a row for each of several.",
            &schema_for_type::<Get>(),
            Effect::Reads,
        )
        .with_raw_output_schema(Arc::new(get_output()))
}

/// The one tool without an output schema: it answers a picture, beside which some clients would show their models the
/// structured part alone.
fn job_chart() -> Tool {
    app::shown(described(
        JOB_CHART,
        "Draw a result",
        "A picture of a backtest: equity with drawdown, or returns by month.",
        &schema_for_type::<app::Picture>(),
        Effect::Reads,
    ))
}

/// See [`app::series_tool`].
pub(super) fn series() -> Tool {
    tool::<app::Series>(JOB_SERIES, "Series", "For charts.", &schema_for_type::<app::Wanted>(), Effect::Reads)
}

fn job_list() -> Tool {
    tool::<Listed>(
        JOB_LIST,
        "List jobs",
        "A table of jobs, newest first.",
        &schema_for_type::<List>(),
        Effect::Reads,
    )
}

/// A search's own arguments, and in one word those of what it is made of: they may also lie beside these, as in
/// `arguments::Submitting`. Said again they would be a fifth of the list.
fn made_of<More: JsonSchema + 'static>(of: &[(&str, &str)]) -> JsonObject {
    let mut all = (*schema_for_type::<More>()).clone();
    if let Some(Value::Object(properties)) = all.get_mut("properties") {
        for (name, description) in of {
            properties.insert((*name).into(), json!({"type": "object", "description": description}));
        }
    }
    all
}

/// How long a call waits, which `backtest` describes for all.
fn wait() -> Arc<JsonObject> {
    let mut wait = (*schema_for_type::<Wait>()).clone();
    undescribed(&mut wait);
    Arc::new(wait)
}

/// Without what another tool says of the same arguments.
fn undescribed(schema: &mut JsonObject) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for said in
        properties.into_iter().flat_map(|properties| properties.values_mut()).filter_map(Value::as_object_mut)
    {
        said.remove("description");
    }
}

/// The same for a tool that may be given a result instead of a backtest.
fn or_a_result(mut request: JsonObject) -> JsonObject {
    if let Some(Value::Object(properties)) = request.get_mut("properties") {
        for name in ["job_id", "method"] {
            properties.insert(name.into(), json!({"type": "string"}));
        }
        for name in ["paths", "steps"] {
            properties.insert(name.into(), json!({"type": "integer"}));
        }
    }
    request
}

/// What all tools that answer a job promise of it. Said twenty times in a list, so it names what an agent acts on and no more.
pub(super) fn job_output() -> JsonObject {
    let (text, object) = (json!({"type": "string"}), json!({"type": "object"}));
    let mut schema = output(json!({"job_id": text, "state": text, "summary": object}));
    schema.insert("required".into(), json!(["job_id", "state"]));
    schema
}

/// The schema of an object with these properties and others.
pub(super) fn output(properties: Value) -> JsonObject {
    let schema: [(&str, Value); 3] =
        [("type", "object".into()), ("additionalProperties", true.into()), ("properties", properties)];
    schema.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A tool that answers a job.
fn job_tool(
    name: &'static str,
    title: &str,
    description: &'static str,
    input: &JsonObject,
    effect: Effect,
) -> Tool {
    described(name, title, description, input, effect).with_raw_output_schema(Arc::new(job_output()))
}

fn tool<Output: JsonSchema + 'static>(
    name: &'static str,
    title: &str,
    description: &'static str,
    input: &JsonObject,
    effect: Effect,
) -> Tool {
    described(name, title, description, input, effect)
        .with_raw_output_schema(lean(&schema_for_type::<Output>(), false))
}

fn described(
    name: &'static str,
    title: &str,
    description: &'static str,
    input: &JsonObject,
    effect: Effect,
) -> Tool {
    Tool::new(name, description, lean(input, true)).with_title(title).with_annotations(effect.annotations())
}

/// One object schema with the properties of several.
fn merged(schemas: &[Arc<JsonObject>]) -> JsonObject {
    let [first, others @ ..] = schemas else { return JsonObject::new() };
    let mut all = (**first).clone();
    for schema in others {
        for part in ["properties", "$defs"] {
            let more = schema.get(part).and_then(Value::as_object).cloned().unwrap_or_default();
            if let Some(Value::Object(known)) = all.get_mut(part) {
                known.extend(more);
            } else if !more.is_empty() {
                all.insert(part.into(), Value::Object(more));
            }
        }
    }
    all
}

/// The schema without what tells a client nothing: titles of types, formats and bounds of machine numbers, defaults (what is
/// not in `required` may be left out, and descriptions say what it then is), and what objects hold in turn, which
/// descriptions say too. Of arguments, that no others are known: whoever gives one is told. Few agents get to see an
/// output's schema, and its fields' names say what they are, so it goes without descriptions.
fn lean(schema: &JsonObject, input: bool) -> Arc<JsonObject> {
    fn strip(value: &mut Value, input: bool) {
        match value {
            Value::Object(fields) => {
                if fields.get("format").is_some_and(Value::is_string) {
                    fields.remove("format");
                    fields.remove("minimum");
                }
                if fields.get("default").is_some_and(|default| !default.is_object() || input) {
                    fields.remove("default");
                }
                if fields.remove("$ref").is_some() {
                    fields.insert("type".into(), "object".into());
                }
                // A property may have the name of a keyword; its schema is an object.
                if input && fields.get("type") == Some(&"object".into()) {
                    fields.remove("additionalProperties");
                }
                if !input && fields.get("description").is_some_and(Value::is_string) {
                    fields.remove("description");
                }
                fields.values_mut().for_each(|field| strip(field, input));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| strip(item, input)),
            _ => {}
        }
    }
    let mut schema = schema.clone();
    for name in ["$schema", "$defs", "title", "description"] {
        schema.remove(name);
    }
    if input && schema.get("properties").is_some() {
        schema.remove("additionalProperties");
    }
    schema.values_mut().for_each(|field| strip(field, input));
    Arc::new(schema)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_list_is_small_and_every_tool_is_described() {
        let tools = all(true, true);
        for tool in &tools {
            assert!(
                tool.annotations.is_some() && tool.title.is_some() && tool.description.is_some(),
                "{}",
                tool.name
            );
            assert_eq!(tool.output_schema.is_none(), tool.name == JOB_CHART, "{}", tool.name);
        }
        // 6,000 tokens; about four bytes make one. Writing is off by default.
        let mut tools = all(false, true);
        let json = serde_json::to_string(&tools).unwrap();
        assert!(json.len() <= 24_000, "{} bytes: {json}", json.len());
        // What clients that drop output schemas show to their models: 4,000 tokens.
        for tool in &mut tools {
            tool.output_schema = None;
        }
        let json = serde_json::to_string(&tools).unwrap();
        assert!(json.len() <= 16_000, "{} bytes: {json}", json.len());
    }

    #[test]
    fn the_arguments_of_backtest_are_those_of_its_three_concerns() {
        let backtest = all(false, true).into_iter().find(|tool| tool.name == BACKTEST).unwrap();
        let properties = backtest.input_schema["properties"].as_object().unwrap();
        for name in ["strategy", "start_date", "hyperparameters", "cache", "timeout_s", "wait_seconds"] {
            assert!(properties.contains_key(name), "{name}");
        }
        assert_eq!(backtest.input_schema["required"], json!(["exchange", "start_date", "finish_date"]));
    }
}
