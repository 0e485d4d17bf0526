//! How much capacity a collection keeps after an input was refused.

/// Twice the length plus a little: what a collection of this length may have grown to by accepted input alone.
pub(crate) fn capacity_after_refusal(length: usize) -> usize {
    2 * length + 1024
}
