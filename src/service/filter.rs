//! Which jobs a listing has, as both doors ask for them.

use std::{collections::BTreeMap, str::FromStr};

use jobs::{Filter, JobState, Kind, Tags};

use crate::errors::{Code, ServiceError};

/// A filter of jobs in one of these states and of one of these kinds (comma-separated; all, if left out), with this
/// campaign and all of these labels. An error names what is not known, and what is.
pub(crate) fn job_filter(
    states: Option<&str>,
    kinds: Option<&str>,
    campaign: Option<String>,
    labels: BTreeMap<String, String>,
) -> Result<Filter, ServiceError> {
    let state = |name: &str| {
        let known: Vec<_> = JobState::ALL.iter().map(|state| state.as_str()).collect();
        JobState::parse(name).ok_or_else(|| {
            invalid(format!("state: no state {:?}; there are {}", shown(name), known.join(", ")))
        })
    };
    let kind = |name: &str| {
        let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        Kind::from_str(name)
            .map_err(|_| invalid(format!("kind: no kind {:?}; there are {}", shown(name), known.join(", "))))
    };
    Ok(Filter {
        states: parts(states).map(state).collect::<Result<_, _>>()?,
        kinds: parts(kinds).map(kind).collect::<Result<_, _>>()?,
        tags: Tags::new(campaign, labels).map_err(|error| invalid(error.to_string()))?,
    })
}

/// The parts of a comma-separated list.
pub(crate) fn parts(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.into_iter().flat_map(|list| list.split(',')).map(str::trim).filter(|part| !part.is_empty())
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

fn invalid(message: String) -> ServiceError {
    ServiceError::new(Code::InvalidRequest, message)
}
