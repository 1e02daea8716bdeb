//! vegeta's pipeline: targets in its formats, results that its own `report` reads, and its reports.
//!
//! What it leaves to others: sending (`engine`), options (`cli::vegeta`).

pub mod report;
pub mod results;
pub mod targets;
