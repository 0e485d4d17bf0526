//! Values that need Python code to be read: noted during a walk, resolved after it.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};

use super::memory::{Memory, Value};
use super::raw::{Dict, Obj, Str, View, Walk};
use super::sequence;
use super::trouble::{Outcome, Step, Trouble};
use super::types::{Kind, Types};
use super::walk::{Capture, Deferred, Hole, Item};
use crate::format::decimal;
use crate::format::time::{Delta, Zone};
use crate::format::value::{Payload, Tag, tag, trim_big_int, write_plain};
use crate::format::writer::Writer;
use crate::table::names::PathId;

/// How often one value may be converted, before it is taken for an endless chain.
const MOST_CONVERSIONS: usize = 64;

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
        let leaf = !matches!(view, View::Foreign)
            || class == walk.types.decimal
            || class == walk.types.uuid
            || memory.is_leaf_class(class);
        Foreign::Object { object: object.to_owned(walk), leaf }
    }

    pub fn is_leaf(&self) -> bool {
        match self {
            Foreign::Object { leaf, .. } => *leaf,
            Foreign::Sequence { .. } => true,
        }
    }

    /// What is built from it is of the same type.
    pub fn is_builtin(&self, types: &Types) -> bool {
        match self {
            Foreign::Object { object, .. } => {
                let class = Python::attach(|py| object.bind(py).get_type().as_ptr() as usize);
                [types.decimal, types.uuid, types.int, types.datetime, types.time].contains(&class)
            }
            Foreign::Sequence { .. } => false,
        }
    }
}

