//! The native state: a table of rows, its schema, its blobs, and the change sets that lead from one state to the next.

pub mod blob_pool;
pub mod capacity;
pub mod change_set;
pub mod permutation;
pub mod schema;
pub mod table;
