//! Reads Python objects in place during a walk. Only the files of this folder use `unsafe`.
//!
//! What makes it sound: a `Walk` is held with the GIL, by code that runs no Python code, drops no reference and starts
//! no garbage collection while it lives (collection is switched off, nothing here is collectable). So no dict, list or
//! value that is reachable from a live object can change or go away, and every `Obj<'w>` stays valid for `'w`.
//! What an object is, is told by its exact type pointer alone.

#![allow(unsafe_code)]

use std::borrow::Cow;
use std::marker::PhantomData;
use std::os::raw::c_int;
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::format::datetime::{Clock, Date, Delta};
use crate::format::tag::{Tag, tag};
use crate::python::convert_error::ConvertError;
use crate::python::ffi::dict::{self, DictEntry, HashedEntry};
use crate::python::ffi::gc_pause::GcPause;
use crate::python::ffi::int;
use crate::python::ffi::prefetch::{prefetch, prefetch_range};
use crate::python::ffi::types::Types;

/// A walk over the objects below a root. While it lives no Python code runs.
pub(crate) struct Walk<'py> {
    pub(crate) types: &'py Types,
    py: Python<'py>,
    _pause: GcPause,
}

impl<'py> Walk<'py> {
    pub(crate) fn new(py: Python<'py>, types: &'py Types) -> Self {
        Walk { types, py, _pause: GcPause::new(py) }
    }

    /// The root is kept alive by the caller for as long as the walk lives.
    pub(crate) fn root<'w>(&'w self, object: &'w Bound<'py, PyAny>) -> Obj<'w> {
        Obj { pointer: object.as_ptr(), walk: PhantomData }
    }
}

/// A borrowed object.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Obj<'w> {
    pointer: *mut ffi::PyObject,
    walk: PhantomData<&'w ()>,
}

