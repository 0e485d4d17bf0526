//! What a walk leaves open: values that only Python code can read, and where their cells belong.

use pyo3::prelude::*;

use crate::format::value::Tag;
use crate::python::convert_error::PathStep;
use crate::python::ffi::object::{self, Obj, ObjectView, Walk};
use crate::python::ffi::types::ClassKind;
use crate::python::from_python::cache::ConversionCache;
use crate::state::schema::PathId;
use crate::state::table::Cell;

/// Where the cell of a deferred cell belongs.
pub(crate) enum CellPlace {
    /// A base row, and the position in its shape.
    Row(u32, usize),
    /// An index into `ChangeSet::cells`.
    New(usize),
}

/// One leaf of a record that is put together leaf by leaf.
pub(crate) enum RecordItem {
    Cell(PathId, Cell),
    Deferred(PathId, DeferredValue),
}

/// Whose record it is: a row of the base, or an added one.
#[derive(Clone, Copy)]
pub(crate) enum RowOwner {
    Base(u32),
    Added(u32),
}

/// A deferred cell of a record whose other cells are in place.
pub(crate) struct DeferredCell {
    pub(crate) row: usize,
    pub(crate) place: CellPlace,
    pub(crate) path: PathId,
    pub(crate) value: DeferredValue,
}

/// A record with something in it that may turn out to be a dict.
pub(crate) struct DeferredRecord {
    pub(crate) row: usize,
    pub(crate) owner: RowOwner,
    pub(crate) items: Vec<RecordItem>,
}

pub(crate) enum DeferredValue {
    /// `leaf`: it is known to stand for one leaf.
    Object { object: Py<PyAny>, leaf: bool },
    /// A list or tuple whose bytes still have deferred items.
    Sequence { tag: Tag, bytes: Vec<u8>, items: Vec<DeferredItem> },
}

/// A deferred cell inside a list or tuple.
pub(crate) struct DeferredItem {
    pub(crate) at: usize,
    /// How deep the value around it is nested.
    pub(crate) depth: usize,
    /// From the value up to the list.
    pub(crate) trail: Vec<PathStep>,
    pub(crate) value: DeferredValue,
}

impl RecordItem {
    /// The path, if a leaf is there or will be.
    pub(crate) fn leaf_path(&self) -> Option<PathId> {
        match self {
            RecordItem::Cell(path, _) => Some(*path),
            RecordItem::Deferred(path, value) => value.is_leaf().then_some(*path),
        }
    }
}

impl DeferredValue {
    pub(crate) fn of(
        walk: &Walk<'_>,
        object: Obj<'_>,
        view: &ObjectView<'_>,
        cache: &ConversionCache,
    ) -> DeferredValue {
        let class = object.type_address();
        let types = walk.types;
        let leaf = match view {
            ObjectView::DateTime(.., object::ZoneView::Other(zone))
            | ObjectView::Time(.., object::ZoneView::Other(zone)) => {
                let zone = zone.type_address();
                // of other zones default= may make anything
                types.carries_zone(zone) || cache.classes.known(zone) == Some(ClassKind::Zone)
            }
            ObjectView::NeedsPython => {
                class == types.decimal || class == types.uuid || cache.is_leaf_class(class)
            }
            _ => true,
        };
        DeferredValue::Object { object: object.to_owned(walk), leaf }
    }

    pub(crate) fn is_leaf(&self) -> bool {
        match self {
            DeferredValue::Object { leaf, .. } => *leaf,
            DeferredValue::Sequence { .. } => true,
        }
    }
}
