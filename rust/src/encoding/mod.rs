//! Cell streams (FORMAT.md section 8): one file a kind of column, and the choice between encodings.

pub(crate) mod blobs;
mod classify;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod formula;
mod formula_inverse;
mod formula_pairs;
pub(crate) mod formula_sample;
pub(crate) mod formula_scan;
pub(crate) mod formula_search;
pub(crate) mod integers;
pub(crate) mod left_out;
pub(crate) mod numbers;
mod numbers_plan;
pub(crate) mod predictor;
mod residuals;
mod row_places;
pub(crate) mod row_view;
pub(crate) mod sampling;
mod select;
pub(crate) mod split;
pub(crate) mod split_search;
mod words;
