//! State -> Python objects.

pub mod base;
pub mod build;
pub mod patch;
