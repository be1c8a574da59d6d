//! Who may call what: keys, tenants, limits, and the log of changes.

pub mod deployment;
mod isolation;
mod keys;
mod limits;
mod tokens;
