//! All `unsafe` of the crate: typed handles over CPython objects, each with what makes it sound.

// The layouts are CPython's: alignment is checked where a table is read.
#![allow(clippy::cast_ptr_alignment)]

pub(crate) mod arrow;
pub(crate) mod arrow_import;
pub(crate) mod build;
pub(crate) mod dict;
pub(crate) mod gc_pause;
pub(crate) mod int;
pub(crate) mod interpreter;
pub(crate) mod object;
pub(crate) mod prefetch;
pub(crate) mod shared_bytes;
pub(crate) mod types;
