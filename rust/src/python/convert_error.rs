//! Errors while reading Python objects, and the path in their messages.

use std::fmt::Write;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use crate::error::key_text;

/// The most characters of a non-str key that a message shows.
const LONGEST_KEY: usize = 80;

pub(crate) enum PathStep {
    Key(Vec<u8>),
    Index(usize),
    /// A key that is not a str.
    OtherKey(Py<PyAny>),
}

pub(crate) enum ConvertError {
    /// An unsupported kind of value. The trail leads from the value up to the symbol.
    Unsupported {
        trail: Vec<PathStep>,
        message: String,
    },
    /// Raised by Python code that reads or converts a value, or for lack of memory. `what` names the failed
    /// step.
    Python {
        trail: Vec<PathStep>,
        what: String,
        error: PyErr,
    },
    Core(crate::error::Error),
    /// An argument that makes no sense.
    Usage(String),
}

pub(crate) type ConvertResult<T> = Result<T, ConvertError>;

impl From<PyErr> for ConvertError {
    fn from(error: PyErr) -> Self {
        ConvertError::raised(error, "it could not be read".into())
    }
}

impl From<crate::error::Error> for ConvertError {
    fn from(error: crate::error::Error) -> Self {
        ConvertError::Core(error)
    }
}

impl ConvertError {
    pub(crate) fn unsupported(message: impl Into<String>) -> ConvertError {
        ConvertError::Unsupported { trail: Vec::new(), message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> ConvertError {
        ConvertError::Usage(message.into())
    }

    pub(crate) fn raised(error: PyErr, what: String) -> ConvertError {
        ConvertError::Python { trail: Vec::new(), what, error }
    }

    /// `kind` is "symbols" or "keys".
    pub(crate) fn other_key(kind: &str, key: Py<PyAny>, class: &str) -> ConvertError {
        let message = format!("{kind} are str, not {class}");
        ConvertError::Unsupported { trail: vec![PathStep::OtherKey(key)], message }
    }

    pub(crate) fn too_deep() -> ConvertError {
        ConvertError::unsupported(format!(
            "nested deeper than {} (or it contains itself)",
            crate::format::MAX_DEPTH
        ))
    }

    /// One step further up.
    pub(crate) fn below(mut self, step: PathStep) -> ConvertError {
        match &mut self {
            ConvertError::Unsupported { trail, .. } | ConvertError::Python { trail, .. } => trail.push(step),
            ConvertError::Core(_) | ConvertError::Usage(_) => {}
        }
        self
    }

    pub(crate) fn below_key(self, key: &[u8]) -> ConvertError {
        self.below(PathStep::Key(key.to_vec()))
    }

    /// Below keys given from the top down.
    pub(crate) fn below_keys(self, keys: &[&[u8]]) -> ConvertError {
        keys.iter().rev().fold(self, |error, key| error.below_key(key))
    }
}

/// The text form of a path: `AAPL.lastTrade.c[0]`, with `.`, `[` and `\` escaped. A trail leads from the value up.
/// The `repr` of a non-str key runs Python code.
pub(crate) fn path_text(py: Python<'_>, trail: &[PathStep]) -> PyResult<String> {
    let mut text = String::new();
    for step in trail.iter().rev() {
        let key = match step {
            PathStep::Index(i) => {
                let _ = write!(text, "[{i}]");
                continue;
            }
            PathStep::Key(key) => key_text(key),
            PathStep::OtherKey(key) => other_key_text(key.bind(py))?,
        };
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(&key);
    }
    Ok(text)
}

fn other_key_text(key: &Bound<'_, PyAny>) -> PyResult<String> {
    match key.repr() {
        Ok(text) => Ok(text.to_string_lossy().chars().take(LONGEST_KEY).collect()),
        // the key is no less wrong for having no text
        Err(error) if error.is_instance_of::<PyException>(key.py()) => {
            Ok(format!("<{}>", key.get_type().name()?))
        }
        Err(error) => Err(error),
    }
}

/// The keys of a path in its text form; the empty text is the path without keys.
pub(crate) fn keys_of_text(path: &[u8]) -> Vec<Vec<u8>> {
    if path.is_empty() {
        return Vec::new();
    }
    let mut keys = vec![Vec::new()];
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        let escaped = (*byte == b'\\').then(|| bytes.next()).flatten();
        match (escaped.unwrap_or(byte), keys.last_mut()) {
            (b'.', _) if escaped.is_none() => keys.push(Vec::new()),
            (byte, Some(key)) => key.push(*byte),
            (_, None) => {}
        }
    }
    keys
}
