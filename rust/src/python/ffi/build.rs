//! Python objects made and put into dicts directly, without Python code.

#![allow(unsafe_code)]

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::python::ffi::dict::{self, DictEntry};
use crate::python::ffi::types::Types;

/// An ASCII str made directly.
pub(crate) fn ascii_str<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    debug_assert!(text.is_ascii());
    // SAFETY: a new str of this length with room for ASCII, which nobody else has seen yet
    unsafe {
        let made = ffi::PyUnicode_New(text.len() as ffi::Py_ssize_t, 127);
        let made = Bound::from_owned_ptr_or_err(py, made)?;
        let data = ffi::PyUnicode_DATA(made.as_ptr()).cast::<u8>();
        std::ptr::copy_nonoverlapping(text.as_ptr(), data, text.len());
        Ok(made)
    }
}

/// A str from UTF-8 in which surrogates stand as they are.
pub(crate) fn surrogate_str<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: pointer and length are those of the slice; the name of the handler ends in a zero
    unsafe {
        let made = ffi::PyUnicode_DecodeUTF8(
            text.as_ptr().cast(),
            text.len() as ffi::Py_ssize_t,
            c"surrogatepass".as_ptr(),
        );
        Bound::from_owned_ptr_or_err(py, made)
    }
}

/// `dict[key] = value`, for exact dicts and exact str keys: no Python code runs.
#[inline(always)]
pub(crate) fn set_item(dict: &Bound<'_, PyDict>, key: &Py<PyAny>, value: Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: all three are live objects
    let status = unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), value.as_ptr()) };
    if status == 0 {
        Ok(())
    } else {
        Err(PyErr::take(dict.py()).unwrap_or_else(|| PyMemoryError::new_err("no memory for a dict")))
    }
}

/// A pair of an exact dict by its place in insertion order; None if it is not there, or not to be found so.
#[inline(always)]
pub(crate) fn pair_at<'py>(
    dict: &Bound<'py, PyDict>,
    at: usize,
    types: &Types,
) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    if !types.dicts_in_place || dict.as_any().get_type_ptr() as usize != types.dict {
        return None;
    }
    // SAFETY: exactly a dict, alive; `dicts_in_place` is what `check` has returned. An entry holds its two objects
    unsafe {
        let DictEntry { key, value } = *dict::entry_at(dict.as_ptr(), at)?;
        Some((Bound::from_borrowed_ptr(dict.py(), key), Bound::from_borrowed_ptr(dict.py(), value)))
    }
}

/// Puts a value in the place of that of a pair, by its place in insertion order, in an exact dict that was just made.
/// Gives the value back if it has to be set by its key.
#[inline(always)]
pub(crate) fn replace_at<'py>(
    dict: &Bound<'py, PyDict>,
    at: usize,
    value: Bound<'py, PyAny>,
    types: &Types,
) -> Option<Bound<'py, PyAny>> {
    if !types.dicts_in_place || dict.as_any().get_type_ptr() as usize != types.dict {
        return Some(value);
    }
    // SAFETY: exactly a dict, alive; `dicts_in_place` is what `check` has returned. It takes the reference to the new
    // value over and gives up that to the old one, which is let go when the dict is whole again
    unsafe {
        let is_plain = ffi::PyType_IS_GC(value.get_type_ptr()) == 0;
        if !is_plain && ffi::PyObject_GC_IsTracked(dict.as_ptr()) == 0 {
            return Some(value);
        }
        let Some(old) = dict::replace(dict.as_ptr(), at, value.as_ptr()) else { return Some(value) };
        std::mem::forget(value);
        drop(Bound::from_owned_ptr(dict.py(), old));
    }
    None
}