/// What an object is, by its exact type.
pub(crate) enum ObjectView<'w> {
    None,
    False,
    True,
    Float(f64),
    Int(i64),
    BigInt,
    Str(Str<'w>),
    Dict(Dict<'w>),
    List(Sequence<'w>),
    Tuple(Sequence<'w>),
    Bytes(&'w [u8]),
    Date(Date),
    DateTime(Date, Clock, u8, ZoneView<'w>),
    Time(Clock, u8, ZoneView<'w>),
    TimeDelta(Delta),
    /// Anything else; resolved after the walk.
    NeedsPython,
}

pub(crate) enum ZoneView<'w> {
    None,
    Utc,
    Other(Obj<'w>),
}

impl<'w> Obj<'w> {
    #[inline(always)]
    pub(crate) fn address(self) -> usize {
        self.pointer as usize
    }

    #[inline(always)]
    pub(crate) fn type_address(self) -> usize {
        // SAFETY: the object is alive (Walk)
        unsafe { ffi::Py_TYPE(self.pointer) as usize }
    }

    /// A strong reference, which may outlive the walk.
    pub(crate) fn to_owned(self, walk: &Walk<'_>) -> Py<PyAny> {
        // SAFETY: the object is alive (Walk) and the GIL is held
        unsafe { Bound::from_borrowed_ptr(walk.py, self.pointer) }.unbind()
    }

    /// The error for a key, or symbol, of another class than str.
    pub(crate) fn refused_key(self, kind: &str, walk: &Walk<'_>) -> ConvertError {
        let key = self.to_owned(walk);
        let class = key.bind(walk.py).get_type();
        let name = class.name().map_or_else(|_| "another class".into(), |name| name.to_string());
        ConvertError::other_key(kind, key, &name)
    }

    /// The `__dict__` of an instance of a class that was found to keep one.
    pub(crate) fn instance_dict(self, types: &Types) -> Option<Dict<'w>> {
        // SAFETY: the object is alive. The instance holds its dict as well, so that letting go of it frees nothing; one
        // that is made here for the first time starts no collection, as that is switched off (Walk)
        let pointer = unsafe {
            let pointer = ffi::PyObject_GenericGetDict(self.pointer, null_mut());
            if pointer.is_null() {
                ffi::PyErr_Clear();
                return None;
            }
            ffi::Py_DECREF(pointer);
            pointer
        };
        Dict::of(Obj { pointer, walk: PhantomData }, types)
    }

    /// What is in a slot of an instance, if there is something; `slot_offset` gave the offset for its exact class.
    #[inline(always)]
    pub(crate) fn slot(self, offset: isize) -> Option<Obj<'w>> {
        // SAFETY: an instance of the class has a pointer at this offset, and holds the object that it points to
        let pointer = unsafe { *self.pointer.cast::<u8>().offset(offset).cast::<*mut ffi::PyObject>() };
        (!pointer.is_null()).then_some(Obj { pointer, walk: PhantomData })
    }

    /// Brings the head of the object into the cache.
    #[inline(always)]
    pub(crate) fn prefetch(self) {
        prefetch(self.pointer.cast());
        // half of all floats, and most texts, reach into a second line
        prefetch(self.pointer.cast::<u8>().wrapping_add(VALUE_OFFSET));
    }

    /// Brings the table of keys and values into the cache, if it is a dict.
    #[inline(always)]
    pub(crate) fn prefetch_table(self, types: &Types) {
        if let Some(dict) = Dict::of(self, types) {
            dict.prefetch_table();
        }
    }

    /// Brings the items of a list into the cache, if it is one.
    #[inline(always)]
    pub(crate) fn prefetch_items(self, types: &Types) {
        if self.type_address() == types.list {
            // SAFETY: read only of an exact list
            let items = unsafe { (*self.pointer.cast::<ffi::PyListObject>()).ob_item };
            prefetch(items.cast());
        }
    }

    /// The value, if it is exactly a float.
    #[inline(always)]
    pub(crate) fn float(self, types: &Types) -> Option<f64> {
        // SAFETY: read only of an exact float
        (self.type_address() == types.float).then(|| unsafe { ffi::PyFloat_AS_DOUBLE(self.pointer) })
    }

    /// The value, if it is exactly an int that can be read in place.
    #[inline(always)]
    pub(crate) fn small_int(self, types: &Types) -> Option<i64> {
        if self.type_address() != types.int {
            return None;
        }
        // SAFETY: exactly an int; the layout is what `check` has returned
        unsafe { int::small(self.pointer, types.int_layout) }
    }

    #[inline(always)]
    pub(crate) fn view(self, types: &Types) -> ObjectView<'w> {
        let kind = self.type_address();
        if kind == types.float {
            // SAFETY: exactly a float
            return ObjectView::Float(unsafe { ffi::PyFloat_AS_DOUBLE(self.pointer) });
        }
        if kind == types.int {
            return self.int(types);
        }
        if kind == types.str {
            return ObjectView::Str(Str(self));
        }
        if kind == types.dict {
            return ObjectView::Dict(Dict(self));
        }
        if kind == types.none {
            return ObjectView::None;
        }
        if kind == types.bool {
            // SAFETY: Py_True is immortal
            let is_true = self.pointer == unsafe { ffi::Py_True() };
            return if is_true { ObjectView::True } else { ObjectView::False };
        }
        self.slow_path(kind, types)
    }

    #[inline(always)]
    fn int(self, types: &Types) -> ObjectView<'w> {
        // SAFETY: exactly an int; the layout is what `check` has returned
        match unsafe { int::small(self.pointer, types.int_layout) } {
            Some(value) => ObjectView::Int(value),
            None => self.large_int(),
        }
    }

    #[inline(never)]
    fn large_int(self) -> ObjectView<'w> {
        // SAFETY: exactly an int, which this call only reads
        let (value, overflow) = unsafe {
            let mut overflow: c_int = 0;
            let value = ffi::PyLong_AsLongLongAndOverflow(self.pointer, &raw mut overflow);
            (value, overflow)
        };
        if overflow == 0 { ObjectView::Int(value) } else { ObjectView::BigInt }
    }

    #[inline(never)]
    fn slow_path(self, kind: usize, types: &Types) -> ObjectView<'w> {
        let at = self.pointer;
        if let Some(items) = Sequence::of(self, types) {
            if items.list { ObjectView::List(items) } else { ObjectView::Tuple(items) }
        } else if kind == types.bytes {
            // SAFETY: exactly bytes: immutable, and alive for 'w
            ObjectView::Bytes(unsafe {
                std::slice::from_raw_parts(ffi::PyBytes_AS_STRING(at).cast(), ffi::PyBytes_Size(at) as usize)
            })
        } else {
            self.moment(kind, types)
        }
    }

    /// Dates and times.
    fn moment(self, kind: usize, types: &Types) -> ObjectView<'w> {
        let at = self.pointer;
        if kind == types.datetime {
            // SAFETY: exactly a datetime
            let (clock, fold, zone) = unsafe {
                let clock = Clock {
                    hour: ffi::PyDateTime_DATE_GET_HOUR(at) as u8,
                    minute: ffi::PyDateTime_DATE_GET_MINUTE(at) as u8,
                    second: ffi::PyDateTime_DATE_GET_SECOND(at) as u8,
                    microsecond: ffi::PyDateTime_DATE_GET_MICROSECOND(at) as u32,
                };
                (clock, ffi::PyDateTime_DATE_GET_FOLD(at), ffi::PyDateTime_DATE_GET_TZINFO(at))
            };
            ObjectView::DateTime(self.date(), clock, fold, self.zone(zone, types))
        } else if kind == types.date {
            ObjectView::Date(self.date())
        } else if kind == types.time {
            // SAFETY: exactly a time
            let (clock, fold, zone) = unsafe {
                let clock = Clock {
                    hour: ffi::PyDateTime_TIME_GET_HOUR(at) as u8,
                    minute: ffi::PyDateTime_TIME_GET_MINUTE(at) as u8,
                    second: ffi::PyDateTime_TIME_GET_SECOND(at) as u8,
                    microsecond: ffi::PyDateTime_TIME_GET_MICROSECOND(at) as u32,
                };
                (clock, ffi::PyDateTime_TIME_GET_FOLD(at), ffi::PyDateTime_TIME_GET_TZINFO(at))
            };
            ObjectView::Time(clock, fold, self.zone(zone, types))
        } else if kind == types.timedelta {
            // SAFETY: exactly a timedelta
            ObjectView::TimeDelta(unsafe {
                Delta {
                    days: ffi::PyDateTime_DELTA_GET_DAYS(at),
                    seconds: ffi::PyDateTime_DELTA_GET_SECONDS(at) as u32,
                    microseconds: ffi::PyDateTime_DELTA_GET_MICROSECONDS(at) as u32,
                }
            })
        } else {
            ObjectView::NeedsPython
        }
    }

    fn date(self) -> Date {
        // SAFETY: called for exact dates and datetimes, which share these fields
        unsafe {
            Date {
                year: ffi::PyDateTime_GET_YEAR(self.pointer) as u16,
                month: ffi::PyDateTime_GET_MONTH(self.pointer) as u8,
                day: ffi::PyDateTime_GET_DAY(self.pointer) as u8,
            }
        }
    }

    fn zone(self, pointer: *mut ffi::PyObject, types: &Types) -> ZoneView<'w> {
        // SAFETY: None is immortal
        if pointer == unsafe { ffi::Py_None() } {
            ZoneView::None
        } else if pointer as usize == types.utc {
            ZoneView::Utc
        } else {
            ZoneView::Other(Obj { pointer, walk: PhantomData })
        }
    }
}

