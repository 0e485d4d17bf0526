//! snapdelta: compact, checked, lossless binary deltas of dicts of records.
//!
//! A table of contents. Arrows point one way:
//! `python -> codec -> {body, order, sets, frame} -> columns -> table -> format -> error`.

pub mod body;
pub mod codec;
pub mod columns;
pub mod error;
pub mod format;
pub mod frame;
pub mod order;
pub mod sets;
pub mod table;

#[cfg(feature = "python")]
mod python;
