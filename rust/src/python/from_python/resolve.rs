//! Values that need Python code to be read: noted during a walk, resolved after it.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};

use crate::format::datetime::{self, Delta};
use crate::format::decimal;
use crate::format::value::{Payload, Tag, tag, trim_big_int, write_inline};
use crate::format::writer::Writer;
use crate::python::convert_error::{ConvertError, ConvertResult};
use crate::python::ffi::object::{Dict, Obj, ObjectView, Pair, Str, Walk};
use crate::python::ffi::types::{ClassKind, Types};
use crate::python::from_python::cache::{ConversionCache, Value};
use crate::python::from_python::capture::Capture;
use crate::python::from_python::deferred::{
    DeferredCell, DeferredItem, DeferredRecord, DeferredValue, RecordItem,
};
use crate::python::from_python::scalars::{self, is_scalar};
use crate::state::schema::PathId;

/// How often one value may be converted, before it is taken for an endless chain.
const MAX_CONVERSIONS: usize = 64;

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
        let value = word.map_or(Value::Bytes(w.bytes), Value::Fixed64);
        Resolved::Leaf { tag, value, converted }
    }
}

pub(crate) struct Resolver<'a, 'py> {
    pub(crate) py: Python<'py>,
    pub(crate) types: &'py Types,
    pub(crate) default: Option<&'a Bound<'py, PyAny>>,
}

