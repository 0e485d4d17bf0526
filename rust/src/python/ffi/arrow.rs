//! Arrow's C data interface: arrays handed to consumers in capsules.
//!
//! What makes it sound: an exported structure owns, through `private_data`, all that its pointers lead to, and shares
//! arrays and fields that nobody changes any more. No Python object is among them, so a consumer may release a
//! structure on any thread. A structure is released once: `release` sets itself to null, and so does who moves it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::python::to_python::column_arrays::{Array, Field, Validity};

const NULLABLE: i64 = 2;
pub(super) const SCHEMA: &CStr = c"arrow_schema";
pub(super) const STREAM: &CStr = c"arrow_array_stream";

#[repr(C)]
pub(super) struct ArrowSchema {
    pub(super) format: *const c_char,
    pub(super) name: *const c_char,
    pub(super) metadata: *const c_char,
    pub(super) flags: i64,
    pub(super) n_children: i64,
    pub(super) children: *mut *mut ArrowSchema,
    pub(super) dictionary: *mut ArrowSchema,
    pub(super) release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    pub(super) private_data: *mut c_void,
}

#[repr(C)]
pub(super) struct ArrowArray {
    pub(super) length: i64,
    pub(super) null_count: i64,
    pub(super) offset: i64,
    pub(super) n_buffers: i64,
    pub(super) n_children: i64,
    pub(super) buffers: *mut *const c_void,
    pub(super) children: *mut *mut ArrowArray,
    pub(super) dictionary: *mut ArrowArray,
    pub(super) release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    pub(super) private_data: *mut c_void,
}

#[repr(C)]
pub(super) struct ArrowArrayStream {
    pub(super) get_schema: Option<unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowSchema) -> c_int>,
    pub(super) get_next: Option<unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowArray) -> c_int>,
    pub(super) get_last_error: Option<unsafe extern "C" fn(*mut ArrowArrayStream) -> *const c_char>,
    pub(super) release: Option<unsafe extern "C" fn(*mut ArrowArrayStream)>,
    pub(super) private_data: *mut c_void,
}

/// A structure of the interface, and how it is released.
pub(super) trait Released: Sized {
    fn release(&mut self);
    fn is_released(&self) -> bool;
    /// Marks it as released: it was moved elsewhere.
    fn forget(&mut self);
}

macro_rules! released {
    ($($structure:ty),*) => {$(
        impl Released for $structure {
            fn release(&mut self) {
                if let Some(release) = self.release {
                    // SAFETY: a structure that has not been released is valid
                    unsafe { release(self) };
                }
            }

            fn is_released(&self) -> bool {
                self.release.is_none()
            }

            fn forget(&mut self) {
                self.release = None;
            }
        }
    )*};
}

released!(ArrowSchema, ArrowArray, ArrowArrayStream);

impl ArrowArray {
    /// An array of nothing, which nobody is to release.
    pub(super) fn released() -> ArrowArray {
        ArrowArray {
            length: 0,
            null_count: 0,
            offset: 0,
            n_buffers: 0,
            n_children: 0,
            buffers: null_mut(),
            children: null_mut(),
            dictionary: null_mut(),
            release: None,
            private_data: null_mut(),
        }
    }
}

/// Structures below another one; what a consumer has moved out is released already.
struct Below<T: Released>(Vec<*mut T>);

impl<T: Released> Below<T> {
    fn new(all: impl Iterator<Item = T>) -> Below<T> {
        Below(all.map(|one| Box::into_raw(Box::new(one))).collect())
    }

    fn count(&self) -> i64 {
        self.0.len() as i64
    }
}

impl<T: Released> Drop for Below<T> {
    fn drop(&mut self) {
        for one in self.0.drain(..) {
            // SAFETY: made by `new`, and dropped once
            unsafe { Box::from_raw(one) }.release();
        }
    }
}

struct ExportedSchema {
    field: Arc<Field>,
    children: Below<ArrowSchema>,
    dictionary: Below<ArrowSchema>,
    metadata: Vec<u8>,
}

struct ExportedArray {
    _array: Arc<Array>,
    buffers: Vec<*const c_void>,
    children: Below<ArrowArray>,
    dictionary: Below<ArrowArray>,
}

/// One batch with all rows.
struct ExportedStream {
    field: Arc<Field>,
    batch: Option<Arc<Array>>,
}

/// One pair, as the interface has it: counts and lengths in the byte order of the machine.
fn json_metadata() -> Vec<u8> {
    let mut metadata = 1i32.to_ne_bytes().to_vec();
    for text in ["snapdelta", "json"] {
        metadata.extend_from_slice(&(text.len() as i32).to_ne_bytes());
        metadata.extend_from_slice(text.as_bytes());
    }
    metadata
}

fn schema_of(field: &Arc<Field>) -> ArrowSchema {
    let mut exported = Box::new(ExportedSchema {
        field: Arc::clone(field),
        children: Below::new(field.children.iter().map(schema_of)),
        dictionary: Below::new(field.dictionary.iter().map(schema_of)),
        metadata: if field.json { json_metadata() } else { Vec::new() },
    });
    ArrowSchema {
        format: exported.field.format.as_ptr(),
        name: exported.field.name.as_ptr(),
        metadata: if exported.metadata.is_empty() { null() } else { exported.metadata.as_ptr().cast() },
        flags: NULLABLE,
        n_children: exported.children.count(),
        children: exported.children.0.as_mut_ptr(),
        dictionary: exported.dictionary.0.first().copied().unwrap_or(null_mut()),
        release: Some(release_schema),
        private_data: Box::into_raw(exported).cast(),
    }
}

