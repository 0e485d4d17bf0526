//! The entropy stream of a frame: one rANS coder for all coded numbers. FORMAT.md section 2.1.
//!
//! J. Duda, "Asymmetric numeral systems", arXiv:1311.2540; a state of 64 bits, renewed 32 bits at a time.

use std::cell::Cell;

use crate::error::{Error, Result};

/// The least state; the writer begins and the reader ends with it.
const LOWEST_STATE: u64 = 1 << 31;
/// Before a step the state is below so many bits, less those of the step, times its frequency.
const STATE_BITS: u8 = 63;
const STATE_BYTES: usize = 8;
const WORD_BYTES: usize = 4;

/// One coding step: `frequency` of `1 << bits` slots, from `start` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) start: u32,
    pub(crate) frequency: u16,
    /// At most 31.
    pub(crate) bits: u8,
}

/// The stream of these steps, in reading order; empty without steps.
pub(crate) fn write(steps: &[Step]) -> Vec<u8> {
    if steps.is_empty() {
        return Vec::new();
    }
    let mut state = LOWEST_STATE;
    let mut words: Vec<u32> = Vec::with_capacity(steps.len() / 2);
    // A coder of this kind gives back last what it took first.
    for Step { start, frequency, bits } in steps.iter().rev() {
        let frequency = u64::from(*frequency);
        let bound = frequency << (STATE_BITS - bits);
        if state >= bound {
            words.push(state as u32);
            state >>= 32;
        }
        let quotient = if frequency == 1 { state } else { state / frequency };
        // the quotient takes more room than before, by as much as its slots are more than the frequency
        state += quotient * ((1 << bits) - frequency) + u64::from(*start);
    }
    let mut bytes = Vec::with_capacity(STATE_BYTES + WORD_BYTES * words.len());
    bytes.extend_from_slice(&state.to_le_bytes());
    for word in words.iter().rev() {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Reads the stream; readers of all sections share it.
pub(crate) struct EntropyReader<'a> {
    state: Cell<u64>,
    words: &'a [u8],
    at: Cell<usize>,
}

impl<'a> EntropyReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self> {
        let (state, words) = match bytes.split_first_chunk::<STATE_BYTES>() {
            Some((state, words)) => (u64::from_le_bytes(*state), words),
            None if bytes.is_empty() => (LOWEST_STATE, bytes),
            None => return Err(bad("ends within its state")),
        };
        if !(LOWEST_STATE..LOWEST_STATE << 32).contains(&state) {
            return Err(bad("begins with a state that is out of range"));
        }
        Ok(EntropyReader { state: Cell::new(state), words, at: Cell::new(0) })
    }

    /// Lets `then` read steps, of which many at a time cost least. None from it: the stream ends too early.
    #[inline(always)]
    pub(crate) fn steps<T>(&self, then: impl FnOnce(&mut Steps<'a>) -> Option<T>) -> Result<T> {
        let mut steps = Steps { state: self.state.get(), words: &self.words[self.at.get()..] };
        let read = then(&mut steps);
        self.state.set(steps.state);
        self.at.set(self.words.len() - steps.words.len());
        read.ok_or_else(|| bad("ends too early"))
    }

    /// Ends the frame; fails if anything is unread.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.state.get() == LOWEST_STATE && self.at.get() == self.words.len() {
            Ok(())
        } else {
            Err(bad("has more than the sections ask for"))
        }
    }
}

/// The stream while steps are read: its state stays in a register. Nothing is read after a None.
#[derive(Clone, Copy)]
pub(crate) struct Steps<'a> {
    state: u64,
    words: &'a [u8],
}

impl Steps<'_> {
    /// The slot that comes next, of `1 << bits`.
    #[inline(always)]
    pub(crate) fn slot(&self, bits: u8) -> u64 {
        self.state & ((1 << bits) - 1)
    }

    /// Goes on behind a slot of `1 << bits`: the one so many slots behind the start of those of its step.
    #[inline(always)]
    pub(crate) fn advance(&mut self, behind_start: u64, frequency: u64, bits: u8) -> Option<()> {
        let quotient = self.state >> bits;
        let mut state = frequency * quotient + behind_start;
        if state < LOWEST_STATE {
            let (word, words) = self.words.split_first_chunk::<WORD_BYTES>()?;
            state = state << 32 | u64::from(u32::from_le_bytes(*word));
            self.words = words;
        }
        self.state = state;
        Some(())
    }

    /// So many bits as they are; at most 31.
    #[inline(always)]
    pub(crate) fn raw(&mut self, bits: u8) -> Option<u64> {
        let slot = self.slot(bits);
        self.advance(0, 1, bits)?;
        Some(slot)
    }
}

fn bad(what: &str) -> Error {
    Error::corrupt(format!("the entropy stream {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As FORMAT.md tells it.
    fn write_plainly(steps: &[Step]) -> Vec<u8> {
        let (mut state, mut words) = (LOWEST_STATE, Vec::new());
        for step in steps.iter().rev() {
            let frequency = u64::from(step.frequency);
            if state >= (LOWEST_STATE >> step.bits << 32) * frequency {
                words.push(state as u32);
                state >>= 32;
            }
            state = ((state / frequency) << step.bits) + state % frequency + u64::from(step.start);
        }
        let words = words.iter().rev().flat_map(|word| word.to_le_bytes());
        state.to_le_bytes().into_iter().chain(words).collect()
    }

    #[test]
    fn steps_are_written_as_plainly_told() {
        let mut random = 1u64;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let step = |_| {
            let bits = below(32) as u8;
            let frequency = if below(3) == 0 { 1 } else { 1 + below(u64::from(u16::MAX).min(1 << bits)) };
            let start = below((1 << bits) - frequency + 1) as u32;
            Step { start, frequency: frequency as u16, bits }
        };
        let steps: Vec<Step> = (0..20_000).map(step).collect();
        for n in [1, 2, 3, 1000, steps.len()] {
            let written = write(&steps[..n]);
            assert!(written == write_plainly(&steps[..n]));
            let reader = EntropyReader::new(&written);
            let read = reader.and_then(|reader| {
                reader.steps(|stream| {
                    steps[..n].iter().try_for_each(|step| {
                        let slot = stream.slot(step.bits);
                        let (start, frequency) = (u64::from(step.start), u64::from(step.frequency));
                        let is_in = (start..start + frequency).contains(&slot);
                        if is_in { stream.advance(slot - start, frequency, step.bits) } else { None }
                    })
                })?;
                reader.finish()
            });
            assert_eq!(read, Ok(()));
        }
        assert!(write(&[]).is_empty());
    }
}
