//! What a search may try.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalogue::{Hyperparameter, HyperparameterType};

/// The most values of one dimension, beyond which it is searched as if it were continuous in steps.
const OPTIONS_MOST: usize = 1000;

/// A narrower range of one hyperparameter: a list of values, or bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "space: each must be a list of values, or an object of min, max and step")]
pub enum Narrowed {
    /// These values alone.
    Options(Vec<Value>),
    /// From `min` to `max`, in steps.
    Range {
        /// The smallest value
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        /// The largest value
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
        /// The distance between values
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<f64>,
    },
}

/// One hyperparameter and what it may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dimension {
    /// Its name.
    pub name: String,
    /// What it may be.
    #[serde(flatten)]
    pub values: Values,
}

/// The values of a dimension. Each has a coordinate, a number that neighbours share roughly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Values {
    /// These, without an order.
    Options(Vec<Value>),
    /// Whole numbers.
    Int {
        /// The first.
        min: i64,
        /// The distance.
        step: i64,
        /// How many.
        count: u32,
    },
    /// Numbers in steps.
    Steps {
        /// The first.
        min: f64,
        /// The distance.
        step: f64,
        /// How many.
        count: u32,
    },
    /// All numbers between the two.
    Between {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
}

impl Values {
    /// How many there are; `None` for infinitely many.
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Options(options) => Some(options.len() as u64),
            Self::Int { count, .. } | Self::Steps { count, .. } => Some(u64::from(*count)),
            Self::Between { .. } => None,
        }
    }

    /// The range of coordinates: from the first, included, to the second, excluded.
    pub fn coordinates(&self) -> (f64, f64) {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "a list has far fewer than 2^52 values")]
            Self::Options(options) => (0.0, options.len() as f64),
            Self::Int { count, .. } | Self::Steps { count, .. } => (0.0, f64::from(*count)),
            // The upper bound is excluded; nobody misses it.
            Self::Between { min, max } => (*min, *max),
        }
    }

    /// Whether neighbours have something in common.
    pub fn ordered(&self) -> bool {
        !matches!(self, Self::Options(_))
    }

    /// The value at a coordinate; one outside the range is taken for its nearest end.
    pub fn at(&self, coordinate: f64) -> Value {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the number of values, which fits"
        )]
        let index = |count: usize| (coordinate.max(0.0) as usize).min(count.saturating_sub(1));
        match self {
            Self::Options(options) => options.get(index(options.len())).cloned().unwrap_or_default(),
            Self::Int { min, step, count } => {
                let index = i64::try_from(index(*count as usize)).unwrap_or(i64::MAX);
                min.saturating_add(step.saturating_mul(index)).into()
            }
            Self::Steps { min, step, count } => {
                #[expect(clippy::cast_precision_loss, reason = "at most 2^32 steps")]
                let value = step.mul_add(index(*count as usize) as f64, *min);
                rounded(value).into()
            }
            Self::Between { min, max } => coordinate.clamp(*min, *max).into(),
        }
    }
}

/// 0.1 + 2 * 0.1 is to be 0.3: what steps add up to has no more digits than anybody would write.
fn rounded(value: f64) -> f64 {
    format!("{value:.12e}").parse().unwrap_or(value)
}

/// The space of a strategy's hyperparameters without those that are `fixed`, narrowed where that is asked for. What is wrong
/// is said for each: {name, message}.
pub fn space(
    known: &[Hyperparameter],
    fixed: &BTreeMap<String, Value>,
    narrowed: &BTreeMap<String, Narrowed>,
) -> Result<Vec<Dimension>, Vec<(String, String)>> {
    let mut wrong = Vec::new();
    for name in narrowed.keys() {
        if !known.iter().any(|parameter| parameter.name == *name) {
            let names: Vec<_> = known.iter().map(|parameter| parameter.name.as_str()).collect();
            wrong.push((name.clone(), format!("unknown hyperparameter; known: {}", names.join(", "))));
        } else if fixed.contains_key(name) {
            wrong.push((name.clone(), "is fixed in hyperparameters; give it in one place".into()));
        }
    }
    let mut space = Vec::new();
    for parameter in known.iter().filter(|parameter| !fixed.contains_key(&parameter.name)) {
        match values(parameter, narrowed.get(&parameter.name)) {
            Ok(values) if values.count() == Some(0) => {
                wrong.push((parameter.name.clone(), "has no value to try".into()));
            }
            Ok(values) => space.push(Dimension { name: parameter.name.clone(), values }),
            Err(message) => wrong.push((parameter.name.clone(), message)),
        }
    }
    if wrong.is_empty() { Ok(space) } else { Err(wrong) }
}

fn values(parameter: &Hyperparameter, narrowed: Option<&Narrowed>) -> Result<Values, String> {
    if let Some(Narrowed::Options(options)) = narrowed {
        if options.len() > OPTIONS_MOST {
            return Err(format!("has more than {OPTIONS_MOST} values; give min, max and step"));
        }
        let checked = options.iter().map(|value| parameter.check(value)).collect::<Result<Vec<_>, _>>()?;
        let mut distinct = Vec::new();
        for value in checked {
            if !distinct.contains(&value) {
                distinct.push(value);
            }
        }
        return Ok(Values::Options(distinct));
    }
    match parameter.kind {
        HyperparameterType::Bool | HyperparameterType::Categorical if narrowed.is_some() => {
            Err("has no order; give a list of values".into())
        }
        HyperparameterType::Bool => Ok(Values::Options(vec![false.into(), true.into()])),
        HyperparameterType::Categorical => parameter
            .options
            .clone()
            .map(Values::Options)
            .ok_or_else(|| "has no options; give a list of values".into()),
        HyperparameterType::Int | HyperparameterType::Float => numbers(parameter, narrowed),
    }
}

