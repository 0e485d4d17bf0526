//! The writer's and the reader's state machine: a state table, its position in the stream, and what may follow.

pub mod changed_keys;
pub mod decoder;
pub mod encoder;
pub mod state;

#[cfg(test)]
mod tests;
