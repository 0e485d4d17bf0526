//! `Limits`: what a frame may take.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::format::budget::DEFAULT_MAX_BYTES;
use crate::python::errors;

/// Bounds what one frame may make a reader hold, in bytes (1 GiB by default). FORMAT.md section 10 says how it is counted.
#[pyclass(frozen, eq, hash, module = "snapdelta")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Limits {
    #[pyo3(get)]
    max_bytes: u64,
}

#[pymethods]
impl Limits {
    #[new]
    #[pyo3(signature = (max_bytes = DEFAULT_MAX_BYTES))]
    fn new(py: Python<'_>, max_bytes: u64) -> PyResult<Self> {
        if max_bytes == 0 {
            return Err(errors::usage(py, "max_bytes: must be positive"));
        }
        Ok(Limits { max_bytes })
    }

    fn __repr__(&self) -> String {
        format!("Limits(max_bytes={})", self.max_bytes)
    }
}

pub(crate) fn max_bytes(limits: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
    match limits {
        None => Ok(DEFAULT_MAX_BYTES),
        Some(limits) => match limits.cast::<Limits>() {
            Ok(limits) => Ok(limits.get().max_bytes),
            Err(_) => Err(PyTypeError::new_err("limits: must be a snapdelta.Limits")),
        },
    }
}
