//! Addresses of the types that are told apart, and what is kept between walks.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDate, PyDateTime, PyDelta, PyTime, PyType};

use crate::python::symbol_list::symbol_bytes;

/// Addresses of exact types. The types are held by `held` or live as long as the interpreter.
pub(crate) struct Types {
    pub(crate) none: usize,
    pub(crate) bool: usize,
    pub(crate) int: usize,
    pub(crate) float: usize,
    pub(crate) str: usize,
    pub(crate) bytes: usize,
    pub(crate) dict: usize,
    pub(crate) list: usize,
    pub(crate) tuple: usize,
    pub(crate) date: usize,
    pub(crate) datetime: usize,
    pub(crate) time: usize,
    pub(crate) timedelta: usize,
    /// The object `timezone.utc`.
    pub(crate) utc: usize,
    /// Entries of dicts may be read where they stand.
    pub(crate) dicts_in_place: bool,
    /// How ints may be read where they stand.
    pub(crate) int_layout: super::int::Layout,
    pub(crate) decimal: usize,
    pub(crate) uuid: usize,
    pub(crate) timezone_type: Py<PyAny>,
    pub(crate) timedelta_type: Py<PyAny>,
    pub(crate) date_type: Py<PyAny>,
    pub(crate) datetime_type: Py<PyAny>,
    pub(crate) time_type: Py<PyAny>,
    pub(crate) utc_object: Py<PyAny>,
    pub(crate) decimal_type: Py<PyAny>,
    pub(crate) uuid_type: Py<PyAny>,
    pub(crate) enum_type: Py<PyAny>,
    pub(crate) zone_info: Py<PyAny>,
    pub(crate) ordered_dict: Py<PyAny>,
    pub(crate) default_dict: Py<PyAny>,
}

static TYPES: PyOnceLock<Types> = PyOnceLock::new();

impl Types {
    pub(crate) fn get(py: Python<'_>) -> PyResult<&Types> {
        TYPES.get_or_try_init(py, || Types::new(py))
    }

    fn new(py: Python<'_>) -> PyResult<Types> {
        let of = |module: &str, name: &str| py.import(module)?.getattr(name);
        let builtin = |name: &str| Ok::<usize, PyErr>(of("builtins", name)?.as_ptr() as usize);
        // freezegun replaces the module's names for a while
        let datetime_type = py.get_type::<PyDateTime>().into_any();
        let date_type = py.get_type::<PyDate>().into_any();
        let time_type = py.get_type::<PyTime>().into_any();
        let timedelta_type = py.get_type::<PyDelta>().into_any();
        let timezone_type = of("datetime", "timezone")?;
        let utc_object = timezone_type.getattr("utc")?;
        let decimal_type = of("decimal", "Decimal")?;
        let uuid_type = of("uuid", "UUID")?;
        let none = py.None().bind(py).get_type();
        Ok(Types {
            none: none.as_ptr() as usize,
            bool: builtin("bool")?,
            int: builtin("int")?,
            float: builtin("float")?,
            str: builtin("str")?,
            bytes: builtin("bytes")?,
            dict: builtin("dict")?,
            list: builtin("list")?,
            tuple: builtin("tuple")?,
            date: date_type.as_ptr() as usize,
            datetime: datetime_type.as_ptr() as usize,
            time: time_type.as_ptr() as usize,
            timedelta: timedelta_type.as_ptr() as usize,
            utc: utc_object.as_ptr() as usize,
            dicts_in_place: super::dict::check(py)?,
            int_layout: super::int::check(py)?,
            decimal: decimal_type.as_ptr() as usize,
            uuid: uuid_type.as_ptr() as usize,
            date_type: date_type.unbind(),
            datetime_type: datetime_type.unbind(),
            time_type: time_type.unbind(),
            timedelta_type: timedelta_type.unbind(),
            timezone_type: timezone_type.unbind(),
            utc_object: utc_object.unbind(),
            decimal_type: decimal_type.unbind(),
            uuid_type: uuid_type.unbind(),
            enum_type: of("enum", "Enum")?.unbind(),
            zone_info: of("zoneinfo", "ZoneInfo")?.unbind(),
            ordered_dict: of("collections", "OrderedDict")?.unbind(),
            default_dict: of("collections", "defaultdict")?.unbind(),
        })
    }

