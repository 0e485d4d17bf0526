//! Memory that will be read soon, brought into the processor's cache.

#![allow(unsafe_code)]

/// Brings a slice into the cache.
#[inline(always)]
pub(crate) fn prefetch_slice<T>(slice: &[T]) {
    prefetch_range(slice.as_ptr().cast(), size_of_val(slice));
}

/// Fetches two lines a turn: a wasted fetch costs less than another turn.
#[inline(always)]
pub(super) fn prefetch_range(start: *const u8, bytes: usize) {
    let mut at = 0;
    while at < bytes {
        prefetch(start.wrapping_add(at));
        prefetch(start.wrapping_add(at + 64));
        at += 128;
    }
}

#[inline(always)]
pub(super) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing and never faults
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
