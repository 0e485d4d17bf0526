//! The only room that knows WebAssembly: the reader as functions over numbers, for clients/js.

#[allow(unsafe_code)]
mod exports;
mod reader;