fn array_of(array: &Arc<Array>) -> ArrowArray {
    let mut buffers: Vec<*const c_void> = Vec::new();
    match &array.validity {
        Validity::NoBitmap => {}
        Validity::All => buffers.push(null()),
        Validity::Bitmap(bits) => buffers.push(bits.address().cast()),
    }
    buffers.extend(array.buffers.iter().map(|buffer| buffer.address().cast::<c_void>()));
    let mut exported = Box::new(ExportedArray {
        _array: Arc::clone(array),
        buffers,
        children: Below::new(array.children.iter().map(array_of)),
        dictionary: Below::new(array.dictionary.iter().map(array_of)),
    });
    ArrowArray {
        length: array.length as i64,
        null_count: array.nulls as i64,
        offset: 0,
        n_buffers: exported.buffers.len() as i64,
        n_children: exported.children.count(),
        buffers: exported.buffers.as_mut_ptr(),
        children: exported.children.0.as_mut_ptr(),
        dictionary: exported.dictionary.0.first().copied().unwrap_or(null_mut()),
        release: Some(release_array),
        private_data: Box::into_raw(exported).cast(),
    }
}

fn stream_of(field: Arc<Field>, batch: Arc<Array>) -> ArrowArrayStream {
    let exported = Box::new(ExportedStream { field, batch: Some(batch) });
    ArrowArrayStream {
        get_schema: Some(stream_schema),
        get_next: Some(stream_next),
        get_last_error: Some(stream_error),
        release: Some(release_stream),
        private_data: Box::into_raw(exported).cast(),
    }
}

unsafe extern "C" fn release_schema(schema: *mut ArrowSchema) {
    // SAFETY: called once with a structure of `schema_of`
    unsafe {
        drop(Box::from_raw((*schema).private_data.cast::<ExportedSchema>()));
        (*schema).release = None;
    }
}

unsafe extern "C" fn release_array(array: *mut ArrowArray) {
    // SAFETY: called once with a structure of `array_of`
    unsafe {
        drop(Box::from_raw((*array).private_data.cast::<ExportedArray>()));
        (*array).release = None;
    }
}

unsafe extern "C" fn release_stream(stream: *mut ArrowArrayStream) {
    // SAFETY: called once with a structure of `stream_of`
    unsafe {
        drop(Box::from_raw((*stream).private_data.cast::<ExportedStream>()));
        (*stream).release = None;
    }
}

unsafe extern "C" fn stream_schema(stream: *mut ArrowArrayStream, out: *mut ArrowSchema) -> c_int {
    // SAFETY: the stream is one of `stream_of`; `out` is memory to be written to
    unsafe {
        let exported = &*(*stream).private_data.cast::<ExportedStream>();
        out.write(schema_of(&exported.field));
    }
    0
}

unsafe extern "C" fn stream_next(stream: *mut ArrowArrayStream, out: *mut ArrowArray) -> c_int {
    // SAFETY: the stream is one of `stream_of`; `out` is memory to be written to
    unsafe {
        let exported = &mut *(*stream).private_data.cast::<ExportedStream>();
        out.write(match exported.batch.take() {
            Some(batch) => array_of(&batch),
            // it ends the stream
            None => ArrowArray::released(),
        });
    }
    0
}

unsafe extern "C" fn stream_error(_stream: *mut ArrowArrayStream) -> *const c_char {
    null()
}

/// Frees the structure of a capsule, and releases it unless a consumer has moved it out.
unsafe extern "C" fn free<T: Released>(capsule: *mut ffi::PyObject) {
    // SAFETY: the pointer and the name are those that `capsule` gave
    unsafe {
        let pointer = ffi::PyCapsule_GetPointer(capsule, ffi::PyCapsule_GetName(capsule));
        if !pointer.is_null() {
            Box::from_raw(pointer.cast::<T>()).release();
        }
    }
}

fn capsule<'py, T: Released>(
    py: Python<'py>,
    structure: T,
    name: &'static CStr,
) -> PyResult<Bound<'py, PyCapsule>> {
    let pointer = Box::into_raw(Box::new(structure));
    // SAFETY: the pointer is valid until `free` is called with the capsule
    unsafe {
        let made = ffi::PyCapsule_New(pointer.cast(), name.as_ptr(), Some(free::<T>));
        if made.is_null() {
            Box::from_raw(pointer).release();
            return Err(PyErr::fetch(py));
        }
        Ok(Bound::from_owned_ptr(py, made).cast_into_unchecked())
    }
}

pub(crate) fn schema_capsule<'py>(py: Python<'py>, field: &Arc<Field>) -> PyResult<Bound<'py, PyCapsule>> {
    capsule(py, schema_of(field), SCHEMA)
}

/// A stream of one batch.
pub(crate) fn stream_capsule<'py>(
    py: Python<'py>,
    field: &Arc<Field>,
    batch: &Arc<Array>,
) -> PyResult<Bound<'py, PyCapsule>> {
    capsule(py, stream_of(Arc::clone(field), Arc::clone(batch)), STREAM)
}