    /// Zones of this class are carried as they are.
    pub(crate) fn carries_zone(&self, class: usize) -> bool {
        [&self.timezone_type, &self.zone_info].iter().any(|kind| kind.as_ptr() as usize == class)
    }
}

/// How objects of a class that is no builtin become plain ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClassKind {
    Enum,
    /// `dict(value)`
    Dict,
    /// `value.item()`
    NumpyScalar,
    /// Read by the class's own reader.
    Record,
    /// A pydantic model: its `__dict__` where that is exact, else `model_dump()`.
    Model,
    /// A time zone that becomes the `timezone` of its offset.
    Zone,
    Unknown,
}

/// Instances whose fields are read during a walk.
pub(crate) struct InPlace {
    /// The class.
    pub(crate) address: usize,
    pub(crate) names: Vec<Vec<u8>>,
    pub(crate) fields: FieldsIn,
}

pub(crate) enum FieldsIn {
    /// The instance's `__dict__`, where it has exactly the fields, and in them only scalars and instances of the classes
    /// that are given by field (0: scalars only): a pydantic model.
    Dict(Vec<usize>),
    /// Slots of the instance, at these offsets: a Struct, or a dataclass with slots.
    Slots(Vec<isize>),
}

/// A class, its kind, and what `_records.kind_of` gives to read its objects.
struct Known {
    class: Py<PyAny>,
    kind: ClassKind,
    reader: Option<Py<PyAny>>,
    in_place: Option<Arc<InPlace>>,
    /// The version of the class before it was looked at.
    version: u32,
}

impl Known {
    /// Attributes of the class tell how it is read, and one of them may have changed since.
    fn may_have_changed(&self, py: Python<'_>) -> bool {
        let by_attributes = matches!(self.kind, ClassKind::Record | ClassKind::Model | ClassKind::Unknown);
        by_attributes && (self.version == 0 || self.version != version(self.class.bind(py)))
    }
}

/// What was learned of classes. Each is held, so that its address stays its own.
#[derive(Default)]
pub(crate) struct Classes {
    known: HashMap<usize, Known>,
}

/// Classes made on the fly must not pile up.
const MAX_CLASSES: usize = 1024;

impl Classes {
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.known.values().try_for_each(|known| {
            visit.call(&known.class)?;
            visit.call(&known.reader)
        })
    }

    pub(crate) fn known(&self, address: usize) -> Option<ClassKind> {
        self.known.get(&address).map(|known| known.kind)
    }

    pub(crate) fn get(
        &mut self,
        class: &Bound<'_, PyType>,
        types: &Types,
    ) -> PyResult<(ClassKind, Option<Py<PyAny>>)> {
        let py = class.py();
        let address = class.as_ptr() as usize;
        if let Some(Known { kind, reader, .. }) = self.known.get(&address) {
            return Ok((*kind, reader.as_ref().map(|reader| reader.clone_ref(py))));
        }
        let version = assigned_version(class)?;
        let (kind, reader) = classify(class, types)?;
        let in_place = in_place(class, kind, reader.as_ref())?.map(Arc::new);
        if self.known.len() >= MAX_CLASSES {
            self.known.clear();
        }
        let objects = reader.as_ref().map(|reader| reader.clone_ref(py));
        let class = class.clone().into_any().unbind();
        self.known.insert(address, Known { class, kind, reader: objects, in_place, version });
        if let (ClassKind::Model, Some(reader)) = (kind, &reader) {
            for inner in reader.bind(py).get_item(2)?.try_iter()? {
                if let Ok(inner) = inner?.cast_into::<PyType>() {
                    self.get(&inner, types)?;
                }
            }
        }
        Ok((kind, reader))
    }

    /// Forgets classes that were changed since: a field may be a property now. With a model also those that hold such.
    pub(crate) fn forget_changed(&mut self, py: Python<'_>) {
        let changed = |known: &Known| known.may_have_changed(py);
        let model_changed = self.known.values().any(|known| known.kind == ClassKind::Model && changed(known));
        self.known.retain(|_, known| !(changed(known) || model_changed && known.kind == ClassKind::Model));
    }

    /// The classes whose instances may be read during a walk.
    pub(crate) fn in_place(&self) -> Vec<Arc<InPlace>> {
        self.known.values().filter_map(|known| known.in_place.clone()).collect()
    }
}