/// What a value is once it is resolved.
enum Resolved<'py> {
    Leaf(Tag, Value),
    /// An exact dict that is not empty.
    Dict(Bound<'py, PyDict>),
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
        let Hole { place, path, foreign, .. } = hole;
        let depth = capture.table.names.paths[path as usize].depth;
        let resolved = self.foreign(foreign, capture.memory, depth);
        match resolved.map_err(|trouble| below_path(capture, path, trouble))? {
            Resolved::Leaf(tag, value) => {
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
        cells: &mut Vec<(PathId, crate::table::Cell)>,
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
                Resolved::Leaf(tag, value) => {
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
                Ok(Resolved::Leaf(tag, Value::Blob(bytes)))
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
            Resolved::Leaf(tag, value) => write_plain(w, tag, value.payload()),
            Resolved::Dict(dict) => {
                let mut bytes = Writer::default();
                let holes = {
                    let walk = Walk::new(self.py, self.types);
                    sequence::write_value(&walk, walk.root(dict.as_any()), &mut bytes, memory, depth)?
                };
                w.raw(&self.fill_holes(bytes.bytes, holes, memory)?);
            }
        }
        Ok(())
    }

    /// Converts until it is a value that can be carried.
    fn object(&self, first: Bound<'py, PyAny>, memory: &mut Memory, depth: usize) -> Outcome<Resolved<'py>> {
        let mut object = first.clone();
        for _ in 0..MOST_CONVERSIONS {
            if let Some(resolved) = self.builtin(&object, memory, depth)? {
                if let Resolved::Leaf(tag, value) = &resolved
                    && first.is_instance(self.types.enum_type.bind(self.py))?
                {
                    let copy = match value {
                        Value::Word(word) => Value::Word(*word),
                        Value::Blob(bytes) => Value::Blob(bytes.clone()),
                    };
                    memory.learn_enum(&first, *tag, copy);
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
                View::Dict(_) => return Ok(Some(Resolved::Leaf(tag::EMPTY, Value::Word(0)))),
                View::List(items) => {
                    Some((tag::LIST, sequence::write(&walk, items, &mut w, memory, depth + 1)?))
                }
                View::Tuple(items) => {
                    Some((tag::TUPLE, sequence::write(&walk, items, &mut w, memory, depth + 1)?))
                }
                view => match sequence::scalar(&view, &mut w, memory) {
                    Some((tag, Some(word))) => return Ok(Some(Resolved::Leaf(tag, Value::Word(word)))),
                    Some((tag, None)) => return Ok(Some(Resolved::Leaf(tag, Value::Blob(w.bytes)))),
                    None => None,
                },
            }
        };
        if let Some((tag, holes)) = sequence {
            let bytes = self.fill_holes(w.bytes, holes, memory)?;
            return Ok(Some(Resolved::Leaf(tag, Value::Blob(bytes))));
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
            return Ok(Some(Resolved::Leaf(tag::BIG_INT, Value::Blob(trim_big_int(&bytes).to_vec()))));
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
            return Ok(Some(Resolved::Leaf(tag, value)));
        }
        if class == self.types.uuid {
            let bytes: Vec<u8> = object.getattr("bytes")?.extract()?;
            return Ok(Some(Resolved::Leaf(tag::UUID, Value::Blob(bytes))));
        }
        Ok(None)
    }

    fn convert(&self, object: &Bound<'py, PyAny>, memory: &mut Memory) -> Outcome<Bound<'py, PyAny>> {
        let class = object.get_type();
        let (kind, reader) = memory.classes.get(&class, self.types)?;
        Ok(match (kind, reader) {
            (Kind::Enum, _) => object.getattr("_value_")?,
            (Kind::NumpyScalar, _) => object.call_method0("item")?,
            (Kind::Dict, _) => self.py.get_type::<PyDict>().call1((object,))?,
            (Kind::Record, Some(reader)) => reader.bind(self.py).call1((object,))?,
            _ => match self.default {
                Some(default) => default.call1((object,))?,
                None => return Err(self.unsupported(object, &class)?),
            },
        })
    }

    fn unsupported(&self, object: &Bound<'py, PyAny>, class: &Bound<'py, PyType>) -> Outcome<Trouble> {
        let dated = class.is(&self.types.datetime_type) || class.is(&self.types.time_type);
        let name = if dated {
            let zone = object.getattr("tzinfo")?.get_type();
            format!("{} with a time zone of class {}", class.name()?, zone.name()?)
        } else {
            class.name()?.to_string()
        };
        Ok(Trouble::unsupported(format!("{name} is not supported (a default= callable could convert it)")))
    }

    /// Learns the zone of a datetime or time, so that it can be read in place.
    fn learn_zone_of(&self, object: &Bound<'py, PyAny>, memory: &mut Memory) -> Outcome<()> {
        let class = object.get_type();
        if !class.is(&self.types.datetime_type) && !class.is(&self.types.time_type) {
            return Ok(());
        }
        let zone = object.getattr("tzinfo")?;
        if zone.is_none() {
            return Ok(());
        }
        let mut w = Writer::default();
        if zone.get_type().is(&self.types.timezone_type) {
            let arguments: Vec<Bound<'py, PyAny>> = zone.call_method0("__getinitargs__")?.extract()?;
            let offset = self.delta(&arguments[0])?;
            match arguments.get(1) {
                None if offset.is_zero() => Zone::Utc.write(&mut w),
                None => Zone::Offset(offset).write(&mut w),
                Some(name) => Zone::Named(offset, &self.text(name)?).write(&mut w),
            }
        } else if zone.get_type().is(&self.types.zone_info) {
            let key = zone.getattr("key")?;
            if key.is_none() {
                return Ok(());
            }
            Zone::Key(&self.text(&key)?).write(&mut w);
        } else {
            return Ok(());
        }
        memory.learn_zone(&zone, &w.bytes);
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

fn text_leaf<'py>(text: Str<'_>, buffer: &mut Vec<u8>) -> PyResult<Resolved<'py>> {
    Ok(match crate::format::value::text_cell(text.text(buffer)?) {
        (tag, Payload::Word(word)) => Resolved::Leaf(tag, Value::Word(word)),
        (tag, Payload::Blob(bytes)) => Resolved::Leaf(tag, Value::Blob(bytes.to_vec())),
    })
}

fn below_path(capture: &Capture<'_>, path: PathId, trouble: Trouble) -> Trouble {
    trouble.below_keys(&capture.table.names.keys_of(path))
}

fn below_row(capture: &Capture<'_>, row: usize, trouble: Trouble) -> Trouble {
    trouble.below_key(capture.symbol(row))
}
