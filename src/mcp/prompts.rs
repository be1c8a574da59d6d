//! Prompts: the usual workflows, as a user picks them in a client.

use rmcp::{
    ErrorData,
    model::{GetPromptResult, JsonObject, ListPromptsResult, Prompt, PromptArgument, PromptMessage, Role},
};
use serde_json::Value;

/// A workflow.
struct Workflow {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    /// Names and what they mean. All are needed.
    arguments: &'static [(&'static str, &'static str)],
    /// With `{name}` where the argument's value goes.
    text: &'static str,
}

/// The most characters of an argument.
const LONGEST: usize = 200;

const STRATEGY: (&str, &str) = ("strategy", "Name of the strategy, from strategy_list");
const SYMBOL: (&str, &str) = ("symbol", "E.g. BTC-USDT");

const WORKFLOWS: [Workflow; 3] = [
    Workflow {
        name: "test_an_idea",
        title: "Test an idea honestly",
        description: "One strategy, judged on data that its author has not looked at",
        arguments: &[STRATEGY, SYMBOL],
        text: "Judge the strategy {strategy} on {symbol}, with the campaign {strategy}-idea in every call: its first job holds out the \
               last fifth of the stored days (candles_list has the range), and a call that reaches into them is refused with the last \
               day allowed. 1. Call backtest on the days before. With fewer than 30 trades say that nothing can be concluded, and \
               stop. 2. Call backtest_batch with a grid of the neighbouring values of its hyperparameters (strategy_list has their ranges): a \
               good result among bad neighbours is luck. 3. Call monte_carlo on the same backtest and say where the real run lies \
               among the altered histories. Call risk_report with its job_id and give the verdict. 4. Only then call backtest once on \
               the held-out days, with holdout true: the look is logged and counted. Report all results, also those that speak against \
               it, with the number of variants tried (campaign.trials) and of looks (campaign.holdouts).",
    },
    Workflow {
        name: "sweep_parameters",
        title: "Sweep parameters",
        description: "How a strategy's results depend on its hyperparameters",
        arguments: &[STRATEGY, SYMBOL],
        text: "Find out how {strategy} on {symbol} depends on its hyperparameters. 1. Read their ranges with strategy_list and the \
               stored range with candles_list. 2. Call backtest_batch with a grid of at most 64 combinations over the first \
               three quarters of the range. 3. Describe the region of good values, not the single best row. 4. Call walk_forward \
               over all days that are not held out: only its tested windows say what choosing parameters is worth. Give the number of trials.",
    },
    Workflow {
        name: "assess_the_risk",
        title: "Assess the risk of a result",
        description: "How far the result of a backtest can be trusted, and what it may lose",
        arguments: &[("job_id", "A backtest that has succeeded")],
        text: "Assess the risk of job {job_id}. 1. Call job_get with detail true for its metrics and its spec. 2. Call risk_report \
               with the job_id for the verdict, the tail and the drawdowns. Call analyze_results: does the profit come from a few \
               trades or one month? 3. Call monte_carlo with the job_id and method returns: what else could have come of it. 4. Call \
               stress_test with the job_id: gaps, higher fees and spreads, past crises. 5. Call job_chart if you can look at \
               pictures. Say what could be lost in a bad year, and which of these figures rest on too few trades.",
    },
];

/// All prompts.
pub(super) fn list() -> ListPromptsResult {
    let prompt = |workflow: &Workflow| {
        let argument = |(name, meaning): &(&str, &str)| {
            PromptArgument::new(*name).with_description(*meaning).with_required(true)
        };
        let arguments = workflow.arguments.iter().map(argument).collect();
        Prompt::new(workflow.name, Some(workflow.description), Some(arguments)).with_title(workflow.title)
    };
    ListPromptsResult::with_all_items(WORKFLOWS.iter().map(prompt).collect())
}

/// A prompt with its arguments filled in.
pub(super) fn get(name: &str, arguments: Option<&JsonObject>) -> Result<GetPromptResult, ErrorData> {
    let invalid = |message: String| ErrorData::invalid_params(message, None);
    let workflow = WORKFLOWS.iter().find(|workflow| workflow.name == name).ok_or_else(|| {
        let known: Vec<_> = WORKFLOWS.iter().map(|workflow| workflow.name).collect();
        let name: String = name.chars().take(80).collect();
        invalid(format!("no prompt {name:?}; there are {}", known.join(", ")))
    })?;
    let mut text = workflow.text.to_owned();
    for (name, meaning) in workflow.arguments {
        let value = arguments.and_then(|arguments| arguments.get(*name)).and_then(Value::as_str);
        let value = value.map(str::trim).filter(|value| (1..=LONGEST).contains(&value.len()));
        let value = value
            .ok_or_else(|| invalid(format!("{name}: needs a text of 1 to {LONGEST} bytes: {meaning}")))?;
        text = text.replace(&format!("{{{name}}}"), value);
    }
    let message = PromptMessage::new_text(Role::User, text);
    Ok(GetPromptResult::new(vec![message]).with_description(workflow.description))
}

#[cfg(test)]
pub(super) fn texts() -> impl Iterator<Item = &'static str> {
    WORKFLOWS.iter().map(|workflow| workflow.text)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    #[test]
    fn every_argument_of_a_prompt_is_filled_in() {
        for prompt in list().prompts {
            let names: Vec<_> =
                prompt.arguments.unwrap().into_iter().map(|argument| argument.name.clone()).collect();
            let given: JsonObject = names.iter().map(|name| (name.clone(), json!("<given>"))).collect();
            let filled = serde_json::to_string(&get(&prompt.name, Some(&given)).unwrap().messages).unwrap();
            for name in names {
                assert!(!filled.contains(&format!("{{{name}}}")), "{}: {filled}", prompt.name);
                let mut without = given.clone();
                without.remove(&name);
                assert!(get(&prompt.name, Some(&without)).unwrap_err().message.contains(&name));
            }
        }
        assert!(get("none", None).unwrap_err().message.contains("sweep_parameters"));
    }
}
