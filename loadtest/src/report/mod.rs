//! A run, as people and programs read it.
//!
//! What it leaves to others: where each form is written to (`cli`), and whether the run may be
//! believed (`verdict`).

pub mod compared;
pub mod csv;
pub mod hgrm;
pub mod hlog;
pub mod html;
pub mod json;
pub mod phases;
pub mod svg;
pub mod text;
