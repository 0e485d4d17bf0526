//! The only place where errors of the core become Python exceptions.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::trouble::{Trouble, path_text};
use crate::error::{Error, ErrorKind};

fn class<'py>(py: Python<'py>, name: &'static str) -> PyResult<Bound<'py, PyType>> {
    static MODULE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let module =
        MODULE.get_or_try_init(py, || Ok::<_, PyErr>(py.import("snapdelta.errors")?.into_any().unbind()))?;
    Ok(module.bind(py).getattr(name)?.cast_into()?)
}

fn raise(py: Python<'_>, name: &'static str, message: String) -> PyErr {
    match class(py, name) {
        Ok(class) => PyErr::from_type(class, message),
        Err(error) => error,
    }
}

pub fn to_python(py: Python<'_>, trouble: Trouble) -> PyErr {
    match trouble {
        Trouble::Python(error) => error,
        Trouble::Core(error) => core(py, &error),
        Trouble::Unsupported { trail, message } => {
            let path = path_text(trail.iter().rev());
            let text = if path.is_empty() { message } else { format!("{path}: {message}") };
            raise(py, "UnsupportedTypeError", text)
        }
    }
}

pub fn core(py: Python<'_>, error: &Error) -> PyErr {
    let name = match error.kind {
        ErrorKind::Corrupt => "CorruptDeltaError",
        ErrorKind::Limit => "LimitExceededError",
        ErrorKind::Version => "UnsupportedVersionError",
        ErrorKind::BaseMismatch => "BaseMismatchError",
        ErrorKind::TooLarge => "SnapdeltaError",
        ErrorKind::Encoding => "EncodingError",
    };
    raise(py, name, error.to_string())
}

pub fn busy(py: Python<'_>, what: &str) -> PyErr {
    raise(py, "EncoderBusyError", what.into())
}

pub fn unknown_zone(py: Python<'_>, key: &str, cause: PyErr) -> PyErr {
    let message = format!("time zone {key:?} is not known here; install tzdata");
    let error = raise(py, "UnknownZoneError", message);
    error.set_cause(py, Some(cause));
    error
}

pub fn corrupt(py: Python<'_>, message: &str) -> PyErr {
    raise(py, "CorruptDeltaError", message.into())
}

/// The state behind a lock whose holder panicked is not to be trusted.
pub fn broken() -> PyErr {
    PyRuntimeError::new_err("an earlier call ended in a panic; make a new object and start with a full frame")
}