/// An exact str.
#[derive(Clone, Copy)]
pub(crate) struct Str<'w>(Obj<'w>);

impl<'w> Str<'w> {
    pub(crate) fn of(object: Obj<'w>, types: &Types) -> Option<Str<'w>> {
        (object.type_address() == types.str).then_some(Str(object))
    }

    /// The text in place, if it is ASCII.
    #[inline(always)]
    pub(crate) fn ascii(self) -> Option<&'w [u8]> {
        let at = self.0.pointer;
        // SAFETY: exactly a str; a compact ASCII one has its bytes behind its head, for as long as it lives
        unsafe {
            (ffi::PyUnicode_IS_COMPACT_ASCII(at) != 0).then(|| {
                let length = ffi::PyUnicode_GET_LENGTH(at) as usize;
                std::slice::from_raw_parts(ffi::PyUnicode_DATA(at).cast::<u8>(), length)
            })
        }
    }

    /// The text as UTF-8 with surrogates as they are: in place, or written to the buffer.
    #[inline(always)]
    pub(crate) fn text<'b>(self, buffer: &'b mut Vec<u8>) -> PyResult<&'b [u8]>
    where
        'w: 'b,
    {
        match self.ascii() {
            Some(text) => Ok(text),
            None => {
                buffer.clear();
                self.encode(buffer)?;
                Ok(buffer)
            }
        }
    }

    #[inline(never)]
    fn encode(self, buffer: &mut Vec<u8>) -> PyResult<()> {
        let at = self.0.pointer;
        // SAFETY: exactly a str. Making an old-style one ready (3.11) changes its own memory only; after
        // that it has `length` units of 1, 2 or 4 bytes
        unsafe {
            if ffi::PyUnicode_READY(at) != 0 {
                return Err(Python::attach(PyErr::fetch));
            }
            let length = ffi::PyUnicode_GET_LENGTH(at) as usize;
            let data = ffi::PyUnicode_DATA(at);
            match ffi::PyUnicode_KIND(at) {
                1 => std::slice::from_raw_parts(data.cast::<u8>(), length)
                    .iter()
                    .for_each(|c| push_code_point(buffer, u32::from(*c))),
                2 => std::slice::from_raw_parts(data.cast::<u16>(), length)
                    .iter()
                    .for_each(|c| push_code_point(buffer, u32::from(*c))),
                _ => std::slice::from_raw_parts(data.cast::<u32>(), length)
                    .iter()
                    .for_each(|c| push_code_point(buffer, *c)),
            }
        }
        Ok(())
    }
}

