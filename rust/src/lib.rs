//! snapdelta: compact, checked, lossless binary deltas of dicts of records.

#[cfg(feature = "python")]
#[pyo3::pymodule(gil_used = true, name = "_native")]
mod native {}
