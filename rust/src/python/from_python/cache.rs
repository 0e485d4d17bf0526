//! What one Encoder remembers of Python objects between walks: key objects, zones, enum members, classes.

use std::collections::HashMap;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::format::value::{Payload, Tag};
use crate::python::ffi::object::Obj;
use crate::python::ffi::types::{ClassKind, Classes};
use crate::python::from_python::key_list::KeyLists;
use crate::state::schema::Schema;

/// A cell's content that is no part of a table yet.
#[derive(Clone)]
pub(crate) enum Value {
    Fixed64(u64),
    Bytes(Vec<u8>),
}

impl Value {
    pub(crate) fn payload(&self) -> Payload<'_> {
        match self {
            Value::Fixed64(word) => Payload::Fixed64(*word),
            Value::Bytes(bytes) => Payload::Bytes(bytes),
        }
    }
}

/// Objects made on the fly must not pile up.
const MAX_OBJECTS: usize = 4096;

/// The zone object, held, and its bytes.
type KnownZone = (Py<PyAny>, Box<[u8]>);

struct KnownEnum {
    member: Py<PyAny>,
    object: Py<PyAny>,
    tag: Tag,
    value: Value,
}

#[derive(Default)]
pub(crate) struct ConversionCache {
    pub(crate) keys: KeyLists,
    pub(crate) classes: Classes,
    /// By address: zones carried as they are, and zones that are converted.
    zones: HashMap<usize, KnownZone>,
    converted_zones: HashMap<usize, KnownZone>,
    /// By address: the enum member and its `_value_`, both held, and what that is.
    enums: HashMap<usize, KnownEnum>,
}

impl ConversionCache {
    pub(crate) fn zone(&self, zone: Obj<'_>) -> Option<&[u8]> {
        self.zones.get(&zone.address()).map(|(_, bytes)| &**bytes)
    }

    /// What becomes of a zone that is not carried as it is.
    pub(crate) fn converted_zone(&self, zone: Obj<'_>) -> Option<&[u8]> {
        self.converted_zones.get(&zone.address()).map(|(_, bytes)| &**bytes)
    }

    pub(crate) fn add_zone(&mut self, zone: &Bound<'_, PyAny>, bytes: &[u8], converted: bool) {
        let zones = if converted { &mut self.converted_zones } else { &mut self.zones };
        if zones.len() >= MAX_OBJECTS {
            zones.clear();
        }
        zones.insert(zone.as_ptr() as usize, (zone.clone().unbind(), bytes.into()));
    }

    pub(crate) fn known_enum(&self, member: Obj<'_>) -> Option<(Tag, Payload<'_>)> {
        let KnownEnum { tag, value, .. } = self.enums.get(&member.address())?;
        Some((*tag, value.payload()))
    }

    /// `object` is the member's `_value_`, which is this and cannot change.
    pub(crate) fn add_enum(
        &mut self,
        member: &Bound<'_, PyAny>,
        object: &Bound<'_, PyAny>,
        tag: Tag,
        value: Value,
    ) {
        if self.enums.len() >= MAX_OBJECTS {
            self.enums.clear();
        }
        let known =
            KnownEnum { member: member.clone().unbind(), object: object.clone().unbind(), tag, value };
        self.enums.insert(member.as_ptr() as usize, known);
    }

    /// Forgets classes that were changed since, and members with another `_value_`.
    pub(crate) fn forget_changed(&mut self, py: Python<'_>) {
        self.classes.forget_changed(py);
        self.enums.retain(|_, KnownEnum { member, object, .. }| {
            member.getattr(py, "_value_").is_ok_and(|now| now.is(&*object))
        });
    }

    /// True if objects of this class are known to stand for one leaf.
    pub(crate) fn is_leaf_class(&self, address: usize) -> bool {
        self.classes.known(address) == Some(ClassKind::NumpyScalar)
    }

    /// Shows the garbage collector what may be part of a cycle; str objects cannot.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let zones = self.zones.values().chain(self.converted_zones.values());
        zones.map(|(zone, _)| zone).try_for_each(|zone| visit.call(zone))?;
        self.enums.values().try_for_each(|known| {
            visit.call(&known.member)?;
            visit.call(&known.object)
        })?;
        self.classes.traverse(visit)
    }

    pub(crate) fn forget_schema(&mut self) {
        self.keys = KeyLists::default();
    }

    /// Lets go of the key objects of shapes that the schema has not any more.
    pub(crate) fn forget_keys_beyond(&mut self, schema: &Schema) {
        self.keys.forget_beyond(schema.shapes.len());
    }
}
