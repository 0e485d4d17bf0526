//! `Absolute`, `Relative`, and the setting `tolerance` of an Encoder.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::codec::tolerance::{Tolerance, Tolerances};
use crate::python::decoder::path_keys;
use crate::python::errors;

/// A tolerance: a number is published when it is further than `amount` from the one published last.
#[pyclass(frozen, eq, hash, module = "snapdelta")]
#[derive(PartialEq)]
pub(crate) struct Absolute {
    #[pyo3(get)]
    amount: f64,
}

/// A tolerance: as Absolute, with `ratio` times the number published last as the amount.
#[pyclass(frozen, eq, hash, module = "snapdelta")]
#[derive(PartialEq)]
pub(crate) struct Relative {
    #[pyo3(get)]
    ratio: f64,
}

// a NaN is refused
impl Eq for Absolute {}
impl Eq for Relative {}

impl std::hash::Hash for Absolute {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.amount.to_bits().hash(state);
    }
}

impl std::hash::Hash for Relative {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.ratio.to_bits().hash(state);
    }
}

#[pymethods]
impl Absolute {
    #[new]
    #[pyo3(signature = (amount, /))]
    fn new(py: Python<'_>, amount: f64) -> PyResult<Self> {
        if amount > 0.0 && amount.is_finite() {
            return Ok(Absolute { amount });
        }
        Err(errors::usage(py, &format!("tolerance: Absolute({amount:?}) must be positive and finite")))
    }

    fn __repr__(&self) -> String {
        format!("Absolute({:?})", self.amount)
    }
}

#[pymethods]
impl Relative {
    #[new]
    #[pyo3(signature = (ratio, /))]
    fn new(py: Python<'_>, ratio: f64) -> PyResult<Self> {
        if ratio > 0.0 && ratio < 1.0 {
            return Ok(Relative { ratio });
        }
        let message =
            format!("tolerance: Relative({ratio:?}) must be above 0 and below 1; Relative(0.01) is 1 %");
        Err(errors::usage(py, &message))
    }

    fn __repr__(&self) -> String {
        format!("Relative({:?})", self.ratio)
    }
}

/// The tolerances of a dict: path of a column -> Absolute or Relative.
pub(crate) fn tolerances(setting: &Bound<'_, PyAny>) -> PyResult<Tolerances> {
    let py = setting.py();
    let refused = |what: String| Err(errors::usage(py, &format!("tolerance: {what}")));
    let mut all = Tolerances::default();
    let Ok(setting) = setting.cast::<PyDict>() else {
        return refused(format!(
            "must be a dict of column -> Absolute or Relative, not {}",
            setting.get_type().name()?
        ));
    };
    // reading a path may run Python code
    for (path, value) in setting.copy()? {
        let Ok(keys) = path_keys(&path) else {
            return refused(format!("a column is a tuple of str, or its text, not {}", path.repr()?));
        };
        let tolerance = if let Ok(absolute) = value.cast::<Absolute>() {
            Tolerance::Absolute(absolute.get().amount)
        } else if let Ok(relative) = value.cast::<Relative>() {
            Tolerance::Relative(relative.get().ratio)
        } else {
            return refused(format!("{}: must be Absolute or Relative, not {}", path.repr()?, value.repr()?));
        };
        if !all.add(keys, tolerance) {
            return refused(format!("{}: the column is there twice", path.repr()?));
        }
    }
    Ok(all)
}
