//! Cell streams (FORMAT.md section 8): one file a kind of column, and the choice between encodings.

pub mod blobs;
mod decimal;
pub mod decode;
pub mod encode;
mod formula;
pub mod formula_search;
pub mod predictor;
pub mod row_view;
mod sampling;
mod select;
mod words;
