//! The console, as people and their browsers meet it.

mod access;
mod forms;
mod pages;