fn numbers(parameter: &Hyperparameter, narrowed: Option<&Narrowed>) -> Result<Values, String> {
    let (own_min, own_max, own_step) = match narrowed {
        Some(Narrowed::Range { min, max, step }) => (*min, *max, *step),
        _ => (None, None, None),
    };
    let (Some(min), Some(max)) = (own_min.or(parameter.min), own_max.or(parameter.max)) else {
        return Err("has no min and max of its own; give them in space, or fix it in hyperparameters".into());
    };
    for bound in [own_min, own_max].into_iter().flatten() {
        let bound = serde_json::Number::from_f64(bound).ok_or("its bounds must be finite numbers")?;
        parameter.check(&Value::Number(bound))?;
    }
    if min > max {
        return Err(format!("min {min} is above max {max}"));
    }
    let step = own_step.or(parameter.step);
    if step.is_some_and(|step| !(step.is_finite() && step > 0.0)) {
        return Err("step must be above 0".into());
    }
    // A little more, since 0.3 / 0.1 is below 3.
    let count = |step: f64| {
        let count = ((max - min) / step * (1.0 + 1e-12)).floor() + 1.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to fit")]
        (count <= f64::from(u32::MAX))
            .then_some(count as u32)
            .ok_or("has too many values; give a larger step")
    };
    if parameter.kind == HyperparameterType::Int {
        let step = step.unwrap_or(1.0);
        if step.fract() != 0.0 {
            return Err("step must be a whole number".into());
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole numbers of this size, as checked with the bounds"
        )]
        return Ok(Values::Int { min: min.ceil() as i64, step: step as i64, count: count(step)? });
    }
    Ok(match step {
        Some(step) => Values::Steps { min, step, count: count(step)? },
        None if min < max => Values::Between { min, max },
        None => Values::Options(vec![min.into()]),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    fn parameter(of: Value) -> Hyperparameter {
        serde_json::from_value(of).unwrap()
    }

    fn known() -> Vec<Hyperparameter> {
        vec![
            parameter(json!({"name": "fast", "type": "int", "min": 5, "max": 20, "default": 9})),
            parameter(json!({"name": "risk", "type": "float", "min": 0.1, "max": 0.3, "step": 0.1})),
            parameter(json!({"name": "stop", "type": "float", "min": 1.0, "max": 3.0})),
            parameter(json!({"name": "long", "type": "bool", "default": true})),
            parameter(json!({"name": "mode", "type": "categorical", "options": ["a", "b", "c"]})),
        ]
    }

    fn names(space: &[Dimension]) -> Vec<&str> {
        space.iter().map(|dimension| dimension.name.as_str()).collect()
    }

    #[test]
    fn each_hyperparameter_is_a_dimension_unless_it_is_fixed() {
        let fixed = BTreeMap::from([("mode".to_owned(), json!("b"))]);
        let space = space(&known(), &fixed, &BTreeMap::new()).unwrap();
        assert_eq!(names(&space), ["fast", "risk", "stop", "long"]);
        let counts: Vec<_> = space.iter().map(|dimension| dimension.values.count()).collect();
        assert_eq!(counts, [Some(16), Some(3), None, Some(2)]);
        assert_eq!(
            (space[0].values.at(0.0), space[0].values.at(15.99), space[0].values.at(99.0)),
            (json!(5), json!(20), json!(20))
        );
        assert_eq!([0.5, 1.5, 2.5].map(|at| space[1].values.at(at)), [json!(0.1), json!(0.2), json!(0.3)]);
    }

    #[test]
    fn a_range_can_be_narrowed_but_not_widened() {
        let narrowed =
            |of: Value| serde_json::from_value::<BTreeMap<String, Narrowed>>(of).unwrap_or_default();
        let with = |of: Value| space(&known(), &BTreeMap::new(), &narrowed(of));
        let fine =
            with(json!({"fast": {"min": 6, "max": 10, "step": 2}, "stop": [1.5, 2, 2.0], "long": [true]}));
        let fine = fine.unwrap();
        assert_eq!(fine[0].values, Values::Int { min: 6, step: 2, count: 3 });
        assert_eq!(fine[2].values, Values::Options(vec![json!(1.5), json!(2.0)]), "2 and 2.0 are one value");
        for (of, expected) in [
            (json!({"fast": {"max": 30}}), "must be from 5 to 20"),
            (json!({"fast": {"min": 12, "max": 8}}), "min 12 is above max 8"),
            (json!({"fast": {"step": 0.5}}), "step must be a whole number"),
            (json!({"fast": {"step": -1}}), "step must be above 0"),
            (json!({"fast": []}), "has no value to try"),
            (json!({"mode": ["d"]}), "must be one of \"a\", \"b\", \"c\""),
            (json!({"mode": {"min": 1}}), "has no order; give a list of values"),
            (json!({"slow": [1]}), "unknown hyperparameter; known: fast, risk, stop, long, mode"),
        ] {
            let wrong = with(of.clone()).err().unwrap_or_default();
            assert_eq!(
                wrong.iter().map(|(_, message)| message.as_str()).collect::<Vec<_>>(),
                [expected],
                "{of}"
            );
        }
    }

    #[test]
    fn bounds_are_needed_from_somewhere() {
        let known = [parameter(json!({"name": "n", "type": "int", "min": 1}))];
        assert!(space(&known, &BTreeMap::new(), &BTreeMap::new()).is_err());
        let given =
            BTreeMap::from([("n".to_owned(), Narrowed::Range { min: None, max: Some(4.0), step: None })]);
        assert_eq!(space(&known, &BTreeMap::new(), &given).map(|space| space[0].values.count()), Ok(Some(4)));
    }
}
