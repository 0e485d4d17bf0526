//! Native state -> Python objects.

use std::collections::HashMap;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::format::datetime::{self, Clock, Date, Delta, Zone};
use crate::format::decimal;
use crate::format::reader::Reader;
use crate::format::text::decimal_digits;
use crate::format::value::{Payload, Tag, is_blob, read_item, short_text, tag};
use crate::python::errors;
use crate::python::ffi::build::{ascii_str, set_item, surrogate_str};
use crate::python::ffi::gc_pause::GcPause;
use crate::python::ffi::types::Types;
use crate::state::schema::{Child, KeyId, Schema, Shape, ShapeId};
use crate::state::table::{Cell, Table};

/// What is kept between builds: one str a key, one object a zone.
#[derive(Default)]
pub(crate) struct ObjectCache {
    keys: Vec<Option<Py<PyAny>>>,
    zones: HashMap<Box<[u8]>, Py<PyAny>>,
}

impl ObjectCache {
    /// With these objects of keys: a dict finds the very objects that it has without a look at their text.
    pub(crate) fn with_keys<'a>(
        py: Python<'_>,
        known: impl Iterator<Item = (KeyId, &'a Py<PyAny>)>,
    ) -> ObjectCache {
        let mut keys: Vec<Option<Py<PyAny>>> = Vec::new();
        for (id, key) in known {
            let at = id as usize;
            if keys.len() <= at {
                keys.resize_with(at + 1, || None);
            }
            keys[at] = Some(key.clone_ref(py));
        }
        ObjectCache { keys, ..ObjectCache::default() }
    }

    pub(crate) fn forget_schema(&mut self) {
        self.keys.clear();
    }

    /// Shows the garbage collector what may be part of a cycle; str objects cannot.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.zones.values().try_for_each(|zone| visit.call(zone))
    }
}

const STRINGS: usize = 1024;
const MAX_ZONES: usize = 1024;

pub(crate) struct Builder<'a, 'py> {
    pub(crate) py: Python<'py>,
    types: &'py Types,
    table: &'a Table,
    objects: &'a mut ObjectCache,
    /// Strings made lately, by a hash of their cell: repeated values become one object.
    strings: Vec<Option<(Cell, Bound<'py, PyAny>)>>,
    pause: Option<GcPause>,
}

/// Where a dict stands in a shape.
#[derive(Clone, Copy)]
pub(crate) struct DictPlace {
    pub(crate) number: u32,
    /// The position of its first leaf.
    pub(crate) position: usize,
}

pub(crate) fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if bytes.is_ascii() { ascii_str(py, bytes) } else { surrogate_str(py, bytes) }
}

fn key_object(py: Python<'_>, bytes: &[u8]) -> PyResult<Py<PyAny>> {
    Ok(match std::str::from_utf8(bytes) {
        // CPython 3.12 never frees an interned str, whoever lets it go.
        Ok(key) if py.version_info().minor == 12 => PyString::new(py, key).into_any().unbind(),
        Ok(key) => PyString::intern(py, key).into_any().unbind(),
        Err(_) => surrogate_str(py, bytes)?.unbind(),
    })
}

impl<'a, 'py> Builder<'a, 'py> {
    pub(crate) fn new(py: Python<'py>, table: &'a Table, objects: &'a mut ObjectCache) -> PyResult<Self> {
        let types = Types::get(py)?;
        let mut strings = Vec::new();
        strings.resize_with(STRINGS, || None);
        Ok(Builder { py, types, table, objects, strings, pause: None })
    }

    /// Collects no garbage while it lives, except where Python code makes a value.
    pub(crate) fn without_gc(mut self) -> Self {
        self.pause = Some(GcPause::new(self.py));
        self
    }

