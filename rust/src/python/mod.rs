//! The only place that knows PyO3: dict -> change set, state -> dict, and the classes and functions of `snapdelta._native`.

mod base;
mod build;
mod capture;
mod decoder;
mod encoder;
mod errors;
mod fetch;
mod foreign;
mod functions;
mod info;
mod limits;
mod memory;
mod patch;
mod raw;
mod raw_dict;
mod raw_int;
mod sequence;
mod trouble;
mod types;
mod walk;

#[pyo3::pymodule(gil_used = true, name = "_native")]
mod native {
    #[pymodule_export]
    use super::decoder::Decoder;
    #[pymodule_export]
    use super::encoder::{CapturedFrame, Encoder};
    #[pymodule_export]
    use super::functions::{apply, diff, dumps, inspect, loads};
    #[pymodule_export]
    use super::info::{ColumnInfo, FrameInfo};
    #[pymodule_export]
    use super::limits::Limits;
}
