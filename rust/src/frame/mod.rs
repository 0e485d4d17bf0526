//! Change set <-> frame: FORMAT.md sections 2 to 9. A full frame's body is a delta from nothing.

mod column_headers;
pub(crate) mod container;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod inspect;
pub(crate) mod learning;
mod paths;
pub(crate) mod row_order;
mod row_set;
mod row_set_contexts;
mod row_set_reader;
mod row_set_writer;
mod sections;
mod shapes;
mod text;