    pub(crate) fn row(&mut self, at: usize) -> PyResult<Bound<'py, PyAny>> {
        let row = &self.table.rows[at];
        self.record(row.shape, &row.tags, &row.words)
    }

    pub(crate) fn record(
        &mut self,
        shape: ShapeId,
        tags: &[Tag],
        words: &[u64],
    ) -> PyResult<Bound<'py, PyAny>> {
        let shape = &self.table.schema.shapes[shape as usize];
        if shape.is_leaf() {
            return self.cell(Cell { tag: tags[0], word: words[0] });
        }
        let mut position = 0;
        self.dict(shape, 0, tags, words, &mut position)
    }

    /// A dict in the record of a row.
    pub(crate) fn row_dict(&mut self, at: usize, place: DictPlace) -> PyResult<Bound<'py, PyAny>> {
        let row = &self.table.rows[at];
        let shape = &self.table.schema.shapes[row.shape as usize];
        let mut position = place.position;
        self.dict(shape, place.number, &row.tags, &row.words, &mut position)
    }

    fn dict(
        &mut self,
        shape: &Shape,
        number: u32,
        tags: &[Tag],
        words: &[u64],
        position: &mut usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let dict = PyDict::new(self.py);
        for entry in shape.dict(number) {
            let value = match entry.child {
                Child::Dict(below) => self.dict(shape, below, tags, words, position)?,
                Child::Leaf => {
                    let at = *position;
                    *position += 1;
                    self.cell(Cell { tag: tags[at], word: words[at] })?
                }
            };
            set_item(&dict, self.key(entry.key)?, value)?;
        }
        Ok(dict.into_any())
    }

    pub(crate) fn key(&mut self, id: KeyId) -> PyResult<&Py<PyAny>> {
        let Builder { py, table, objects, .. } = self;
        cached_key(*py, &table.schema, objects, id)
    }

    #[inline]
    pub(crate) fn cell(&mut self, cell: Cell) -> PyResult<Bound<'py, PyAny>> {
        match cell.tag {
            tag::FLOAT => Ok(PyFloat::new(self.py, f64::from_bits(cell.word)).into_any()),
            tag::INT => Ok((cell.word as i64).into_pyobject(self.py)?.into_any()),
            tag::DIGITS | tag::SHORT | tag::TEXT => self.string(cell),
            _ if is_blob(cell.tag) => {
                let table = self.table;
                self.value(cell.tag, Payload::Bytes(table.pool.get(cell.word)))
            }
            _ => self.value(cell.tag, Payload::Fixed64(cell.word)),
        }
    }

    fn string(&mut self, cell: Cell) -> PyResult<Bound<'py, PyAny>> {
        let mixed = (cell.word ^ u64::from(cell.tag) << 56).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let slot = (mixed >> 54) as usize % STRINGS;
        if let Some((known, made)) = &self.strings[slot]
            && *known == cell
        {
            return Ok(made.clone());
        }
        let made = match cell.tag {
            tag::TEXT => text(self.py, self.table.pool.get(cell.word))?,
            _ => self.value(cell.tag, Payload::Fixed64(cell.word))?,
        };
        self.strings[slot] = Some((cell, made.clone()));
        Ok(made)
    }

    fn value(&mut self, tag: Tag, payload: Payload<'_>) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        Ok(match (tag, payload) {
            (tag::NONE, _) => py.None().into_bound(py),
            (tag::FALSE, _) => PyBool::new(py, false).to_owned().into_any(),
            (tag::TRUE, _) => PyBool::new(py, true).to_owned().into_any(),
            (tag::EMPTY, _) => PyDict::new(py).into_any(),
            (tag::INT, Payload::Fixed64(word)) => (word as i64).into_pyobject(py)?.into_any(),
            (tag::FLOAT, Payload::Fixed64(word)) => PyFloat::new(py, f64::from_bits(word)).into_any(),
            (tag::DIGITS, Payload::Fixed64(word)) => ascii_str(py, decimal_digits(word, &mut [0; 20]))?,
            (tag::SHORT, Payload::Fixed64(word)) => {
                let (bytes, n) = short_text(word);
                text(py, &bytes[..n])?
            }
            (tag::DATE, Payload::Fixed64(word)) => {
                let Date { year, month, day } = Date::from_word(word);
                self.types.date_type.bind(py).call1((year, month, day))?
            }
            (tag::DATETIME, Payload::Fixed64(word)) => self.datetime(word, 0, py.None().into_bound(py))?,
            (tag::DATETIME_UTC, Payload::Fixed64(word)) => {
                self.datetime(word, 0, self.types.utc_object.bind(py).clone())?
            }
            (tag::DECIMAL | tag::DECIMAL_OTHER, payload) => {
                let Some(text) = decimal::text(payload) else {
                    return Err(errors::corrupt(py, "a Decimal is not in its canonical form"));
                };
                self.types.decimal_type.bind(py).call1((text,))?
            }
            (_, Payload::Bytes(blob)) => self.blob(tag, blob)?,
            _ => return Err(errors::corrupt(py, "a tag without its payload")),
        })
    }

    fn blob(&mut self, tag: Tag, blob: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        Ok(match tag {
            tag::TEXT => text(py, blob)?,
            tag::BYTES => PyBytes::new(py, blob).into_any(),
            tag::BIG_INT => {
                let signed = PyDict::new(py);
                signed.set_item("signed", true)?;
                let arguments = (PyBytes::new(py, blob), "little");
                py.get_type::<PyInt>().call_method("from_bytes", arguments, Some(&signed))?
            }
            tag::LIST => PyList::new(py, self.items(blob)?)?.into_any(),
            tag::TUPLE => PyTuple::new(py, self.items(blob)?)?.into_any(),
            tag::DICT => self.inner_dict(blob)?,
            tag::DATETIME_ZONED => {
                let (microseconds, fold, zone) =
                    datetime::read_stamp(blob).map_err(|e| errors::core(py, &e))?;
                let zone = self.zone(zone)?;
                self.datetime(microseconds, fold, zone)?
            }
            tag::TIME => {
                let (microseconds, fold, zone) =
                    datetime::read_stamp(blob).map_err(|e| errors::core(py, &e))?;
                let zone = self.zone(zone)?;
                let Clock { hour, minute, second, microsecond } = datetime::time_fields(microseconds);
                let named = PyDict::new(py);
                named.set_item("fold", fold)?;
                let fields = (hour, minute, second, microsecond, zone);
                self.types.time_type.bind(py).call(fields, Some(&named))?
            }
            tag::TIMEDELTA => {
                let delta = Delta::read(&mut Reader::new(blob)).map_err(|e| errors::core(py, &e))?;
                self.delta(delta)?
            }
            tag::UUID => {
                let named = PyDict::new(py);
                named.set_item("bytes", PyBytes::new(py, blob))?;
                let class = self.types.uuid_type.bind(py);
                run_python(py, &mut self.pause, || class.call((), Some(&named)))?
            }
            _ => return Err(errors::corrupt(py, "a blob of an unknown tag")),
        })
    }

    fn items(&mut self, blob: &[u8]) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let py = self.py;
        let mut r = Reader::new(blob);
        let n = r.count("items").map_err(|e| errors::core(py, &e))?;
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            let (tag, payload) = read_item(&mut r).map_err(|e| errors::core(py, &e))?;
            items.push(self.value(tag, payload)?);
        }
        Ok(items)
    }

    fn inner_dict(&mut self, blob: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let dict = PyDict::new(py);
        let mut r = Reader::new(blob);
        let n = r.count("items").map_err(|e| errors::core(py, &e))?;
        for _ in 0..n {
            let key = key_object(py, r.text().map_err(|e| errors::core(py, &e))?)?;
            let (tag, payload) = read_item(&mut r).map_err(|e| errors::core(py, &e))?;
            let value = self.value(tag, payload)?;
            set_item(&dict, &key, value)?;
        }
        Ok(dict.into_any())
    }

    fn datetime(&self, word: u64, fold: u8, zone: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (date, clock) = datetime::datetime_fields(word);
        let Clock { hour, minute, second, microsecond } = clock;
        let fields = (date.year, date.month, date.day, hour, minute, second, microsecond, zone);
        if fold == 0 {
            return self.types.datetime_type.bind(self.py).call1(fields);
        }
        let named = PyDict::new(self.py);
        named.set_item("fold", fold)?;
        self.types.datetime_type.bind(self.py).call(fields, Some(&named))
    }

    fn delta(&self, delta: Delta) -> PyResult<Bound<'py, PyAny>> {
        let fields = (delta.days, delta.seconds, delta.microseconds);
        self.types.timedelta_type.bind(self.py).call1(fields)
    }

    fn zone(&mut self, zone: Zone<'_>) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        Ok(match zone {
            Zone::None => py.None().into_bound(py),
            Zone::Utc => self.types.utc_object.bind(py).clone(),
            Zone::Offset(delta) => self.types.timezone_type.bind(py).call1((self.delta(delta)?,))?,
            Zone::Named(delta, name) => {
                let arguments = (self.delta(delta)?, text(py, name)?);
                self.types.timezone_type.bind(py).call1(arguments)?
            }
            Zone::Key(key) => self.zone_info(key)?,
        })
    }

    fn zone_info(&mut self, key: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let Builder { py, types, objects, pause, .. } = self;
        let (py, zones) = (*py, &mut objects.zones);
        if let Some(zone) = zones.get(key) {
            return Ok(zone.bind(py).clone());
        }
        run_python(py, pause, || {
            let made = types.zone_info.bind(py).call1((text(py, key)?,));
            let zone = made.map_err(|e| errors::unknown_zone(py, &String::from_utf8_lossy(key), e))?;
            if zones.len() >= MAX_ZONES {
                zones.clear();
            }
            zones.insert(key.into(), zone.clone().unbind());
            Ok(zone)
        })
    }
}

/// Python code lets other threads run, which must not see the pause.
fn run_python<T>(py: Python<'_>, pause: &mut Option<GcPause>, code: impl FnOnce() -> T) -> T {
    match pause {
        Some(pause) => pause.lifted(py, code),
        None => code(),
    }
}

fn cached_key<'k>(
    py: Python<'_>,
    schema: &Schema,
    objects: &'k mut ObjectCache,
    id: KeyId,
) -> PyResult<&'k Py<PyAny>> {
    let id = id as usize;
    if objects.keys.len() <= id {
        objects.keys.resize_with(schema.keys.len().max(id + 1), || None);
    }
    let slot = &mut objects.keys[id];
    match slot {
        Some(key) => Ok(key),
        None => Ok(slot.insert(key_object(py, &schema.keys[id])?)),
    }
}
