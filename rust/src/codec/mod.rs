//! The writer's and the reader's state machine: a state table, its position in the stream, and what may follow.

pub(crate) mod bundle;
pub(crate) mod changed_keys;
pub(crate) mod compose;
pub(crate) mod decoder;
pub(crate) mod encoder;
pub(crate) mod state;
pub(crate) mod tolerance;

#[cfg(test)]
mod tests;
