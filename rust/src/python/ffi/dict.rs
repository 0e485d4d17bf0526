//! The entries of a dict in place, which `PyDict_Next` would hand out one by one.
//!
//! CPython's layout of a dict's key table (Include/internal/pycore_dict.h) has been the same from 3.11 to 3.14. It is
//! relied on only there, and only if `check` finds what it expects; else the walk goes through `PyDict_Next`.

#![allow(unsafe_code)]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat};

/// `struct _dictkeysobject`; the hash table follows, then the entries.
#[repr(C)]
struct KeyTable {
    references: ffi::Py_ssize_t,
    log2_size: u8,
    log2_index_bytes: u8,
    kind: u8,
    version: u32,
    usable: ffi::Py_ssize_t,
    entries: ffi::Py_ssize_t,
}

/// Keys of any class, whose hashes stand beside them: what JSON parsers make that ask for room ahead.
const GENERAL_KEYS: u8 = 0;
/// All keys are str, and the values stand beside them.
const UNICODE_KEYS: u8 = 1;

/// `PyDictUnicodeEntry`
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct DictEntry {
    pub(crate) key: *mut ffi::PyObject,
    pub(crate) value: *mut ffi::PyObject,
}

/// `PyDictKeyEntry`
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct HashedEntry {
    pub(crate) hash: ffi::Py_hash_t,
    pub(crate) entry: DictEntry,
}

