//! Values that need Python code to be read: noted during a walk, resolved after it.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};

use crate::format::datetime::{self, Delta};
use crate::format::decimal;
use crate::format::value::{Payload, Tag, tag, trim_big_int, write_plain};
use crate::format::writer::Writer;
use crate::python::convert_error::{Outcome, Trouble};
use crate::python::ffi::object::{Dict, Obj, Pair, Str, View, Walk};
use crate::python::ffi::types::{Kind, Types};
use crate::python::from_python::cache::{Memory, Value};
use crate::python::from_python::deferred::{Deferred, Foreign, Hole, Inner, Item};
use crate::python::from_python::scalars;
use crate::python::from_python::walk::Capture;
use crate::state::schema::PathId;

/// How often one value may be converted, before it is taken for an endless chain.
const MOST_CONVERSIONS: usize = 64;

/// What a value is once it is resolved.
enum Resolved<'py> {
    Leaf {
        tag: Tag,
        value: Value,
        /// It was given as another type than is built from it.
        converted: bool,
    },
    /// An exact dict that is not empty.
    Dict(Bound<'py, PyDict>),
}

impl Resolved<'_> {
    fn leaf(tag: Tag, value: Value) -> Self {
        Resolved::Leaf { tag, value, converted: false }
    }

    /// A scalar of `sequence`: a word, or a blob that was written.
    fn scalar((tag, word): (Tag, Option<u64>), w: Writer, converted: bool) -> Self {
        let value = word.map_or(Value::Blob(w.bytes), Value::Word);
        Resolved::Leaf { tag, value, converted }
    }
}

pub struct Resolver<'a, 'py> {
    pub py: Python<'py>,
    pub types: &'py Types,
    pub default: Option<&'a Bound<'py, PyAny>>,
}

