//! What a walk leaves open: values that only Python code can read, and where their cells belong.

use pyo3::prelude::*;

use crate::format::value::Tag;
use crate::python::convert_error::Step;
use crate::python::ffi::object::{self, Obj, View, Walk};
use crate::python::ffi::types::Kind;
use crate::python::from_python::cache::Memory;
use crate::state::schema::PathId;
use crate::state::table::Cell;

/// Where the cell of a hole belongs.
pub enum Place {
    /// A base row, and the position in its shape.
    Row(u32, usize),
    /// An index into `ChangeSet::cells`.
    New(usize),
}

/// One leaf of a record that is put together leaf by leaf.
pub enum Item {
    Cell(PathId, Cell),
    Hole(PathId, Foreign),
}

/// Whose record it is: a row of the base, or an added one.
#[derive(Clone, Copy)]
pub enum Owner {
    Base(u32),
    Added(u32),
}

/// A hole of a record whose other cells are in place.
pub struct Hole {
    pub row: usize,
    pub place: Place,
    pub path: PathId,
    pub foreign: Foreign,
}

/// A record with something in it that may turn out to be a dict.
pub struct Deferred {
    pub row: usize,
    pub owner: Owner,
    pub items: Vec<Item>,
}

pub enum Foreign {
    /// `leaf`: it is known to stand for one leaf.
    Object { object: Py<PyAny>, leaf: bool },
    /// A list or tuple whose bytes still have holes.
    Sequence { tag: Tag, bytes: Vec<u8>, holes: Vec<Inner> },
}

/// A hole inside a list or tuple.
pub struct Inner {
    pub at: usize,
    /// How deep the value around it is nested.
    pub depth: usize,
    /// From the value up to the list.
    pub trail: Vec<Step>,
    pub foreign: Foreign,
}

impl Foreign {
    pub fn of(walk: &Walk<'_>, object: Obj<'_>, view: &View<'_>, memory: &Memory) -> Foreign {
        let class = object.type_address();
        let types = walk.types;
        let leaf = match view {
            View::DateTime(.., object::Zone::Other(zone)) | View::Time(.., object::Zone::Other(zone)) => {
                let zone = zone.type_address();
                // of other zones default= may make anything
                types.carries_zone(zone) || memory.classes.known(zone) == Some(Kind::Zone)
            }
            View::Foreign => class == types.decimal || class == types.uuid || memory.is_leaf_class(class),
            _ => true,
        };
        Foreign::Object { object: object.to_owned(walk), leaf }
    }

    pub fn is_leaf(&self) -> bool {
        match self {
            Foreign::Object { leaf, .. } => *leaf,
            Foreign::Sequence { .. } => true,
        }
    }
}
