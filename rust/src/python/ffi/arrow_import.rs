//! Arrow's C data interface, taken from producers: capsules in, arrays out.
//!
//! What makes it sound: a structure is moved out of its capsule, so that it is released once, here. A producer vouches
//! for its buffers, as to every consumer: each is as long as the type, the offset and the length say, and bytes of texts
//! reach to the last offset. Null pointers, counts and lengths that contradict each other are refused. Other values inside
//! buffers (offsets, indices) are not trusted: they are checked where they are read.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;
use std::rc::Rc;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};

use crate::format::MAX_DEPTH;
use crate::python::convert_error::{ConvertError, ConvertResult};
use crate::python::ffi::arrow::{ArrowArray, ArrowArrayStream, ArrowSchema, Released, SCHEMA, STREAM};
use crate::python::ffi::shared_bytes::{Owner, SharedBytes};
use crate::python::from_python::columns::array::{Array, Nulls};
use crate::python::from_python::columns::types::{FieldIn, ListSpan, Span, Type, malformed};

const ARRAY: &CStr = c"arrow_array";

/// A structure that is ours to release.
struct Owned<T: Released>(Box<T>);

impl<T: Released> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// What was read of a producer.
pub(crate) struct Imported {
    pub(crate) field: FieldIn,
    batches: Vec<Rc<Owned<ArrowArray>>>,
}

/// May cross to a thread state without the GIL and back: the thread stays the same.
struct SameThread<T>(T);

// SAFETY: `detach` runs its closure on the thread that calls it
unsafe impl<T> Send for SameThread<T> {}

