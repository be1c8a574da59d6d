//! A grid of backtests: a list of values for each field, and every combination of them.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::spec::BacktestRequest;

/// Lists of values. `hyperparameters` has a list for each of them, and `period` a list of objects with `start_date` and
/// `finish_date`; any other field of a backtest has a list of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Values for each hyperparameter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hyperparameters: BTreeMap<String, Vec<Value>>,
    /// Values for each other field.
    #[serde(flatten)]
    pub fields: BTreeMap<String, Vec<Value>>,
}

/// Field by field: an object of lists, of which one is none, is what types of other languages cannot say.
impl JsonSchema for Grid {
    fn schema_name() -> Cow<'static, str> {
        "Grid".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let list = |of: Value| json!({"type": "array", "minItems": 1, "items": of});
        let backtest = BacktestRequest::json_schema(generator);
        let fields = backtest.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut properties: Map<_, _> = fields.into_iter().map(|(name, of)| (name, list(of))).collect();
        let day = json!({"type": "string"});
        let period = json!({"type": "object", "properties": {"start_date": day, "finish_date": day}});
        properties.insert("period".into(), list(period));
        let values = json!({
            "type": "object", "additionalProperties": list(true.into()), "default": {}, "description": "Values for each hyperparameter.",
        });
        properties.insert("hyperparameters".into(), values);
        json_schema!({
            "type": "object",
            "description": "Lists of values, one for each field of a backtest that varies. `hyperparameters` has a list for each of \
                            them, and `period` a list of first days with the days after the last.",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

/// Why a grid has no combinations.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GridError {
    /// A field without values.
    #[error("{0}: needs a list of at least one value")]
    Empty(String),
    /// More combinations than allowed.
    #[error("it has more than {0} combinations")]
    TooMany(usize),
    /// A period that is not an object.
    #[error("period: each must be an object with start_date and finish_date")]
    Period,
    /// No field at all.
    #[error("it has no field to vary")]
    NoField,
}

impl Grid {
    /// Every combination on top of `base`, the last field varying fastest, at most `most`.
    pub fn expand(&self, base: &Map<String, Value>, most: usize) -> Result<Vec<Value>, GridError> {
        let fields = self.fields.iter().map(|(name, values)| (name.as_str(), false, values));
        let hyperparameters = self.hyperparameters.iter().map(|(name, values)| (name.as_str(), true, values));
        let axes: Vec<_> = fields.chain(hyperparameters).collect();
        if axes.is_empty() {
            return Err(GridError::NoField);
        }
        let mut all = vec![base.clone()];
        for (name, is_hyperparameter, values) in axes {
            if values.is_empty() {
                return Err(GridError::Empty(name.to_owned()));
            }
            if all.len().saturating_mul(values.len()) > most {
                return Err(GridError::TooMany(most));
            }
            let mut next = Vec::with_capacity(all.len() * values.len());
            for request in all {
                for value in values {
                    let mut request = request.clone();
                    if is_hyperparameter {
                        let own = request.entry("hyperparameters").or_insert_with(|| Map::new().into());
                        // What is no object is refused with the request that it makes.
                        if let Some(own) = own.as_object_mut() {
                            own.insert(name.to_owned(), value.clone());
                        }
                    } else if name == "period" {
                        request.extend(value.as_object().ok_or(GridError::Period)?.clone());
                    } else {
                        request.insert(name.to_owned(), value.clone());
                    }
                    next.push(request);
                }
            }
            all = next;
        }
        Ok(all.into_iter().map(Value::Object).collect())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    fn expand(grid: Value, most: usize) -> Result<Vec<Value>, GridError> {
        let base = json!({"exchange": "E", "hyperparameters": {"kept": 1}});
        serde_json::from_value::<Grid>(grid).unwrap().expand(base.as_object().unwrap(), most)
    }

    #[test]
    fn every_combination_is_there_once() {
        let grid = json!({
            "symbol": ["A", "B"],
            "period": [{"start_date": "1", "finish_date": "2"}, {"start_date": "2", "finish_date": "3"}],
            "hyperparameters": {"fast": [5, 6, 7]},
        });
        let all = expand(grid, 12).unwrap();
        assert_eq!(all.len(), 12);
        let first = json!({
            "exchange": "E", "symbol": "A", "start_date": "1", "finish_date": "2", "hyperparameters": {"kept": 1, "fast": 5},
        });
        assert_eq!(all[0], first);
        for (index, one) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(one));
        }
    }

    #[test]
    fn a_grid_that_means_nothing_is_refused() {
        assert_eq!(expand(json!({"symbol": []}), 9), Err(GridError::Empty("symbol".into())));
        assert_eq!(expand(json!({}), 9), Err(GridError::NoField));
        assert_eq!(expand(json!({"period": ["2023"]}), 9), Err(GridError::Period));
        let thousands = vec![json!(1); 1_000];
        let grid = json!({"fee": thousands, "balance": thousands, "leverage": thousands, "hyperparameters": {"a": thousands}});
        assert_eq!(expand(grid, 50_000), Err(GridError::TooMany(50_000)));
    }
}
