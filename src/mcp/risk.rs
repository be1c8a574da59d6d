//! The tools of risk analysis. Their schemas are written by hand, since every word is paid for by every agent that connects:
//! what an argument is, and no more. What a request may hold is checked where it is read, and a test holds the two together.

use std::sync::Arc;

use jobs::Kind;
use rmcp::model::{JsonObject, Tool};
use serde_json::{Value, json};

use super::tools::{Effect, job_output};

/// What the answers of these tools have, of all that a job has.
const ANSWERED: [&str; 8] = ["job_id", "state", "cached", "progress", "summary", "error", "campaign", "next"];

/// A tool, the kind of job that it submits, what it is for, and its own arguments.
struct Described {
    kind: Kind,
    title: &'static str,
    description: &'static str,
    sourced: bool,
    own: Value,
}

/// The kinds of job that these tools submit, in the order of the list.
pub(super) const KINDS: [Kind; 8] = [
    Kind::RiskReport,
    Kind::VarCalculation,
    Kind::StressTest,
    Kind::AnalyzeResults,
    Kind::FactorAnalysis,
    Kind::RegimeDetector,
    Kind::CorrelationMatrix,
    Kind::PairsBacktest,
];

/// The kind of job that a tool submits.
pub(super) fn kind(tool: &str) -> Option<Kind> {
    KINDS.into_iter().find(|kind| kind.as_str() == tool)
}

/// All of them.
pub(super) fn all() -> Vec<Tool> {
    described().into_iter().map(tool).collect()
}

/// What of a job of these kinds is answered.
pub(super) fn brief(answer: &mut Value) {
    if let Value::Object(fields) = answer {
        fields.retain(|name, _| ANSWERED.contains(&name.as_str()));
    }
}

fn described() -> Vec<Described> {
    let described =
        |kind, title, description, sourced, own| Described { kind, title, description, sourced, own };
    let (text, number, numbers) = (
        json!({"type": "string"}),
        json!({"type": "number"}),
        json!({"type": "array", "items": {"type": "number"}}),
    );
    let symbols = json!({"type": "array", "items": {"type": "string"}});
    let ranged = |symbols: Value| json!({"exchange": text, "symbols": symbols, "timeframe": text, "start_date": text, "finish_date": text});
    vec![
        described(
            Kind::RiskReport,
            "Risk report",
            "Verdict in words, figures with intervals, tail, drawdowns, what else could have come of it. Call it before trusting a \
             backtest.",
            true,
            json!({}),
        ),
        described(
            Kind::VarCalculation,
            "Value at risk",
            "VaR and expected shortfall by six methods, and whether such forecasts held. Losses are positive fractions.",
            true,
            json!({"confidence": numbers, "horizons": numbers}),
        ),
        described(
            Kind::StressTest,
            "Stress test",
            "One result in past crises, gaps, spreads, funding, halts, and rerun with higher fees.",
            true,
            json!({"gaps": numbers, "fee_multiples": numbers}),
        ),
        described(
            Kind::AnalyzeResults,
            "What drove a result",
            "One result by month, side, hour, holding time; best and worst trades.",
            true,
            json!({}),
        ),
        described(
            Kind::FactorAnalysis,
            "Factor analysis",
            "What moves a result: regression on the returns of symbols, with errors that allow for autocorrelation.",
            true,
            json!({"exchange": text, "symbols": symbols, "window": number}),
        ),
        described(
            Kind::RegimeDetector,
            "Regimes",
            "Calm and turbulent states of one symbol (exchange, symbol, dates) or of a result, and which is on now.",
            true,
            json!({"exchange": text, "symbol": text, "timeframe": text, "start_date": text, "finish_date": text, "regimes": number}),
        ),
        described(
            Kind::CorrelationMatrix,
            "Correlations",
            "Of the returns of symbols, or of results (jobs: [{job_id}]), with intervals and shrinkage.",
            false,
            ranged(symbols.clone()),
        ),
        described(
            Kind::PairsBacktest,
            "Pair",
            "Whether two symbols are cointegrated, and what trading their spread, hedged on the days before, came to.",
            false,
            ranged(symbols),
        ),
    ]
}

fn tool(Described { kind, title, description, sourced, own }: Described) -> Tool {
    let mut properties = JsonObject::new();
    if sourced {
        properties.insert("job_id".into(), json!({"type": "string"}));
    }
    // What else can be analysed is said once, by the first tool of the list, and taken by all but those of one result.
    if kind == Kind::RiskReport {
        let said = json!({
            "job_id": {"type": "string", "description": "A succeeded backtest"},
            "jobs": {
                "type": "array", "items": {"type": "object"},
                "description": "Or [{job_id, weight}]; also in var_calculation, factor_analysis and regime_detector",
            },
            "returns": {"type": "array", "items": {"type": "number"}, "description": "Or fractions, with period"},
            "period": {"type": "string"},
        });
        properties.extend(said.as_object().cloned().unwrap_or_default());
    }
    if let Value::Object(own) = own {
        properties.extend(own);
    }
    let mut input = JsonObject::new();
    input.insert("type".into(), "object".into());
    input.insert("properties".into(), properties.into());
    Tool::new(kind.as_str(), description, Arc::new(input))
        .with_title(title)
        .with_raw_output_schema(Arc::new(job_output()))
        .with_annotations(Effect::Submits.annotations())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_tools_of_risk_analysis_take_their_share_of_the_list_and_no_more() {
        let json = serde_json::to_string(&all()).unwrap();
        // About four bytes make a token.
        assert!(json.len() < 2_200 * 4, "{} bytes", json.len());
        let names: Vec<_> = all().into_iter().map(|tool| tool.name).collect();
        assert_eq!(names, KINDS.map(Kind::as_str));
        for name in names {
            assert!(kind(&name).is_some(), "{name}");
        }
        assert_eq!(kind("backtest"), None);
    }
}
