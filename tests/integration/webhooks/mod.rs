//! Webhooks from the end of a job to its receiver: the real binary, a real Redis, and receivers of our own.

mod delivery;
mod deployment;
mod examples;
mod hostile;
mod kills;
mod management;
pub mod receiver;
