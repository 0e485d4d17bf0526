//! Any bytes as a frame, upon two bases. The mutator changes bodies and mends the checksum, so that inputs get past it.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use snapdelta::fuzzing;

/// Small, so that one input cannot take long.
const MAX_BYTES: u64 = 8 << 20;
/// More than any header and checksum take.
const HEADER_LENGTH: usize = 128;
// `make fuzz` copies the golden vectors there.
const BASES: [&[u8]; 2] =
    [include_bytes!("../corpus/decode/every_type.frame"), include_bytes!("../corpus/decode/market.frame")];

fuzz_target!(|frame: &[u8]| {
    let named = BASES.into_iter().find(|base| fuzzing::is_base(base, frame));
    fuzzing::apply(named.unwrap_or(BASES[0]), frame, MAX_BYTES);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let room = max_size.saturating_sub(HEADER_LENGTH);
    // One in eight stays without a checksum that fits: the header and zstd are inputs too.
    let mutated = (seed % 8 != 0).then(|| {
        fuzzing::with_body(&data[..size], MAX_BYTES, |mut body| {
            let length = body.len().min(room);
            body.resize(room, 0);
            let length = fuzzer_mutate(&mut body, length, room);
            body.truncate(length);
            body
        })
    });
    match mutated.flatten() {
        Some(frame) if frame.len() <= max_size => {
            data[..frame.len()].copy_from_slice(&frame);
            frame.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
});