/// A code point as UTF-8, also of a surrogate.
pub(crate) fn push_code_point(buffer: &mut Vec<u8>, c: u32) {
    let tail = |shift: u32| (c >> shift & 0x3F) as u8 | 0x80;
    match c {
        0..=0x7F => buffer.push(c as u8),
        0x80..=0x7FF => buffer.extend([(c >> 6) as u8 | 0xC0, tail(0)]),
        0x800..=0xFFFF => buffer.extend([(c >> 12) as u8 | 0xE0, tail(6), tail(0)]),
        _ => buffer.extend([(c >> 18) as u8 | 0xF0, tail(12), tail(6), tail(0)]),
    }
}

/// An exact dict.
#[derive(Clone, Copy)]
pub(crate) struct Dict<'w>(Obj<'w>);

impl<'w> Dict<'w> {
    pub(crate) fn of(object: Obj<'w>, types: &Types) -> Option<Dict<'w>> {
        (object.type_address() == types.dict).then_some(Dict(object))
    }

    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        // SAFETY: exactly a dict
        unsafe { (*self.0.pointer.cast::<ffi::PyDictObject>()).ma_used as usize }
    }

    pub(crate) fn object(self) -> Obj<'w> {
        self.0
    }

    #[inline(always)]
    pub(crate) fn items(self) -> Items<'w> {
        Items { dict: self.0, position: 0 }
    }

    /// Keys and values, where they stand if the dict's layout is known.
    pub(crate) fn pairs(self, types: &Types) -> Cow<'w, [Pair<'w>]> {
        match self.entries(types) {
            Some(Entries::Plain(entries)) => Cow::Borrowed(entries),
            Some(Entries::Hashed(entries)) => entries.iter().map(|entry| entry.pair).collect(),
            None => self.items().collect(),
        }
    }

    /// Keys and values where they stand, if the dict's layout is known.
    #[inline(always)]
    pub(crate) fn entries(self, types: &Types) -> Option<Entries<'w>> {
        if !types.dicts_in_place {
            return None;
        }
        // SAFETY: exactly a dict, unchanged during the walk; `dicts_in_place` is what `check` has returned. A Pair is
        // two borrowed pointers, like an Entry, and a HashedPair one behind a hash
        unsafe {
            Some(match dict::entries(self.0.pointer)? {
                dict::Entries::Plain(entries) => {
                    Entries::Plain(&*(std::ptr::from_ref::<[DictEntry]>(entries) as *const [Pair<'w>]))
                }
                dict::Entries::Hashed(entries) => Entries::Hashed(
                    &*(std::ptr::from_ref::<[HashedEntry]>(entries) as *const [HashedPair<'w>]),
                ),
            })
        }
    }

    /// Brings the table of keys and values into the cache; the dict's own head should be there.
    #[inline(always)]
    pub(crate) fn prefetch_table(self) {
        // SAFETY: exactly a dict
        let table = unsafe { dict::key_table(self.0.pointer) };
        // 32 bytes of head, some two bytes for each entry's place in the hash table, 16 or 24 for each entry
        prefetch_range(table, (32 + 26 * self.len()).min(MOST_FETCHED));
    }
}

/// A key and its value.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Pair<'w> {
    pub(crate) key: Obj<'w>,
    pub(crate) value: Obj<'w>,
}

/// A pair in a table that keeps hashes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct HashedPair<'w> {
    hash: ffi::Py_hash_t,
    pair: Pair<'w>,
}

/// The pairs of a dict, where they stand.
#[derive(Clone, Copy)]
pub(crate) enum Entries<'w> {
    Plain(&'w [Pair<'w>]),
    Hashed(&'w [HashedPair<'w>]),
}

