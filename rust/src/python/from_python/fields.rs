//! Where the fields of a record, or of a dict in it, are: in a dict, in the slots of an instance, or in its dict.

use std::sync::Arc;

use crate::python::ffi::object::{Dict, Obj};
use crate::python::ffi::types::{FieldsIn, InPlace, Types};

/// The instances of classes that stand for dicts in a record.
#[derive(Clone, Copy, Default)]
pub(super) struct Instances {
    pub(super) any: bool,
    /// Models are among them: then all leaves must be scalars.
    pub(super) models: bool,
}

impl Instances {
    #[inline(always)]
    pub(super) fn add(&mut self, fields: Fields<'_>, classes: &[Arc<InPlace>]) {
        self.any |= fields.class.is_some();
        self.models |= fields.is_model(classes);
    }
}

/// The object that has the fields.
#[derive(Clone, Copy)]
pub(super) struct Fields<'w> {
    /// The object that stands for the record or the dict.
    pub(super) given: Obj<'w>,
    pub(super) object: Obj<'w>,
    /// The number of its class; None for a dict.
    pub(super) class: Option<usize>,
}

impl<'w> Fields<'w> {
    #[inline(always)]
    pub(super) fn of(given: Obj<'w>, types: &Types, classes: &[Arc<InPlace>]) -> Fields<'w> {
        if classes.is_empty() || Dict::of(given, types).is_some() {
            return Fields { given, object: given, class: None };
        }
        Fields::of_instance(given, types, classes)
    }

    fn of_instance(given: Obj<'w>, types: &Types, classes: &[Arc<InPlace>]) -> Fields<'w> {
        let address = given.type_address();
        let class = classes.iter().position(|class| class.address == address);
        let object =
            class.filter(|class| is_model(&classes[*class])).and_then(|_| given.instance_dict(types));
        Fields { given, object: object.map_or(given, Dict::object), class }
    }

    fn is_model(self, classes: &[Arc<InPlace>]) -> bool {
        self.class.is_some_and(|class| is_model(&classes[class]))
    }
}

fn is_model(class: &InPlace) -> bool {
    matches!(class.fields, FieldsIn::Dict(_))
}