impl<'py> Resolver<'_, 'py> {
    /// Resolves all that a walk left open.
    pub fn resolve(&self, capture: &mut Capture<'_>) -> Outcome<()> {
        for hole in std::mem::take(&mut capture.holes) {
            let row = hole.row;
            self.hole(capture, hole).map_err(|trouble| below_row(capture, row, trouble))?;
        }
        for Deferred { row, owner, items } in std::mem::take(&mut capture.deferred) {
            capture.plain[row] = false;
            let mut cells = Vec::with_capacity(items.len());
            self.expand(capture, items, &mut cells)
                .and_then(|()| capture.finish(owner, &cells))
                .map_err(|trouble| below_row(capture, row, trouble))?;
        }
        Ok(())
    }

    fn hole(&self, capture: &mut Capture<'_>, hole: Hole) -> Outcome<()> {
        let Hole { row, place, path, foreign } = hole;
        let depth = capture.table.names.paths[path as usize].depth;
        let resolved = self.foreign(foreign, capture.memory, depth);
        match resolved.map_err(|trouble| below_path(capture, path, trouble))? {
            Resolved::Leaf { tag, value, converted } => {
                capture.plain[row] &= !converted;
                let cell = capture.take(tag, value.payload(), None);
                capture.fill(&place, path, cell);
                Ok(())
            }
            // a leaf class does not turn into a dict
            Resolved::Dict(_) => Err(below_path(capture, path, Trouble::unsupported("it became a dict"))),
        }
    }

    /// Items with holes -> cells, dicts that turned up taken apart.
    fn expand(
        &self,
        capture: &mut Capture<'_>,
        items: Vec<Item>,
        cells: &mut Vec<(PathId, crate::state::table::Cell)>,
    ) -> Outcome<()> {
        for item in items {
            let (path, foreign) = match item {
                Item::Cell(path, cell) => {
                    cells.push((path, cell));
                    continue;
                }
                Item::Hole(path, foreign) => (path, foreign),
            };
            let depth = capture.table.names.paths[path as usize].depth;
            let resolved = self.foreign(foreign, capture.memory, depth);
            match resolved.map_err(|trouble| below_path(capture, path, trouble))? {
                Resolved::Leaf { tag, value, .. } => {
                    let cell = capture.take(tag, value.payload(), None);
                    cells.push((path, cell));
                }
                Resolved::Dict(dict) => {
                    let mut below = Vec::new();
                    {
                        let walk = Walk::new(self.py, self.types);
                        let root = walk.root(dict.as_any());
                        if let Some(dict) = Dict::of(root, self.types) {
                            capture
                                .leaves(&walk, dict, path, &mut below)
                                .map_err(|trouble| below_path(capture, path, trouble))?;
                        }
                    }
                    self.expand(capture, below, cells)?;
                }
            }
        }
        Ok(())
    }

    fn foreign(&self, foreign: Foreign, memory: &mut Memory, depth: usize) -> Outcome<Resolved<'py>> {
        match foreign {
            Foreign::Object { object, .. } => self.object(object.into_bound(self.py), memory, depth),
            Foreign::Sequence { tag, bytes, holes } => {
                let bytes = self.fill_holes(bytes, holes, memory)?;
                Ok(Resolved::leaf(tag, Value::Blob(bytes)))
            }
        }
    }

    fn fill_holes(&self, bytes: Vec<u8>, holes: Vec<Inner>, memory: &mut Memory) -> Outcome<Vec<u8>> {
        let mut filled = Writer::default();
        let mut done = 0;
        for Inner { at, depth, trail, foreign } in holes {
            filled.raw(&bytes[done..at]);
            done = at;
            let placed = self.plain_form(foreign, &mut filled, memory, depth);
            placed.map_err(|trouble| trail.into_iter().fold(trouble, Trouble::below))?;
        }
        filled.raw(&bytes[done..]);
        Ok(filled.bytes)
    }

    fn plain_form(&self, foreign: Foreign, w: &mut Writer, memory: &mut Memory, depth: usize) -> Outcome<()> {
        match self.foreign(foreign, memory, depth)? {
            Resolved::Leaf { tag, value, .. } => write_plain(w, tag, value.payload()),
            Resolved::Dict(dict) => {
                let mut bytes = Writer::default();
                let holes = {
                    let walk = Walk::new(self.py, self.types);
                    scalars::write_value(&walk, walk.root(dict.as_any()), &mut bytes, memory, depth)?
                };
                w.raw(&self.fill_holes(bytes.bytes, holes, memory)?);
            }
        }
        Ok(())
    }

    /// Converts until it is a value that can be carried.
    fn object(&self, first: Bound<'py, PyAny>, memory: &mut Memory, depth: usize) -> Outcome<Resolved<'py>> {
        let mut object = first.clone();
        for conversions in 0..MOST_CONVERSIONS {
            if let Some(mut resolved) = self.builtin(&object, memory, depth)? {
                if let Resolved::Leaf { tag, value, converted } = &mut resolved {
                    *converted |= conversions > 0;
                    // one that may change is read each time
                    let immutable = conversions == 1 && ![tag::LIST, tag::TUPLE, tag::EMPTY].contains(tag);
                    if immutable && first.is_instance(self.types.enum_type.bind(self.py))? {
                        memory.learn_enum(&first, *tag, value.clone());
                    }
                }
                return Ok(resolved);
            }
            object = self.convert(&object, memory)?;
        }
        Err(Trouble::unsupported(format!(
            "{} was converted {MOST_CONVERSIONS} times and is still not supported",
            first.get_type().name()?
        )))
    }

    /// What an object is that needs no conversion by its class.
    fn builtin(
        &self,
        object: &Bound<'py, PyAny>,
        memory: &mut Memory,
        depth: usize,
    ) -> Outcome<Option<Resolved<'py>>> {
        self.learn_zone_of(object, memory)?;
        let mut w = Writer::default();
        let sequence = {
            let walk = Walk::new(self.py, self.types);
            let root = walk.root(object);
            match root.view(self.types) {
                View::Str(text) => {
                    let mut buffer = Vec::new();
                    return Ok(Some(text_leaf(text, &mut buffer)?));
                }
                View::Dict(dict) if dict.len() > 0 => {
                    return Ok(Some(Resolved::Dict(
                        object.clone().cast_into::<PyDict>().map_err(PyErr::from)?,
                    )));
                }
                View::Dict(_) => return Ok(Some(Resolved::leaf(tag::EMPTY, Value::Word(0)))),
                View::List(items) => {
                    Some((tag::LIST, scalars::write(&walk, items, &mut w, memory, depth + 1)?))
                }
                View::Tuple(items) => {
                    Some((tag::TUPLE, scalars::write(&walk, items, &mut w, memory, depth + 1)?))
                }
                view => {
                    if let Some(scalar) = scalars::scalar(&view, &mut w, memory) {
                        return Ok(Some(Resolved::scalar(scalar, w, false)));
                    }
                    if let Some(scalar) = scalars::in_converted_zone(&view, &mut w, memory) {
                        return Ok(Some(Resolved::scalar(scalar, w, true)));
                    }
                    None
                }
            }
        };
        if let Some((tag, holes)) = sequence {
            let bytes = self.fill_holes(w.bytes, holes, memory)?;
            return Ok(Some(Resolved::leaf(tag, Value::Blob(bytes))));
        }
        self.number(object)
    }

    /// Big ints, Decimals and UUIDs.
    fn number(&self, object: &Bound<'py, PyAny>) -> Outcome<Option<Resolved<'py>>> {
        let class = object.get_type().as_ptr() as usize;
        if class == self.types.int {
            let bits: usize = object.call_method0("bit_length")?.extract()?;
            let signed = PyDict::new(self.py);
            signed.set_item("signed", true)?;
            let bytes = object.call_method("to_bytes", (bits / 8 + 1, "little"), Some(&signed))?;
            let bytes: Vec<u8> = bytes.extract()?;
            return Ok(Some(Resolved::leaf(tag::BIG_INT, Value::Blob(trim_big_int(&bytes).to_vec()))));
        }
        if class == self.types.decimal {
            let text = object.str()?;
            let mut buffer = Writer::default();
            let Some((tag, payload)) = decimal::parse(text.to_str()?, &mut buffer) else {
                return Err(Trouble::unsupported(format!("a Decimal in the unknown form {text}")));
            };
            let value = match payload {
                Payload::Word(word) => Value::Word(word),
                Payload::Blob(bytes) => Value::Blob(bytes.to_vec()),
            };
            return Ok(Some(Resolved::leaf(tag, value)));
        }
        if class == self.types.uuid {
            let bytes: Vec<u8> = object.getattr("bytes")?.extract()?;
            return Ok(Some(Resolved::leaf(tag::UUID, Value::Blob(bytes))));
        }
        Ok(None)
    }

    fn convert(&self, object: &Bound<'py, PyAny>, memory: &mut Memory) -> Outcome<Bound<'py, PyAny>> {
        let class = object.get_type();
        let (kind, helper) = memory.classes.get(&class, self.types)?;
        let helper = helper.map(|helper| helper.into_bound(self.py));
        let read = match (kind, helper) {
            (Kind::Enum, _) => object.getattr("_value_"),
            (Kind::NumpyScalar, _) => object.call_method0("item"),
            (Kind::Dict, _) => self.py.get_type::<PyDict>().call1((object,)),
            (Kind::Record, Some(reader)) => reader.call1((object,)),
            (Kind::Model, Some(plain)) => match self.fields_in_place(object, &plain, memory)? {
                Some(fields) => Ok(fields),
                None => object.call_method0("model_dump"),
            },
            _ => return self.by_default(object, &class),
        };
        read.map_err(|error| match class.name() {
            Ok(name) => Trouble::raised(error, format!("{name} could not be read")),
            Err(nameless) => nameless.into(),
        })
    }

    fn by_default(
        &self,
        object: &Bound<'py, PyAny>,
        class: &Bound<'py, PyType>,
    ) -> Outcome<Bound<'py, PyAny>> {
        let mut name = class.name()?.to_string();
        if self.is_moment(class) {
            let zone = object.getattr("tzinfo")?.get_type();
            name = format!("{name} with a time zone of class {}", zone.name()?);
        }
        match self.default {
            Some(default) => default.call1((object,)).map_err(|error| {
                Trouble::raised(error, format!("{name} is not supported, and default= raised"))
            }),
            None => Err(Trouble::unsupported(format!(
                "{name} is not supported (a default= callable could convert it)"
            ))),
        }
    }

    /// A model's `__dict__`, if `model_dump()` gives the same. `plain` names the serializer that hands scalars out as
    /// they are, and the fields: the class must still have that serializer, the dict these fields and only scalars.
    fn fields_in_place(
        &self,
        model: &Bound<'py, PyAny>,
        plain: &Bound<'py, PyAny>,
        memory: &Memory,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (serializer, names): (Bound<'py, PyAny>, Bound<'py, PyAny>) = plain.extract()?;
        if !model.get_type().getattr("__pydantic_serializer__")?.is(&serializer) {
            return Ok(None);
        }
        let fields = model.getattr("__dict__")?;
        let exact = {
            let walk = Walk::new(self.py, self.types);
            match (walk.root(&fields).view(self.types), walk.root(&names).view(self.types)) {
                (View::Dict(dict), View::Tuple(names)) => {
                    let names = names.items();
                    let mut exact = dict.len() == names.len();
                    for (Pair { key, value }, name) in dict.items().zip(names) {
                        exact =
                            exact && same_str(key, name, self.types)? && is_scalar(value, self.types, memory);
                    }
                    exact
                }
                _ => false,
            }
        };
        Ok(exact.then_some(fields))
    }

    fn is_moment(&self, class: &Bound<'py, PyType>) -> bool {
        class.is(&self.types.datetime_type) || class.is(&self.types.time_type)
    }

    /// Learns the zone of a datetime or time, so that it can be read in place.
    fn learn_zone_of(&self, object: &Bound<'py, PyAny>, memory: &mut Memory) -> Outcome<()> {
        if !self.is_moment(&object.get_type()) {
            return Ok(());
        }
        let zone = object.getattr("tzinfo")?;
        if zone.is_none() {
            return Ok(());
        }
        let mut w = Writer::default();
        let mut converted = false;
        if zone.get_type().is(&self.types.timezone_type) {
            let arguments: Vec<Bound<'py, PyAny>> = zone.call_method0("__getinitargs__")?.extract()?;
            let offset = self.delta(&arguments[0])?;
            match arguments.get(1) {
                None => fixed_zone(offset).write(&mut w),
                Some(name) => datetime::Zone::Named(offset, &self.text(name)?).write(&mut w),
            }
        } else if zone.get_type().is(&self.types.zone_info) {
            let key = zone.getattr("key")?;
            if key.is_none() {
                return Ok(());
            }
            datetime::Zone::Key(&self.text(&key)?).write(&mut w);
        } else if memory.classes.get(&zone.get_type(), self.types)?.0 == Kind::Zone {
            converted = true;
            let offset = self.delta(&zone.call_method1("utcoffset", (self.py.None(),))?)?;
            fixed_zone(offset).write(&mut w);
        } else {
            return Ok(());
        }
        memory.learn_zone(&zone, &w.bytes, converted);
        Ok(())
    }

    fn delta(&self, delta: &Bound<'py, PyAny>) -> PyResult<Delta> {
        Ok(Delta {
            days: delta.getattr("days")?.extract()?,
            seconds: delta.getattr("seconds")?.extract()?,
            microseconds: delta.getattr("microseconds")?.extract()?,
        })
    }

    fn text(&self, text: &Bound<'py, PyAny>) -> PyResult<Vec<u8>> {
        let text = text.cast::<PyString>()?;
        let bytes = text.call_method1("encode", ("utf-8", "surrogatepass"))?;
        bytes.extract()
    }
}