/// The entries of one key table.
#[derive(Clone, Copy)]
pub(crate) enum Entries<'w> {
    Plain(&'w [DictEntry]),
    Hashed(&'w [HashedEntry]),
}

/// Where a dict keeps its keys: an address to prefetch.
///
/// # Safety
/// `dict` is exactly a dict and alive.
#[inline(always)]
pub(crate) unsafe fn key_table(dict: *mut ffi::PyObject) -> *const u8 {
    // SAFETY: exactly a dict
    unsafe { (*dict.cast::<ffi::PyDictObject>()).ma_keys.cast_const().cast() }
}

/// The kind of the entries, the first of them, and how many there are; None if they do not simply stand side by side.
///
/// # Safety
/// `dict` is exactly a dict and alive, and `check` has returned true.
#[inline(always)]
unsafe fn first_entry(dict: *mut ffi::PyObject) -> Option<(u8, *mut u8, usize)> {
    // SAFETY: a dict has always a key table. If its own values pointer is null, its kind says how its entries are made
    // and as many of them are in use as there are, all entries are live pairs
    unsafe {
        let dict = &*dict.cast::<ffi::PyDictObject>();
        let table = dict.ma_keys.cast::<KeyTable>();
        let simple = dict.ma_values.is_null() && (*table).entries == dict.ma_used;
        if !simple {
            return None;
        }
        let first = table.cast::<u8>().add(size_of::<KeyTable>() + (1 << (*table).log2_index_bytes));
        Some(((*table).kind, first, dict.ma_used as usize))
    }
}

/// The entries in insertion order; None if they do not simply stand side by side.
///
/// # Safety
/// `dict` is exactly a dict, alive and unchanged for `'w`, and `check` has returned true.
#[inline(always)]
pub(crate) unsafe fn entries<'w>(dict: *mut ffi::PyObject) -> Option<Entries<'w>> {
    // SAFETY: so many entries of that kind begin there
    unsafe {
        match first_entry(dict)? {
            // the table that all empty dicts share has no place for entries
            (_, _, 0) => Some(Entries::Plain(&[])),
            (UNICODE_KEYS, first, n) => Some(Entries::Plain(std::slice::from_raw_parts(first.cast(), n))),
            (GENERAL_KEYS, first, n) => Some(Entries::Hashed(std::slice::from_raw_parts(first.cast(), n))),
            _ => None,
        }
    }
}

/// One of the entries, by its place in insertion order; None if it is not there, or not to be found so.
///
/// # Safety
/// As of `entries`. The entry is valid until the dict changes.
#[inline(always)]
pub(crate) unsafe fn entry_at(dict: *mut ffi::PyObject, at: usize) -> Option<*mut DictEntry> {
    // SAFETY: so many entries of that kind begin there
    unsafe {
        match first_entry(dict)? {
            (_, _, n) if at >= n => None,
            (UNICODE_KEYS, first, _) => Some(first.cast::<DictEntry>().add(at)),
            (GENERAL_KEYS, first, _) => Some(&raw mut (*first.cast::<HashedEntry>().add(at)).entry),
            _ => None,
        }
    }
}

/// Puts a value in the place of that of an entry and returns the old one, both as references that are owned; None if the
/// entry is not to be found so.
///
/// # Safety
/// As of `entries`, and no other code has seen the dict since it was made: nobody watches it or knows its version. The
/// value is a live object; if the garbage collector may know it, it knows the dict.
#[inline(always)]
pub(crate) unsafe fn replace(
    dict: *mut ffi::PyObject,
    at: usize,
    value: *mut ffi::PyObject,
) -> Option<*mut ffi::PyObject> {
    // SAFETY: the entry is part of the dict, which owns its value
    unsafe { Some(std::mem::replace(&mut (*entry_at(dict, at)?).value, value)) }
}

/// True if the layout is the known one: right version, and right answers for dicts of several sizes and histories.
pub(crate) fn check(py: Python<'_>) -> PyResult<bool> {
    let version = py.version_info();
    if version.major != 3 || !(11..=14).contains(&version.minor) {
        return Ok(false);
    }
    for size in [1, 5, 6, 40, 300, 70_000] {
        let dict = PyDict::new(py);
        for i in 0..size {
            dict.set_item(format!("key {i}"), i)?;
        }
        let by_api = by_address(&dict);
        let same = |by_api: &[(usize, usize)]| {
            let address = |entry: &DictEntry| (entry.key as usize, entry.value as usize);
            // SAFETY: exactly a dict, alive, and nothing changes it here. This is the check itself: on these versions
            // the reads stay inside the dict's own memory
            match unsafe { entries(dict.as_ptr()) } {
                Some(Entries::Plain(entries)) => entries.iter().map(address).eq(by_api.iter().copied()),
                Some(Entries::Hashed(entries)) => {
                    entries.iter().map(|entry| address(&entry.entry)).eq(by_api.iter().copied())
                }
                None => false,
            }
        };
        let plain = same(&by_api) && replaces(&dict, size / 2)?;
        // a key of another class makes it a table with hashes; one that is gone leaves a gap
        dict.set_item(7, 8)?;
        let hashed = same(&by_address(&dict)) && replaces(&dict, size / 2)?;
        dict.del_item("key 0")?;
        // SAFETY: as above
        if !plain || !hashed || unsafe { entries(dict.as_ptr()) }.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// True if a value that is put in the place of another in a copy of the dict is found there by its key.
fn replaces(dict: &Bound<'_, PyDict>, at: usize) -> PyResult<bool> {
    let (copy, new) = (dict.copy()?, PyFloat::new(dict.py(), 0.5));
    // SAFETY: a copy that nobody else has seen, and a float, which the collector never knows. The dict takes the new
    // reference over and gives the old one up
    unsafe {
        let Some(old) = replace(copy.as_ptr(), at, new.as_ptr()) else { return Ok(false) };
        std::mem::forget(new.clone());
        drop(Bound::from_owned_ptr(dict.py(), old));
    }
    let found = copy.get_item(format!("key {at}"))?;
    Ok(found.is_some_and(|found| found.is(&new)) && copy.len() == dict.len())
}

fn by_address(dict: &Bound<'_, PyDict>) -> Vec<(usize, usize)> {
    dict.iter().map(|(key, value)| (key.as_ptr() as usize, value.as_ptr() as usize)).collect()
}
