//! The reader's state machine: full frames at any time, deltas only in sequence.

use crate::codec::bundle::deltas_of;
use crate::codec::changed_keys::ChangedKeys;
use crate::codec::state::{State, check_rows};
use crate::error::{Error, Result, grouped};
use crate::format::budget::Budget;
use crate::format::header::{FrameKind, Header};
use crate::frame::container::{self, Contents};

/// A full frame as a state.
pub(crate) fn open_full(frame: &[u8], max_bytes: u64) -> Result<State> {
    let mut budget = Budget::new(max_bytes);
    let (header, payload) = Header::read(frame)?;
    if header.kind != FrameKind::Full {
        return Err(Error::base_mismatch("this is a delta: apply it to the snapshot that it was made from"));
    }
    budget.check_required(header.required_bytes)?;
    let contents = container::read_contents(&header, payload, &mut budget)?;
    state_of_full(&header, &contents, &mut budget)
}

fn state_of_full(header: &Header, contents: &Contents<'_>, budget: &mut Budget) -> Result<State> {
    let mut state = State::new(header.position.epoch);
    state.apply_body(header, contents, budget)?;
    Ok(state)
}

/// The reader's side: full frames at any time, deltas only in sequence.
pub(crate) struct Decoder {
    pub(crate) state: State,
    pub(crate) changed_keys: ChangedKeys,
    pub(crate) max_bytes: u64,
}

impl Decoder {
    pub(crate) fn new(max_bytes: u64) -> Decoder {
        Decoder { state: State::new(0), changed_keys: ChangedKeys::default(), max_bytes }
    }

    /// Symbols that the last frame neither added nor removed and whose record it changed, in the order of the state.
    pub(crate) fn updated(&self) -> impl Iterator<Item = &[u8]> {
        self.changed_keys.updated.iter().map(|row| &*self.state.table.rows[*row as usize].symbol)
    }

    /// Rows with a new record after the last frame, ascending.
    pub(crate) fn changed_rows(&mut self) -> Vec<u32> {
        let table = &mut self.state.table;
        let added = self.changed_keys.added.iter().filter_map(|symbol| table.position(symbol));
        let mut rows: Vec<u32> = added.map(|row| row as u32).collect();
        rows.extend(&self.changed_keys.updated);
        rows.sort_unstable();
        rows
    }

    /// The fewest symbols whose move explains the order of the state after the last frame.
    pub(crate) fn moved(&self) -> Vec<&[u8]> {
        let rows = self.changed_keys.moved();
        rows.into_iter().map(|row| &*self.state.table.rows[row as usize].symbol).collect()
    }

    /// After an error the state is what it was.
    pub(crate) fn apply(&mut self, frame: &[u8]) -> Result<FrameKind> {
        let mut budget = Budget::new(self.max_bytes);
        let (header, payload) = Header::read(frame)?;
        if header.kind == FrameKind::Delta {
            self.check_position(&header)?;
        }
        budget.check_required(header.required_bytes)?;
        let contents = container::read_contents(&header, payload, &mut budget)?;
        match header.kind {
            FrameKind::Full => {
                let mut next = state_of_full(&header, &contents, &mut budget)?;
                self.changed_keys = ChangedKeys::between(&mut self.state.table, &mut next.table);
                self.state = next;
            }
            FrameKind::Delta => {
                self.changed_keys = if header.is_bundle {
                    let deltas = deltas_of(&header, &contents.body, &mut budget)?;
                    self.state.apply_bundle(&deltas, &budget)?
                } else {
                    self.state.apply_body(&header, &contents, &mut budget)?
                };
            }
        }
        Ok(header.kind)
    }

    fn check_position(&self, header: &Header) -> Result<()> {
        let (base, here) = (header.base.position, self.state.position);
        let problem = if !self.state.started {
            "the decoder has no state yet: apply a full frame first".to_string()
        } else if base.epoch != here.epoch {
            format!("the delta was made from a state of epoch {}, this one is of {}", base.epoch, here.epoch)
        } else if base.sequence != here.sequence {
            let [base, here] = [base.sequence, here.sequence].map(|sequence| grouped(sequence as usize));
            format!("the delta was made from the state with sequence {base}, this one is at {here}")
        } else {
            check_base(header, self.state.digest)?;
            return check_rows(header, self.state.table.rows.len());
        };
        Err(Error::base_mismatch(format!("{problem}; continue from a full frame")))
    }
}

/// A delta may only be applied to the state that it was made from.
pub(crate) fn check_base(header: &Header, digest: u64) -> Result<()> {
    if header.base.digest == digest {
        return Ok(());
    }
    Err(Error::base_mismatch(format!(
        "the delta was made from a snapshot with digest {:016x}, this one has {digest:016x}; continue from a full frame",
        header.base.digest
    )))
}
