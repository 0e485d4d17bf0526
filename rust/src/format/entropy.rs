//! The entropy stream of a frame: one rANS coder for all coded numbers. FORMAT.md section 2.1.
//!
//! J. Duda, "Asymmetric numeral systems", arXiv:1311.2540; a state of 64 bits, renewed 32 bits at a time.

use std::cell::Cell;

use crate::error::{Error, Result};

/// The least state; the writer begins and the reader ends with it.
const LOWEST_STATE: u64 = 1 << 31;
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
    for step in steps.iter().rev() {
        let frequency = u64::from(step.frequency);
        let bound = (LOWEST_STATE >> step.bits << 32) * frequency;
        if state >= bound {
            words.push(state as u32);
            state >>= 32;
        }
        let (quotient, rest) =
            if frequency == 1 { (state, 0) } else { (state / frequency, state % frequency) };
        state = (quotient << step.bits) + rest + u64::from(step.start);
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
pub(crate) struct Steps<'a> {
    state: u64,
    words: &'a [u8],
}

impl Steps<'_> {
    /// The slot that comes next, of `1 << bits`.
    #[inline(always)]
    pub(crate) fn slot(&self, bits: u8) -> u32 {
        (self.state & ((1 << bits) - 1)) as u32
    }

    /// Goes on behind the slot, which belongs to `step`.
    #[inline(always)]
    pub(crate) fn advance(&mut self, slot: u32, step: Step) -> Option<()> {
        let quotient = self.state >> step.bits;
        let mut state = u64::from(step.frequency) * quotient + u64::from(slot - step.start);
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
    pub(crate) fn raw(&mut self, bits: u8) -> Option<u32> {
        let slot = self.slot(bits);
        self.advance(slot, Step { start: slot, frequency: 1, bits })?;
        Some(slot)
    }
}

fn bad(what: &str) -> Error {
    Error::corrupt(format!("the entropy stream {what}"))
}
