//! The native state: a table of rows, its schema, its blobs, and the change sets that lead from one state to the next.

pub(crate) mod blob_pool;
pub(crate) mod capacity;
pub(crate) mod change_set;
pub(crate) mod commit;
pub(crate) mod id_map;
pub(crate) mod permutation;
pub(crate) mod row_blocks;
pub(crate) mod schema;
pub(crate) mod symbol;
pub(crate) mod table;
