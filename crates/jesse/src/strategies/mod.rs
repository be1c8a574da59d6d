//! Strategies: from a Jesse project on a worker's disk to immutable bundles that any machine can run.
//!
//! A worker reads the project into memory once ([`project`]), asks Python which files each strategy imports, and stores
//! these bytes as bundles ([`bundle`]). So what is hashed is what is stored is what runs; an edit meanwhile makes another
//! bundle at the next reading. [`publish`] keeps the catalogue up to date. What clients hand in is a [`draft`].

pub mod bundle;
pub mod draft;
pub mod project;
pub mod publish;
