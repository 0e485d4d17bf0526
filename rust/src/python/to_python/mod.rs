//! State -> Python objects.

pub(crate) mod base;
pub(crate) mod build;
pub(crate) mod patch;
