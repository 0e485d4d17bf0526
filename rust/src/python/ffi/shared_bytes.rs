//! Bytes of columns that another library owns, as slices.
//!
//! What makes it sound: a `SharedBytes` keeps its owner alive, and its length is what the owner vouches for: Arrow's format
//! for an Arrow array, the buffer protocol for a numpy array. It is read under the GIL, by code that runs no Python
//! code. Who writes to an array at the same time, without the GIL, gets either value.

#![allow(unsafe_code)]

use std::any::Any;
use std::rc::Rc;

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

/// What keeps the bytes where they are.
pub(crate) type Owner = Rc<dyn Any>;

#[derive(Clone)]
pub(crate) struct SharedBytes {
    pointer: *const u8,
    length: usize,
    _owner: Option<Owner>,
}

impl SharedBytes {
    pub(crate) fn empty() -> SharedBytes {
        SharedBytes { pointer: std::ptr::dangling(), length: 0, _owner: None }
    }

    /// # Safety
    /// `pointer` leads to so many bytes, for as long as the owner lives.
    pub(super) unsafe fn new(pointer: *const u8, length: usize, owner: &Owner) -> SharedBytes {
        SharedBytes { pointer, length, _owner: Some(owner.clone()) }
    }

    /// The bytes of an object with the buffer protocol that stand side by side.
    pub(crate) fn of_buffer(buffer: &Bound<'_, PyAny>) -> PyResult<SharedBytes> {
        let buffer = PyBuffer::<u8>::get(buffer)?;
        if !buffer.is_c_contiguous() {
            return Err(pyo3::exceptions::PyBufferError::new_err("the buffer is not contiguous"));
        }
        let (pointer, length) = (buffer.buf_ptr().cast(), buffer.len_bytes());
        let owner: Owner = Rc::new(buffer);
        // SAFETY: a contiguous buffer has so many bytes until it is released
        Ok(unsafe { SharedBytes::new(pointer, length, &owner) })
    }

    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: what `new` was promised
        unsafe { std::slice::from_raw_parts(self.pointer, self.length) }
    }

    /// Item `at` of items of N bytes.
    #[inline(always)]
    pub(crate) fn item<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut item = [0; N];
        item.copy_from_slice(&self.bytes()[at * N..][..N]);
        item
    }

    #[inline(always)]
    pub(crate) fn bit(&self, at: usize) -> bool {
        self.bytes()[at / 8] >> (at % 8) & 1 == 1
    }
}
