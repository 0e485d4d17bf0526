//! A state: the table, its position in the stream, and its digest. Writer and reader both own one.

use crate::codec::changed_keys::ChangedKeys;
use crate::error::{Error, Result};
use crate::format::budget::Budget;
use crate::format::header::{Compression, FrameKind, Header};
use crate::frame::container::Contents;
use crate::frame::decode;
use crate::frame::encode::FormulaCache;
use crate::state::change_set::{ChangeSet, Preview};
use crate::state::table::{Table, digest};

/// A state and where in its stream it is.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) table: Table,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) digest: u64,
    /// A frame has led here; before the first the state is empty.
    pub(crate) started: bool,
    /// Frames are read back before they are handed out.
    pub(crate) verify: bool,
    /// What the last full frame, and the last delta after it, were found to make a reader hold.
    pub(crate) needs: [u64; 2],
    pub(crate) formulas: FormulaCache,
}

impl State {
    pub(crate) fn new(epoch: u64) -> State {
        State { epoch, digest: digest(std::iter::empty()), ..State::default() }
    }

    pub(crate) fn header(
        &self,
        kind: FrameKind,
        sequence: u64,
        base_digest: u64,
        target_digest: u64,
    ) -> Header {
        Header {
            kind,
            compression: Compression::Stored,
            epoch: self.epoch,
            sequence,
            base_digest,
            target_digest,
            body_length: 0,
        }
    }

    /// Lets go of names that are no longer used; true if all numbers of keys and paths are others now.
    pub(crate) fn refresh_schema(&mut self) -> bool {
        let refreshed = self.table.refresh_schema();
        if refreshed {
            self.formulas.clear();
        }
        refreshed
    }

    pub(crate) fn advance(&mut self, changes: ChangeSet, preview: &Preview, sequence: u64) {
        changes.commit(&mut self.table, preview);
        self.digest = preview.digest;
        self.sequence = sequence;
        self.started = true;
    }

    /// Applies a delta's contents to the table, if it leads to the digest that its header names.
    pub(crate) fn apply_body(
        &mut self,
        header: &Header,
        contents: &Contents<'_>,
        budget: &mut Budget,
    ) -> Result<ChangedKeys> {
        let changes = decode::read(contents, &mut self.table, budget)?;
        let preview = changes.preview(&self.table);
        if let Err(error) = check_target(header, preview.digest) {
            changes.rollback(&mut self.table);
            return Err(error);
        }
        let changed_keys = ChangedKeys::of(&self.table, &changes);
        self.epoch = header.epoch;
        self.advance(changes, &preview, header.sequence);
        Ok(changed_keys)
    }
}

/// A frame must lead to the state that it names.
pub(crate) fn check_target(header: &Header, digest: u64) -> Result<()> {
    if header.target_digest == digest {
        return Ok(());
    }
    Err(Error::corrupt_at(32, "digest mismatch after decoding; the frame is damaged"))
}