impl<T> SameThread<T> {
    fn get(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Reads what has `__arrow_c_stream__` or `__arrow_c_array__`; None if it has neither. Python code runs.
pub(crate) fn import(object: &Bound<'_, PyAny>) -> ConvertResult<Option<Imported>> {
    let py = object.py();
    if object.hasattr("__arrow_c_stream__")? {
        let capsule =
            object.call_method0("__arrow_c_stream__")?.cast_into::<PyCapsule>().map_err(PyErr::from)?;
        let mut stream = SameThread(take::<ArrowArrayStream>(&capsule, STREAM)?);
        // a producer may wait for a thread of its own that needs the GIL
        let read = py.detach(|| SameThread(read_stream(stream.get()))).0;
        return read.map(Some).map_err(ConvertError::unsupported);
    }
    if object.hasattr("__arrow_c_array__")? {
        let pair = object.call_method0("__arrow_c_array__")?.cast_into::<PyTuple>().map_err(PyErr::from)?;
        let capsule = |at| Ok::<_, PyErr>(pair.get_item(at)?.cast_into::<PyCapsule>()?);
        let schema = take::<ArrowSchema>(&capsule(0)?, SCHEMA)?;
        let array = take::<ArrowArray>(&capsule(1)?, ARRAY)?;
        let field = read_field(&schema.0, 0).ok_or_else(malformed)?;
        return Ok(Some(Imported { field, batches: vec![Rc::new(array)] }));
    }
    Ok(None)
}

/// Moves the structure out of a capsule.
fn take<T: Released>(capsule: &Bound<'_, PyCapsule>, name: &CStr) -> ConvertResult<Owned<T>> {
    // SAFETY: a capsule of this name leads to such a structure (Arrow's PyCapsule interface). Who moves it out marks
    // what stays behind as released
    let taken = unsafe {
        let pointer = ffi::PyCapsule_GetPointer(capsule.as_ptr(), name.as_ptr()).cast::<T>();
        if pointer.is_null() {
            return Err(PyErr::fetch(capsule.py()).into());
        }
        let taken = Box::new(pointer.read());
        (*pointer).forget();
        taken
    };
    if taken.is_released() {
        return Err(ConvertError::unsupported("the Arrow data were consumed before"));
    }
    Ok(Owned(taken))
}

fn read_stream(stream: &mut Owned<ArrowArrayStream>) -> Result<Imported, String> {
    let stream = &mut *stream.0;
    let bad = || "the Arrow data are malformed".to_string();
    let (Some(get_schema), Some(get_next)) = (stream.get_schema, stream.get_next) else { return Err(bad()) };
    let mut schema = Owned(Box::new(no_schema()));
    // SAFETY: the stream has not been released; the structure is memory to be written to
    let status = unsafe { get_schema(stream, &raw mut *schema.0) };
    if status != 0 || schema.0.is_released() {
        return Err(failed(stream, status));
    }
    let field = read_field(&schema.0, 0).ok_or_else(bad)?;
    let mut batches = Vec::new();
    loop {
        let mut array = Owned(Box::new(ArrowArray::released()));
        // SAFETY: as above
        let status = unsafe { get_next(stream, &raw mut *array.0) };
        if status != 0 {
            return Err(failed(stream, status));
        }
        if array.0.is_released() {
            return Ok(Imported { field, batches });
        }
        batches.push(Rc::new(array));
    }
}

fn failed(stream: &mut ArrowArrayStream, status: c_int) -> String {
    let message = stream.get_last_error.map(|last_error| {
        // SAFETY: the stream has not been released; the text is valid until its next call
        unsafe { text_of(last_error(stream)) }
    });
    match message.flatten() {
        Some(message) => format!("the Arrow data could not be read: {message}"),
        None => format!("the Arrow data could not be read: error {status}"),
    }
}

/// # Safety
/// The pointer is null or leads to a text that ends in a zero.
unsafe fn text_of(text: *const c_char) -> Option<String> {
    // SAFETY: promised by the caller
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

fn no_schema() -> ArrowSchema {
    ArrowSchema {
        format: null_mut(),
        name: null_mut(),
        metadata: null_mut(),
        flags: 0,
        n_children: 0,
        children: null_mut(),
        dictionary: null_mut(),
        release: None,
        private_data: null_mut(),
    }
}

/// A list of pointers of a structure.
fn pointers<'a, T>(pointers: *mut *mut T, n: i64) -> Option<Vec<&'a T>> {
    let n = usize::try_from(n).ok()?;
    if n > 0 && pointers.is_null() {
        return None;
    }
    // SAFETY: a structure has so many pointers, each to a live structure below it or null
    (0..n).map(|at| unsafe { (*pointers.add(at)).as_ref() }).collect()
}

fn read_field(schema: &ArrowSchema, depth: usize) -> Option<FieldIn> {
    // one that is nested deeper is refused by its type
    if depth > 2 * MAX_DEPTH {
        return None;
    }
    // SAFETY: texts of a live structure
    let format = unsafe { text_of(schema.format) }?;
    let name = if schema.name.is_null() {
        Vec::new()
    } else {
        // SAFETY: as above
        unsafe { CStr::from_ptr(schema.name) }.to_bytes().to_vec()
    };
    let children = pointers(schema.children, schema.n_children)?;
    // SAFETY: null or a live structure
    let dictionary = unsafe { schema.dictionary.as_ref() };
    let dictionary = match dictionary {
        Some(dictionary) => Some(Box::new(read_field(dictionary, depth + 1)?)),
        None => None,
    };
    let children = children.into_iter().map(|child| read_field(child, depth + 1)).collect::<Option<_>>()?;
    Some(FieldIn { name, format, children, dictionary })
}

impl Imported {
    /// The batches as arrays of the field's type.
    pub(crate) fn arrays(&self, kind: &Type) -> ConvertResult<Vec<Array>> {
        let batches = self.batches.iter();
        batches
            .map(|batch| {
                let owner: Owner = batch.clone();
                array_of(&batch.0, kind, 0, None, &owner).ok_or_else(malformed)
            })
            .collect()
    }
}

/// The buffers of an array: how many bytes each must have is told by the caller.
struct Buffers<'a> {
    array: &'a ArrowArray,
    owner: &'a Owner,
}

impl Buffers<'_> {
    fn pointer(&self, at: usize) -> Option<*const c_void> {
        let n = usize::try_from(self.array.n_buffers).ok()?;
        if at >= n || self.array.buffers.is_null() {
            return None;
        }
        // SAFETY: a live array has so many pointers
        Some(unsafe { *self.array.buffers.add(at) })
    }

    fn part(&self, at: usize, bytes: usize) -> Option<SharedBytes> {
        let pointer = self.pointer(at)?;
        if bytes == 0 {
            return Some(SharedBytes::empty());
        }
        // SAFETY: the producer vouches for the length
        (!pointer.is_null()).then(|| unsafe { SharedBytes::new(pointer.cast(), bytes, self.owner) })
    }
}

/// `shift`: how far a struct around it begins behind its own first item; `length` is the struct's.
fn array_of(
    raw: &ArrowArray,
    kind: &Type,
    shift: usize,
    length: Option<usize>,
    owner: &Owner,
) -> Option<Array> {
    let [offset, own_length] = [raw.offset, raw.length].map(|n| usize::try_from(n).ok());
    let (offset, own_length) = (offset?, own_length?);
    let length = length.unwrap_or(own_length);
    if shift.checked_add(length)? > own_length {
        return None;
    }
    let first = offset.checked_add(shift)?;
    let end = first.checked_add(length)?;
    let buffers = Buffers { array: raw, owner };
    let has_no_bitmap = matches!(kind, Type::Null);
    let nulls = if has_no_bitmap {
        Nulls::All
    } else if raw.null_count == 0 || length == 0 || buffers.pointer(0)?.is_null() {
        Nulls::None
    } else {
        Nulls::Bits(buffers.part(0, end.div_ceil(8))?)
    };
    let children = pointers(raw.children, raw.n_children)?;
    let mut array = Array { first, length, nulls, buffers: Vec::new(), children: Vec::new() };
    match kind {
        Type::Null | Type::Empty => {}
        Type::Struct(fields) => {
            if children.len() != fields.len() {
                return None;
            }
            for (child, (_, field)) in children.into_iter().zip(fields) {
                array.children.push(array_of(child, field, first, Some(length), owner)?);
            }
        }
        Type::List(span, item) => {
            let [child] = &*children else { return None };
            array.buffers = list_buffers(*span, &buffers, end, length)?;
            array.children.push(array_of(child, item, 0, None, owner)?);
        }
        Type::Bool => array.buffers.push(buffers.part(1, if length == 0 { 0 } else { end.div_ceil(8) })?),
        Type::Text(span) | Type::Binary(span) => {
            array.buffers = spans(*span, &buffers, end, length)?;
        }
        _ => {
            let bytes = if length == 0 { 0 } else { end.checked_mul(kind.width()?)? };
            array.buffers.push(buffers.part(1, bytes)?);
            if let Type::Dictionary { values, .. } = kind {
                // SAFETY: null or a live structure
                let dictionary = unsafe { raw.dictionary.as_ref() }?;
                array.children.push(array_of(dictionary, values, 0, None, owner)?);
            }
        }
    }
    Some(array)
}

fn list_buffers(
    span: ListSpan,
    buffers: &Buffers<'_>,
    end: usize,
    length: usize,
) -> Option<Vec<SharedBytes>> {
    let of = |at, items: usize, width: usize| {
        buffers.part(at, if length == 0 { 0 } else { items.checked_mul(width)? })
    };
    Some(match span {
        ListSpan::Offsets32 => vec![of(1, end.checked_add(1)?, 4)?],
        ListSpan::Offsets64 => vec![of(1, end.checked_add(1)?, 8)?],
        ListSpan::Views32 => vec![of(1, end, 4)?, of(2, end, 4)?],
        ListSpan::Views64 => vec![of(1, end, 8)?, of(2, end, 8)?],
        ListSpan::Fixed(items) => {
            end.checked_mul(items)?;
            Vec::new()
        }
    })
}

fn spans(span: Span, buffers: &Buffers<'_>, end: usize, length: usize) -> Option<Vec<SharedBytes>> {
    if length == 0 {
        return Some(Vec::new());
    }
    if span != Span::Views {
        let width = if span == Span::Offsets64 { 8 } else { 4 };
        let offsets = buffers.part(1, end.checked_add(1)?.checked_mul(width)?)?;
        let last = match width {
            8 => i64::from_le_bytes(offsets.item(end)),
            _ => i64::from(i32::from_le_bytes(offsets.item(end))),
        };
        let data = buffers.part(2, usize::try_from(last).ok()?)?;
        return Some(vec![offsets, data]);
    }
    let mut all = vec![buffers.part(1, end.checked_mul(16)?)?];
    let others = usize::try_from(buffers.array.n_buffers).ok()?.checked_sub(3)?;
    let lengths = buffers.part(2 + others, others.checked_mul(8)?)?;
    for at in 0..others {
        all.push(buffers.part(2 + at, usize::try_from(i64::from_le_bytes(lengths.item(at))).ok()?)?);
    }
    Some(all)
}