/// How instances of a class are read during a walk, if they can be.
fn in_place(
    class: &Bound<'_, PyType>,
    kind: ClassKind,
    reader: Option<&Py<PyAny>>,
) -> PyResult<Option<InPlace>> {
    let py = class.py();
    let address = class.as_ptr() as usize;
    match (kind, reader) {
        (ClassKind::Model, Some(reader)) => {
            let names = reader.bind(py).get_item(1)?.try_iter()?.map(|name| symbol_bytes(&name?));
            let names = names.collect::<PyResult<_>>()?;
            let classes = reader.bind(py).get_item(2)?.try_iter()?;
            let address_of =
                |class: Bound<'_, PyAny>| if class.is_none() { 0 } else { class.as_ptr() as usize };
            let inner = classes.map(|class| class.map(address_of)).collect::<PyResult<_>>()?;
            Ok(Some(InPlace { address, names, fields: FieldsIn::Dict(inner) }))
        }
        (ClassKind::Record, _) => {
            let slots = py.import("snapdelta._records")?.call_method1("slots_of", (class,))?;
            let Some(slots) = slots.extract::<Option<Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>)>>>()? else {
                return Ok(None);
            };
            let mut names = Vec::with_capacity(slots.len());
            let mut offsets = Vec::with_capacity(slots.len());
            for (name, member) in &slots {
                names.push(symbol_bytes(name)?);
                match slot_offset(class, member) {
                    Some(offset) => offsets.push(offset),
                    None => return Ok(None),
                }
            }
            Ok(Some(InPlace { address, names, fields: FieldsIn::Slots(offsets) }))
        }
        _ => Ok(None),
    }
}

/// Where instances of a class keep what a member descriptor of the class reads; None if it is no slot for an object.
fn slot_offset(class: &Bound<'_, PyType>, member: &Bound<'_, PyAny>) -> Option<isize> {
    // SAFETY: all are live objects. A member descriptor (its exact type says so) leads to its definition as long as it
    // lives, and is good for instances of its class and of those below
    unsafe {
        if ffi::Py_TYPE(member.as_ptr()) != &raw mut ffi::PyMemberDescr_Type {
            return None;
        }
        let descriptor = &*member.as_ptr().cast::<ffi::PyMemberDescrObject>();
        let owner = descriptor.d_common.d_type;
        let definition = &*descriptor.d_member;
        let fits = ffi::PyType_IsSubtype(class.as_ptr().cast(), owner) != 0
            && definition.type_code == ffi::Py_T_OBJECT_EX
            && definition.offset > 0;
        fits.then_some(definition.offset)
    }
}

/// A number that changes when an attribute of a class, or of a class above it, is set or deleted; 0 if it has none.
fn version(class: &Bound<'_, PyAny>) -> u32 {
    // SAFETY: it is a live class
    unsafe { (*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_version_tag }
}

/// The version of a class, which an attribute that is looked up gives it.
fn assigned_version(class: &Bound<'_, PyType>) -> PyResult<u32> {
    class.getattr("__init__")?;
    Ok(version(class))
}

fn classify(class: &Bound<'_, PyType>, types: &Types) -> PyResult<(ClassKind, Option<Py<PyAny>>)> {
    let py = class.py();
    if class.is(&types.ordered_dict) || class.is(&types.default_dict) {
        return Ok((ClassKind::Dict, None));
    }
    if class.is_subclass(types.enum_type.bind(py))? {
        return Ok((ClassKind::Enum, None));
    }
    let told = py.import("snapdelta._records")?.call_method1("kind_of", (class,))?;
    let (kind, helper): (String, Option<Py<PyAny>>) = told.extract()?;
    let kind = match kind.as_str() {
        "numpy" => ClassKind::NumpyScalar,
        "record" => ClassKind::Record,
        "model" => ClassKind::Model,
        "zone" => ClassKind::Zone,
        _ => ClassKind::Unknown,
    };
    Ok((kind, helper))
}