impl<'py> Resolver<'_, 'py> {
    /// Resolves all that a walk left open.
    pub(crate) fn resolve(&self, capture: &mut Capture<'_>) -> ConvertResult<()> {
        for deferred in std::mem::take(&mut capture.deferred_cells) {
            let row = deferred.row;
            self.deferred_cell(capture, deferred).map_err(|error| below_row(capture, row, error))?;
        }
        for DeferredRecord { row, owner, items } in std::mem::take(&mut capture.deferred_records) {
            let mut cells = Vec::with_capacity(items.len());
            self.expand(capture, row, items, &mut cells)
                .and_then(|()| capture.add_record(owner, &cells))
                .map_err(|error| below_row(capture, row, error))?;
        }
        Ok(())
    }

    fn deferred_cell(&self, capture: &mut Capture<'_>, deferred: DeferredCell) -> ConvertResult<()> {
        let DeferredCell { row, place, path, value } = deferred;
        let depth = capture.table.schema.paths[path as usize].depth;
        let resolved = self.resolve_value(value, capture.cache, depth);
        match resolved.map_err(|error| below_path(capture, path, error))? {
            Resolved::Leaf { tag, value, converted } => {
                capture.exact_types[row] &= !converted;
                let cell = capture.intern(tag, value.payload());
                capture.fill(&place, path, cell);
                Ok(())
            }
            // a leaf class does not turn into a dict
            Resolved::Dict(_) => {
                Err(below_path(capture, path, ConvertError::unsupported("it became a dict")))
            }
        }
    }

    /// Items with deferred items -> cells, dicts that turned up taken apart.
    fn expand(
        &self,
        capture: &mut Capture<'_>,
        row: usize,
        items: Vec<RecordItem>,
        cells: &mut Vec<(PathId, crate::state::table::Cell)>,
    ) -> ConvertResult<()> {
        for item in items {
            let (path, value) = match item {
                RecordItem::Cell(path, cell) => {
                    cells.push((path, cell));
                    continue;
                }
                RecordItem::Deferred(path, value) => (path, value),
            };
            let depth = capture.table.schema.paths[path as usize].depth;
            let resolved = self.resolve_value(value, capture.cache, depth);
            match resolved.map_err(|error| below_path(capture, path, error))? {
                Resolved::Leaf { tag, value, converted } => {
                    capture.exact_types[row] &= !converted;
                    let cell = capture.intern(tag, value.payload());
                    cells.push((path, cell));
                }
                Resolved::Dict(dict) => {
                    capture.exact_types[row] = false;
                    let mut below = Vec::new();
                    {
                        let walk = Walk::new(self.py, self.types);
                        let root = walk.root(dict.as_any());
                        if let Some(dict) = Dict::of(root, self.types) {
                            capture
                                .leaves(&walk, dict, path, &mut below)
                                .map_err(|error| below_path(capture, path, error))?;
                        }
                    }
                    self.expand(capture, row, below, cells)?;
                }
            }
        }
        Ok(())
    }

    fn resolve_value(
        &self,
        value: DeferredValue,
        cache: &mut ConversionCache,
        depth: usize,
    ) -> ConvertResult<Resolved<'py>> {
        match value {
            DeferredValue::Object { object, .. } => self.object(object.into_bound(self.py), cache, depth),
            DeferredValue::Sequence { tag, bytes, items } => self.sequence(tag, bytes, items, cache),
        }
    }

    /// A list or tuple in which some items were left open.
    fn sequence(
        &self,
        tag: Tag,
        bytes: Vec<u8>,
        items: Vec<DeferredItem>,
        cache: &mut ConversionCache,
    ) -> ConvertResult<Resolved<'py>> {
        let (bytes, converted) = self.fill_items(bytes, items, cache)?;
        Ok(Resolved::Leaf { tag, value: Value::Bytes(bytes), converted })
    }

    /// The bytes with the items in them, and if one of these is built back as another type.
    fn fill_items(
        &self,
        bytes: Vec<u8>,
        items: Vec<DeferredItem>,
        cache: &mut ConversionCache,
    ) -> ConvertResult<(Vec<u8>, bool)> {
        let mut filled = Writer::default();
        let (mut done, mut converted) = (0, false);
        for DeferredItem { at, depth, trail, value } in items {
            filled.raw(&bytes[done..at]);
            done = at;
            let placed = self.write_inline_value(value, &mut filled, cache, depth);
            converted |= placed.map_err(|error| trail.into_iter().fold(error, ConvertError::below))?;
        }
        filled.raw(&bytes[done..]);
        Ok((filled.bytes, converted))
    }

    /// True if it is built back as another type.
    fn write_inline_value(
        &self,
        value: DeferredValue,
        w: &mut Writer,
        cache: &mut ConversionCache,
        depth: usize,
    ) -> ConvertResult<bool> {
        match self.resolve_value(value, cache, depth)? {
            Resolved::Leaf { tag, value, converted } => {
                write_inline(w, tag, value.payload());
                Ok(converted)
            }
            Resolved::Dict(dict) => {
                let mut bytes = Writer::default();
                let items = {
                    let walk = Walk::new(self.py, self.types);
                    scalars::write_value(&walk, walk.root(dict.as_any()), &mut bytes, cache, depth)?
                };
                w.raw(&self.fill_items(bytes.bytes, items, cache)?.0);
                Ok(true)
            }
        }
    }

    /// Converts until it is a value that can be carried.
    fn object(
        &self,
        first: Bound<'py, PyAny>,
        cache: &mut ConversionCache,
        depth: usize,
    ) -> ConvertResult<Resolved<'py>> {
        let mut object = first.clone();
        for conversions in 0..MAX_CONVERSIONS {
            if let Some(mut resolved) = self.builtin(&object, cache, depth)? {
                if let Resolved::Leaf { tag, value, converted } = &mut resolved {
                    *converted |= conversions > 0;
                    // one that may change is read each time
                    let immutable = conversions == 1 && ![tag::LIST, tag::TUPLE, tag::EMPTY].contains(tag);
                    if immutable && first.is_instance(self.types.enum_type.bind(self.py))? {
                        cache.add_enum(&first, &object, *tag, value.clone());
                    }
                }
                return Ok(resolved);
            }
            object = self.convert(&object, cache)?;
        }
        Err(ConvertError::unsupported(format!(
            "{} was converted {MAX_CONVERSIONS} times and is still not supported",
            first.get_type().name()?
        )))
    }

    /// What an object is that needs no conversion by its class.
    fn builtin(
        &self,
        object: &Bound<'py, PyAny>,
        cache: &mut ConversionCache,
        depth: usize,
    ) -> ConvertResult<Option<Resolved<'py>>> {
        self.add_zone_of(object, cache)?;
        let mut w = Writer::default();
        let sequence = {
            let walk = Walk::new(self.py, self.types);
            let root = walk.root(object);
            match root.view(self.types) {
                ObjectView::Str(text) => {
                    let mut buffer = Vec::new();
                    return Ok(Some(text_leaf(text, &mut buffer)?));
                }
                ObjectView::Dict(dict) if dict.len() > 0 => {
                    return Ok(Some(Resolved::Dict(
                        object.clone().cast_into::<PyDict>().map_err(PyErr::from)?,
                    )));
                }
                ObjectView::Dict(_) => return Ok(Some(Resolved::leaf(tag::EMPTY, Value::Fixed64(0)))),
                ObjectView::List(items) => {
                    Some((tag::LIST, scalars::write(&walk, items, &mut w, cache, depth + 1)?))
                }
                ObjectView::Tuple(items) => {
                    Some((tag::TUPLE, scalars::write(&walk, items, &mut w, cache, depth + 1)?))
                }
                view => {
                    if let Some(scalar) = scalars::scalar(&view, &mut w, cache) {
                        return Ok(Some(Resolved::scalar(scalar, w, false)));
                    }
                    if let Some(scalar) = scalars::in_converted_zone(&view, &mut w, cache) {
                        return Ok(Some(Resolved::scalar(scalar, w, true)));
                    }
                    None
                }
            }
        };
        if let Some((tag, items)) = sequence {
            return Ok(Some(self.sequence(tag, w.bytes, items, cache)?));
        }
        self.number(object)
    }

    /// Big ints, Decimals and UUIDs.
    fn number(&self, object: &Bound<'py, PyAny>) -> ConvertResult<Option<Resolved<'py>>> {
        let class = object.get_type().as_ptr() as usize;
        if class == self.types.int {
            let bits: usize = object.call_method0("bit_length")?.extract()?;
            let signed = PyDict::new(self.py);
            signed.set_item("signed", true)?;
            let bytes = object.call_method("to_bytes", (bits / 8 + 1, "little"), Some(&signed))?;
            let bytes: Vec<u8> = bytes.extract()?;
            return Ok(Some(Resolved::leaf(tag::BIG_INT, Value::Bytes(trim_big_int(&bytes).to_vec()))));
        }
        if class == self.types.decimal {
            let text = object.str()?;
            let mut buffer = Writer::default();
            let Some((tag, payload)) = decimal::parse(text.to_str()?, &mut buffer) else {
                return Err(ConvertError::unsupported(format!("a Decimal in the unknown form {text}")));
            };
            let value = match payload {
                Payload::Fixed64(word) => Value::Fixed64(word),
                Payload::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
            };
            return Ok(Some(Resolved::leaf(tag, value)));
        }
        if class == self.types.uuid {
            let bytes: Vec<u8> = object.getattr("bytes")?.extract()?;
            return Ok(Some(Resolved::leaf(tag::UUID, Value::Bytes(bytes))));
        }
        Ok(None)
    }

    fn convert(
        &self,
        object: &Bound<'py, PyAny>,
        cache: &mut ConversionCache,
    ) -> ConvertResult<Bound<'py, PyAny>> {
        let class = object.get_type();
        let (kind, helper) = cache.classes.get(&class, self.types)?;
        let helper = helper.map(|helper| helper.into_bound(self.py));
        let read = match (kind, helper) {
            (ClassKind::Enum, _) => object.getattr("_value_"),
            (ClassKind::NumpyScalar, _) => object.call_method0("item"),
            (ClassKind::Dict, _) => self.py.get_type::<PyDict>().call1((object,)),
            (ClassKind::Record, Some(reader)) => reader.call1((object,)),
            (ClassKind::Model, Some(plain)) => match self.fields_in_place(object, &plain, cache)? {
                Some(fields) => Ok(fields),
                None => object.call_method0("model_dump"),
            },
            _ => return self.by_default(object, &class),
        };
        read.map_err(|error| match class.name() {
            Ok(name) => ConvertError::raised(error, format!("{name} could not be read")),
            Err(nameless) => nameless.into(),
        })
    }

    fn by_default(
        &self,
        object: &Bound<'py, PyAny>,
        class: &Bound<'py, PyType>,
    ) -> ConvertResult<Bound<'py, PyAny>> {
        let mut name = class.name()?.to_string();
        if self.is_moment(class) {
            let zone = object.getattr("tzinfo")?.get_type();
            name = format!("{name} with a time zone of class {}", zone.name()?);
        }
        match self.default {
            Some(default) => default.call1((object,)).map_err(|error| {
                ConvertError::raised(error, format!("{name} is not supported, and default= raised"))
            }),
            None => Err(ConvertError::unsupported(format!(
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
        cache: &ConversionCache,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (serializer, names) = (plain.get_item(0)?, plain.get_item(1)?);
        if !model.get_type().getattr("__pydantic_serializer__")?.is(&serializer) {
            return Ok(None);
        }
        let fields = model.getattr("__dict__")?;
        let exact = {
            let walk = Walk::new(self.py, self.types);
            match (walk.root(&fields).view(self.types), walk.root(&names).view(self.types)) {
                (ObjectView::Dict(dict), ObjectView::Tuple(names)) => {
                    let names = names.items();
                    let mut exact = dict.len() == names.len();
                    for (Pair { key, value }, name) in dict.items().zip(names) {
                        exact =
                            exact && same_str(key, name, self.types)? && is_scalar(value, self.types, cache);
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
    fn add_zone_of(&self, object: &Bound<'py, PyAny>, cache: &mut ConversionCache) -> ConvertResult<()> {
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
        } else if cache.classes.get(&zone.get_type(), self.types)?.0 == ClassKind::Zone {
            converted = true;
            let offset = self.delta(&zone.call_method1("utcoffset", (self.py.None(),))?)?;
            fixed_zone(offset).write(&mut w);
        } else {
            return Ok(());
        }
        cache.add_zone(&zone, &w.bytes, converted);
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

fn text_leaf<'py>(text: Str<'_>, buffer: &mut Vec<u8>) -> PyResult<Resolved<'py>> {
    Ok(match crate::format::value::text_cell(text.text(buffer)?) {
        (tag, Payload::Fixed64(word)) => Resolved::leaf(tag, Value::Fixed64(word)),
        (tag, Payload::Bytes(bytes)) => Resolved::leaf(tag, Value::Bytes(bytes.to_vec())),
    })
}

fn below_path(capture: &Capture<'_>, path: PathId, error: ConvertError) -> ConvertError {
    error.below_keys(&capture.table.schema.keys_of(path))
}

fn below_row(capture: &Capture<'_>, row: usize, error: ConvertError) -> ConvertError {
    error.below_key(capture.symbol(row))
}
