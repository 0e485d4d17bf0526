//! The only place that knows PyO3: dict -> change set, state -> dict, and the classes and functions of `snapdelta._native`.

mod arrow_table;
mod convert_error;
mod decoder;
mod encoder;
mod errors;
#[allow(unsafe_code)]
mod ffi;
mod frame_bytes;
mod frame_info;
mod from_python;
mod functions;
mod level;
mod limits;
mod symbol_list;
mod to_python;
mod tolerance;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

use arrow_table::ArrowTable;
use decoder::Decoder;
use encoder::{CapturedFrame, Encoder};
use frame_info::{ColumnInfo, FrameInfo};
use limits::Limits;
use tolerance::{Absolute, Relative};

// a function, so that nothing is made before the interpreter was looked at: what is made is kept for the process
#[pymodule(gil_used = true, name = "_native")]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    if !ffi::interpreter::in_main_interpreter(module.py()) {
        return Err(PyImportError::new_err(
            "module snapdelta._native does not support loading in subinterpreters; import it in the main one",
        ));
    }
    module.add_class::<Encoder>()?;
    module.add_class::<CapturedFrame>()?;
    module.add_class::<Decoder>()?;
    module.add_class::<ArrowTable>()?;
    module.add_class::<Limits>()?;
    module.add_class::<Absolute>()?;
    module.add_class::<Relative>()?;
    module.add_class::<FrameInfo>()?;
    module.add_class::<ColumnInfo>()?;
    module.add_function(wrap_pyfunction!(functions::apply, module)?)?;
    module.add_function(wrap_pyfunction!(functions::arrow_table, module)?)?;
    module.add_function(wrap_pyfunction!(functions::compose, module)?)?;
    module.add_function(wrap_pyfunction!(functions::diff, module)?)?;
    module.add_function(wrap_pyfunction!(functions::dumps, module)?)?;
    module.add_function(wrap_pyfunction!(functions::inspect, module)?)?;
    module.add_function(wrap_pyfunction!(functions::loads, module)?)
}
