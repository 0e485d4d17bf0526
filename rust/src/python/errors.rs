//! The only place where errors of the core become Python exceptions.

use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::error::{Error, ErrorKind};
use crate::python::convert_error::{ConvertError, PathStep, path_text};

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

pub(crate) fn to_python(py: Python<'_>, error: ConvertError) -> PyErr {
    match error {
        ConvertError::Python { trail, what, error } => raised(py, &trail, &what, error).unwrap_or_else(|e| e),
        ConvertError::Core(error) => core(py, &error),
        ConvertError::Usage(message) => usage(py, &message),
        ConvertError::Unsupported { trail, message } => match path_text(py, &trail) {
            Ok(path) if path.is_empty() => raise(py, "UnsupportedTypeError", message),
            Ok(path) => raise(py, "UnsupportedTypeError", format!("{path}: {message}")),
            Err(error) => error,
        },
    }
}

/// The error of Python code that reads or converts a value. A TypeError or ValueError becomes an
/// UnsupportedTypeError; any other error keeps its type. Both name the path.
fn raised(py: Python<'_>, trail: &[PathStep], what: &str, error: PyErr) -> PyResult<PyErr> {
    let path = path_text(py, trail)?;
    if path.is_empty() {
        return Ok(error);
    }
    if error.is_instance_of::<PyTypeError>(py) || error.is_instance_of::<PyValueError>(py) {
        let unsupported = raise(py, "UnsupportedTypeError", format!("{path}: {what}: {error}"));
        unsupported.set_cause(py, Some(error));
        return Ok(unsupported);
    }
    let add_note = py.get_type::<PyBaseException>().getattr("add_note")?;
    add_note.call1((error.value(py), format!("{path}: {what}")))?;
    Ok(error)
}

pub(crate) fn core(py: Python<'_>, error: &Error) -> PyErr {
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

/// An impossible argument or call.
pub(crate) fn usage(py: Python<'_>, message: &str) -> PyErr {
    raise(py, "UsageError", message.into())
}

pub(crate) fn busy(py: Python<'_>, what: &str) -> PyErr {
    raise(py, "EncoderBusyError", what.into())
}

pub(crate) fn unknown_zone(py: Python<'_>, key: &str, cause: PyErr) -> PyErr {
    let message = format!("time zone {key:?} is not known here; install tzdata");
    let error = raise(py, "UnknownZoneError", message);
    error.set_cause(py, Some(cause));
    error
}

/// An optional library is not installed.
pub(crate) fn missing_extra(py: Python<'_>, message: &str, cause: PyErr) -> PyErr {
    let error = raise(py, "MissingExtraError", message.into());
    error.set_cause(py, Some(cause));
    error
}

pub(crate) fn corrupt(py: Python<'_>, message: &str) -> PyErr {
    raise(py, "CorruptDeltaError", message.into())
}

/// A panic while the lock was held: its state may be inconsistent.
pub(crate) fn broken() -> PyErr {
    PyRuntimeError::new_err("an earlier call ended in a panic; make a new object and start with a full frame")
}
