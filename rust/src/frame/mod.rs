//! Change set <-> frame: FORMAT.md sections 2 to 7 and 9. A full frame's body is a delta from nothing.

pub mod container;
pub mod decode;
pub mod encode;
pub mod inspect;
mod paths;
mod row_order;
mod row_sets;
mod sections;
