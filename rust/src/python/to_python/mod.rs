//! State -> Python objects.

pub(crate) mod base;
pub(crate) mod build;
pub(crate) mod column_arrays;
pub(crate) mod column_types;
pub(crate) mod columns;
pub(crate) mod numpy;
pub(crate) mod patch;
