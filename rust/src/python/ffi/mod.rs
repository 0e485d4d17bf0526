//! All `unsafe` of the crate: typed handles over CPython objects, each with what makes it sound.

pub mod dict;
pub mod int;
pub mod object;
pub mod types;
