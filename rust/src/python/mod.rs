#[pyo3::pymodule(gil_used = true, name = "_native")]
mod native {}