fn fixed_zone(offset: Delta) -> datetime::Zone<'static> {
    if offset.is_zero() { datetime::Zone::Utc } else { datetime::Zone::Offset(offset) }
}

fn same_str(a: Obj<'_>, b: Obj<'_>, types: &Types) -> PyResult<bool> {
    Ok(a.address() == b.address()
        || match (Str::of(a, types), Str::of(b, types)) {
            (Some(a), Some(b)) => a.text(&mut Vec::new())? == b.text(&mut Vec::new())?,
            _ => false,
        })
}

/// It is one leaf, whose value pydantic hands out as it is.
fn is_scalar(object: Obj<'_>, types: &Types, memory: &Memory) -> bool {
    match object.view(types) {
        View::Dict(_) | View::List(_) | View::Tuple(_) => false,
        View::Foreign => {
            let class = object.type_address();
            class == types.decimal || class == types.uuid || memory.classes.known(class) == Some(Kind::Enum)
        }
        _ => true,
    }
}

fn text_leaf<'py>(text: Str<'_>, buffer: &mut Vec<u8>) -> PyResult<Resolved<'py>> {
    Ok(match crate::format::value::text_cell(text.text(buffer)?) {
        (tag, Payload::Word(word)) => Resolved::leaf(tag, Value::Word(word)),
        (tag, Payload::Blob(bytes)) => Resolved::leaf(tag, Value::Blob(bytes.to_vec())),
    })
}

fn below_path(capture: &Capture<'_>, path: PathId, trouble: Trouble) -> Trouble {
    trouble.below_keys(&capture.table.names.keys_of(path))
}

fn below_row(capture: &Capture<'_>, row: usize, trouble: Trouble) -> Trouble {
    trouble.below_key(capture.symbol(row))
}
