//! Cell streams (FORMAT.md section 8): one file a kind of column, and the choice between codings.

pub mod blobs;
mod decimals;
pub mod formula_search;
pub mod formulas;
mod plan;
pub mod predictor;
pub mod read;
mod sampling;
pub mod view;
pub mod words;
pub mod write;
