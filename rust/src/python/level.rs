//! How hard zstd tries.

use pyo3::prelude::*;

use crate::python::errors;

/// The levels that zstd has.
pub(crate) fn check_level(py: Python<'_>, level: i32) -> PyResult<i32> {
    if (1..=22).contains(&level) {
        Ok(level)
    } else {
        Err(errors::usage(py, &format!("level: {level} is not from 1 to 22")))
    }
}