/// What a pair stands in.
pub(crate) trait Entry<'w> {
    fn pair(&self) -> Pair<'w>;
}

impl<'w> Entry<'w> for Pair<'w> {
    #[inline(always)]
    fn pair(&self) -> Pair<'w> {
        *self
    }
}

impl<'w> Entry<'w> for HashedPair<'w> {
    #[inline(always)]
    fn pair(&self) -> Pair<'w> {
        self.pair
    }
}

/// Keys and values in insertion order.
pub(crate) struct Items<'w> {
    dict: Obj<'w>,
    position: ffi::Py_ssize_t,
}

impl<'w> Iterator for Items<'w> {
    type Item = Pair<'w>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let (mut key, mut value) = (null_mut(), null_mut());
        // SAFETY: exactly a dict, which cannot change during the walk
        let more = unsafe {
            ffi::PyDict_Next(self.dict.pointer, &raw mut self.position, &raw mut key, &raw mut value) != 0
        };
        more.then_some(Pair {
            key: Obj { pointer: key, walk: PhantomData },
            value: Obj { pointer: value, walk: PhantomData },
        })
    }
}

/// An exact list or tuple.
#[derive(Clone, Copy)]
pub(crate) struct Sequence<'w> {
    object: Obj<'w>,
    length: ffi::Py_ssize_t,
    list: bool,
}

impl<'w> Sequence<'w> {
    #[inline(always)]
    pub(crate) fn of(object: Obj<'w>, types: &Types) -> Option<Sequence<'w>> {
        let kind = object.type_address();
        let list = kind == types.list;
        (list || kind == types.tuple).then(|| {
            // SAFETY: exactly a list or a tuple
            let length = unsafe {
                if list {
                    ffi::PyList_GET_SIZE(object.pointer)
                } else {
                    ffi::PyTuple_GET_SIZE(object.pointer)
                }
            };
            Sequence { object, length, list }
        })
    }

    pub(crate) fn tag(self) -> Tag {
        if self.list { tag::LIST } else { tag::TUPLE }
    }

    pub(crate) fn len(self) -> usize {
        self.length as usize
    }

    #[inline(always)]
    pub(crate) fn items(self) -> impl ExactSizeIterator<Item = Obj<'w>> {
        (0..self.length as usize).map(move |i| {
            let at = self.object.pointer;
            let i = i as ffi::Py_ssize_t;
            // SAFETY: exactly a list or tuple of this length, which cannot change during the walk
            let pointer =
                unsafe { if self.list { ffi::PyList_GET_ITEM(at, i) } else { ffi::PyTuple_GET_ITEM(at, i) } };
            Obj { pointer, walk: PhantomData }
        })
    }
}

/// Of a longer table the rest is fetched in time by the processor itself.
const MOST_FETCHED: usize = 1 << 14;

/// Where the value of a float begins; ints and texts have theirs there or beyond.
const VALUE_OFFSET: usize = 16;
