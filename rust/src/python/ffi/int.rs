//! Small ints read from their digits, which `PyLong_AsLongLongAndOverflow` takes byte by byte from the second digit on.
//!
//! CPython keeps an int as 30-bit digits behind a word that tells their number and the sign; that word changed in 3.12
//! (Include/cpython/longintrepr.h). Both forms are known here, and relied on only if `check` finds what it expects.

#![allow(unsafe_code)]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyInt;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// 3.11: the number of digits, negative for a negative int.
    SignedSize,
    /// From 3.12: the number of digits shifted left by three, the sign in the lowest two bits (0 +, 1 zero, 2 -).
    Tag,
    Unknown,
}

#[repr(C)]
struct Int {
    head: ffi::PyObject,
    size: isize,
    digits: [u32; 1],
}

const SHIFT: u32 = 30;

/// The value of an int below 2^63 in magnitude; None for a larger one.
///
/// # Safety
/// `int` is exactly an int and alive, and `layout` is what `check` has returned.
#[inline(always)]
pub(crate) unsafe fn small(int: *mut ffi::PyObject, layout: Layout) -> Option<i64> {
    // SAFETY: exactly an int; a digit is read only if there is one
    unsafe {
        let int = int.cast::<Int>();
        let size = (*int).size;
        // most are positive and of one digit
        let is_one_digit = match layout {
            Layout::SignedSize => size == 1,
            Layout::Tag => size == 1 << 3,
            Layout::Unknown => return None,
        };
        if is_one_digit {
            return Some(i64::from(*(&raw const (*int).digits).cast::<u32>()));
        }
        let (count, negative) = match layout {
            Layout::SignedSize => (size.unsigned_abs(), size < 0),
            Layout::Tag => (size as usize >> 3, size & 3 == 2),
            Layout::Unknown => return None,
        };
        let first = &raw const (*int).digits;
        let magnitude = match count {
            0 => 0,
            1 => i64::from(*first.cast::<u32>()),
            2 => {
                let low = i64::from(*first.cast::<u32>());
                low | i64::from(*first.cast::<u32>().add(1)) << SHIFT
            }
            3 => {
                let third = *first.cast::<u32>().add(2);
                // 60 bits are in the first two: three more fit
                if third > 7 {
                    return None;
                }
                let low = i64::from(*first.cast::<u32>());
                let middle = i64::from(*first.cast::<u32>().add(1)) << SHIFT;
                low | middle | i64::from(third) << (2 * SHIFT)
            }
            _ => return None,
        };
        Some(if negative { -magnitude } else { magnitude })
    }
}

/// The layout, if it is a known one: right version, and right answers on both sides of each digit.
pub(crate) fn check(py: Python<'_>) -> PyResult<Layout> {
    let version = py.version_info();
    let layout = match (version.major, version.minor) {
        (3, 11) => Layout::SignedSize,
        (3, 12..=14) => Layout::Tag,
        _ => return Ok(Layout::Unknown),
    };
    for bits in 0..63 {
        for near in [-1i64, 0, 1] {
            let value = (1i64 << bits).wrapping_add(near);
            for value in [value, -value] {
                let int = PyInt::new(py, value);
                // SAFETY: exactly an int, alive. This is the check itself: on these versions it stays inside the int
                match unsafe { small(int.as_ptr(), layout) } {
                    Some(found) if found != value => return Ok(Layout::Unknown),
                    _ => {}
                }
            }
        }
    }
    Ok(layout)
}
