//! A frame as an argument: any bytes-like object.

use std::ops::Deref;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The bytes of a frame. It borrows only `bytes`, because other buffers may change while the GIL is released.
pub(crate) enum FrameBytes<'a> {
    Borrowed(&'a [u8]),
    Copied(Vec<u8>),
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
        match PyBuffer::<u8>::get(&object) {
            Ok(buffer) => buffer.to_vec(object.py()).map(FrameBytes::Copied),
            Err(_) => {
                let name = object.get_type().name()?;
                let hint =
                    if name == "str" { "; read it with a client that does not decode responses" } else { "" };
                Err(PyTypeError::new_err(format!("a frame is a bytes-like object, not {name}{hint}")))
            }
        }
    }
}
