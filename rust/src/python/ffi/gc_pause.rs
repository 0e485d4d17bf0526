//! Garbage collection switched off for a while.

#![allow(unsafe_code)]

use pyo3::ffi;
use pyo3::prelude::*;

/// Switches garbage collection off while it lives. That is seen by no other thread, as these run only where Python code
/// does: the owner lifts the pause for it.
pub(crate) struct GcPause {
    was_on: bool,
}

impl GcPause {
    pub(crate) fn new(_py: Python<'_>) -> GcPause {
        // SAFETY: the GIL is held
        let was_on = unsafe { ffi::PyGC_Disable() } == 1;
        GcPause { was_on }
    }

    /// Runs Python code, outside the pause.
    pub(crate) fn lifted<T>(&mut self, py: Python<'_>, python_code: impl FnOnce() -> T) -> T {
        self.end();
        let result = python_code();
        // asked anew: collection may have been switched on or off meanwhile
        *self = GcPause::new(py);
        result
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.was_on) {
            // SAFETY: made and ended under the GIL (it is never kept in anything that outlives a call)
            unsafe { ffi::PyGC_Enable() };
        }
    }
}

impl Drop for GcPause {
    fn drop(&mut self) {
        self.end();
    }
}
