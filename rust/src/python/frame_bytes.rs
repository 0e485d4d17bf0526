//! A frame as an argument: any bytes-like object.

use std::ops::Deref;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyMemoryView};

/// The bytes of a frame. It borrows only `bytes`, because other buffers may change while the GIL is released.
pub(crate) enum FrameBytes<'a> {
    Borrowed(&'a [u8]),
    Copied(PyBackedBytes),
}

impl Deref for FrameBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            FrameBytes::Borrowed(bytes) => bytes,
            FrameBytes::Copied(bytes) => bytes,
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for FrameBytes<'a> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyBytes>() {
            return Ok(FrameBytes::Borrowed(object.extract()?));
        }
        match copy_of_buffer(&object)? {
            Some(bytes) => Ok(FrameBytes::Copied(bytes)),
            None => {
                let name = object.get_type().name()?;
                let hint =
                    if name == "str" { "; read it with a client that does not decode responses" } else { "" };
                Err(PyTypeError::new_err(format!("a frame is a bytes-like object, not {name}{hint}")))
            }
        }
    }
}

/// The bytes of a buffer of one-byte items, whatever these stand for.
fn copy_of_buffer(object: &Bound<'_, PyAny>) -> PyResult<Option<PyBackedBytes>> {
    let Ok(view) = PyMemoryView::from(object) else { return Ok(None) };
    if view.getattr("itemsize")?.extract::<usize>()? != 1 {
        return Ok(None);
    }
    Ok(Some(view.call_method0("tobytes")?.extract()?))
}
