//! A grid of backtests: a list of values for each field, and every combination of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Lists of values. `hyperparameters` has a list for each of them, and `period` a list of objects with `start_date` and
/// `finish_date`; any other field of a backtest has a list of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Grid {
    /// Values for each hyperparameter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("default" = {}))]
    pub hyperparameters: BTreeMap<String, Vec<Value>>,
    /// Values for each other field.
    #[serde(flatten)]
    pub fields: BTreeMap<String, Vec<Value>>,
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
