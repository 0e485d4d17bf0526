//! Symbols as an argument: any iterable of str but a str.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Read completely before the call goes on, as iterating runs Python code.
#[derive(Default)]
pub(crate) struct SymbolList(pub(crate) Vec<Vec<u8>>);

impl FromPyObject<'_, '_> for SymbolList {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err(
                "symbols are given as a list or another iterable of str, not as a str",
            ));
        }
        object.try_iter()?.map(|symbol| symbol_bytes(&symbol?)).collect::<PyResult<_>>().map(SymbolList)
    }
}

/// A str as the core has it.
pub(crate) fn symbol_bytes(symbol: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    symbol.cast::<PyString>()?.call_method1("encode", ("utf-8", "surrogatepass"))?.extract()
}
