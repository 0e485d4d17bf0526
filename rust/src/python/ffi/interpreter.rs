//! Which interpreter the module is imported in.

#![allow(unsafe_code)]

use pyo3::ffi;
use pyo3::prelude::*;

/// False in a subinterpreter, whose types are others than the ones that a process-wide table can know.
pub(crate) fn in_main_interpreter(_py: Python<'_>) -> bool {
    // SAFETY: the GIL is held; both only return an address
    unsafe { ffi::PyInterpreterState_Get() == ffi::PyInterpreterState_Main() }
}
