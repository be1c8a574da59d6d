//! Why an analysis was refused. Every message says what was wrong and what is allowed.

/// Why there is no result. Nothing here is a fault of the machine: the same input is refused again.
///
/// A figure that has no value for an accepted input (the Sharpe ratio of a constant series, the recovery of a drawdown that
/// goes on) is not an error: it is `None`, `null` in JSON.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RiskError {
    /// Fewer values than the analysis needs to mean anything.
    #[error("{what}: has {found}, needs at least {needed}")]
    TooShort {
        /// What there is too little of.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many it needs.
        needed: usize,
    },
    /// More values, paths or combinations than one analysis may take.
    #[error("{what}: is {found}, at most {allowed} is allowed")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How many were asked for.
        found: usize,
        /// How many are allowed.
        allowed: usize,
    },
    /// A value that is not a number, infinite, or so large that its powers would be.
    #[error("{what}[{index}] is {value}: only finite numbers are allowed, at most 1e50 in size")]
    NotFinite {
        /// The series.
        what: &'static str,
        /// Where in it, from 0.
        index: usize,
        /// The value.
        value: f64,
    },
    /// Equity or a price that is zero or below.
    #[error("{what}[{index}] is {value}: it must be above 0 (at least 1e-50)")]
    NotPositive {
        /// The series.
        what: &'static str,
        /// Where in it, from 0.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A return that loses everything or more, after which there is nothing to compound.
    #[error("{what}[{index}] is {value}: a return is a fraction above -1 (-0.02 is a loss of 2 %)")]
    TotalLoss {
        /// The series.
        what: &'static str,
        /// Where in it, from 0.
        index: usize,
        /// The value.
        value: f64,
    },
    /// Times that do not increase, or trades that close before they open.
    #[error("{what}[{index}] is not after the one before it: times must increase")]
    NotIncreasing {
        /// The series.
        what: &'static str,
        /// Where in it, from 0.
        index: usize,
    },
    /// A time that no calendar has.
    #[error("{what}[{index}] is {value}: not a time in milliseconds since 1970-01-01 UTC")]
    NotATime {
        /// The series.
        what: &'static str,
        /// Where in it, from 0.
        index: usize,
        /// The value.
        value: i64,
    },
    /// Series that belong together and differ in length.
    #[error("{what}: has {found} values where the others have {expected}")]
    LengthMismatch {
        /// Which series.
        what: String,
        /// Its length.
        found: usize,
        /// The length of the first.
        expected: usize,
    },
    /// An option outside of what is allowed.
    #[error("{name}: is {value}, must be {allowed}")]
    OutOfRange {
        /// The option.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        allowed: &'static str,
    },
    /// A series that does not vary, where the analysis divides by its variation.
    #[error("{what}: does not vary, so {undefined} is undefined")]
    Constant {
        /// The series.
        what: String,
        /// What cannot be computed.
        undefined: &'static str,
    },
    /// Regressors or series that are linear combinations of one another.
    #[error(
        "{what}: its columns depend on one another linearly, so there is no unique answer; leave one out"
    )]
    Singular {
        /// Which matrix.
        what: &'static str,
    },
    /// Skewness and kurtosis for which the Cornish-Fisher expansion is no quantile function.
    #[error(
        "Cornish-Fisher: with skewness {skewness:.4} and excess kurtosis {excess_kurtosis:.4} the expansion is not monotone, \
         so it gives no quantiles; use the historical or the filtered historical method"
    )]
    NotMonotone {
        /// Skewness of the returns.
        skewness: f64,
        /// Kurtosis less 3 of the returns.
        excess_kurtosis: f64,
    },
    /// A combination that has no sound definition here.
    #[error("{0}")]
    Unsupported(&'static str),
    /// An iteration that did not settle.
    #[error("{what}: did not converge in {iterations} iterations")]
    NotConverged {
        /// Which estimate.
        what: &'static str,
        /// After how many steps it was given up.
        iterations: usize,
    },
}

/// The value if it lies strictly between 0 and 1.
pub(crate) fn open_unit(name: &'static str, value: f64) -> Result<f64, RiskError> {
    if value > 0.0 && value < 1.0 {
        Ok(value)
    } else {
        Err(RiskError::OutOfRange { name, value, allowed: "between 0 and 1, both excluded" })
    }
}

/// The largest number of any series, and the smallest price: fourth powers and quotients stay finite.
const LARGEST: f64 = 1e50;
pub(crate) const SMALLEST_PRICE: f64 = 1e-50;

/// Refuses what is not finite, or too large to compute with.
pub(crate) fn all_finite(what: &'static str, values: &[f64]) -> Result<(), RiskError> {
    match values.iter().position(|value| !value.is_finite() || value.abs() > LARGEST) {
        Some(index) => Err(RiskError::NotFinite { what, index, value: values[index] }),
        None => Ok(()),
    }
}

/// Refuses fewer than `needed`.
pub(crate) fn at_least(what: &'static str, found: usize, needed: usize) -> Result<(), RiskError> {
    if found < needed { Err(RiskError::TooShort { what, found, needed }) } else { Ok(()) }
}

/// Refuses more than `allowed`.
pub(crate) fn at_most(what: &'static str, found: usize, allowed: usize) -> Result<(), RiskError> {
    if found > allowed { Err(RiskError::TooLarge { what, found, allowed }) } else { Ok(()) }
}
