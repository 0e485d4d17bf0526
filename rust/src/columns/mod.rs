//! Cell streams (FORMAT.md section 8): one file a kind of column, and the choice between codings.

pub mod blobs;
mod decimals;
mod plan;
pub mod read;
pub mod view;
mod words;
pub mod write;
