//! A state: the table, its position in the stream, and its digest. Writer and reader both own one.

use crate::codec::bundle::Delta;
use crate::codec::changed_keys::ChangedKeys;
use crate::error::{Error, ErrorKind, Result, grouped};
use crate::format::budget::Budget;
use crate::format::header::{Compression, FrameBase, FrameKind, Header, Position};
use crate::frame::container::{self, Contents};
use crate::frame::decode;
use crate::frame::learning::Knowledge;
use crate::state::change_set::ChangeSet;
use crate::state::commit::Preview;
use crate::state::table::{Table, digest};

/// A state and where in its stream it is.
#[derive(Default, Clone)]
pub(crate) struct State {
    pub(crate) table: Table,
    pub(crate) position: Position,
    pub(crate) digest: u64,
    /// Where the state was published, if that was not at `position`: by a writer from which this one goes on.
    pub(crate) resumed_from: Option<Position>,
    /// A frame has led here; before the first the state is empty.
    pub(crate) started: bool,
    /// How many cells were held back when the state was captured; None if it is published as it is.
    pub(crate) held_cells: Option<u64>,
    /// Frames are read back before they are handed out.
    pub(crate) verify: bool,
    /// What the last full frame, and the last delta after it, were found to make a reader hold.
    pub(crate) needs: [u64; 2],
    pub(crate) knowledge: Knowledge,
    /// Names were numbered anew while a frame was applied.
    renumbered: bool,
}

impl State {
    pub(crate) fn new(epoch: u64) -> State {
        let position = Position { epoch, sequence: 0 };
        State { position, digest: digest(std::iter::empty()), ..State::default() }
    }

    pub(crate) fn header(
        &self,
        kind: FrameKind,
        sequence: u64,
        target_digest: u64,
        held_cells: u64,
    ) -> Header {
        Header {
            kind,
            compression: Compression::Stored,
            has_text: false,
            is_bundle: false,
            held_cells: self.held_cells.map(|_| held_cells),
            position: Position { sequence, ..self.position },
            base: match kind {
                FrameKind::Full => FrameBase::empty(),
                FrameKind::Delta => self.as_base(),
            },
            target_digest,
            required_bytes: 0,
            body_length: 0,
        }
    }

    /// Goes on from another's state: the next frame is a delta from it, under a position of this one's own.
    pub(crate) fn resume(&mut self, other: &State) {
        self.table = other.table.clone();
        self.digest = other.digest;
        self.resumed_from = Some(other.position);
        self.started = true;
    }

    fn as_base(&self) -> FrameBase {
        let position = self.resumed_from.unwrap_or(self.position);
        FrameBase { position, digest: self.digest, rows: self.table.rows.len() }
    }

    /// Lets go of names that are no longer used; true if all numbers of keys and paths are others now.
    pub(crate) fn refresh_schema(&mut self) -> bool {
        let refreshed = self.table.refresh_schema() | std::mem::take(&mut self.renumbered);
        if refreshed {
            self.knowledge.clear();
        }
        refreshed
    }

    /// Applies the deltas of a bundle in turn. After an error the state is what it was.
    pub(crate) fn apply_bundle(&mut self, deltas: &[Delta<'_>], budget: &Budget) -> Result<ChangedKeys> {
        let mut next = self.clone();
        for Delta { header, payload, .. } in deltas {
            let mut own = budget.rest();
            own.check_required(header.required_bytes)?;
            let contents = container::read_contents(header, payload, &mut own)?;
            next.apply_body(header, &contents, &mut own)?;
            next.renumbered |= next.refresh_schema();
        }
        let changed_keys = ChangedKeys::between(&mut self.table, &mut next.table);
        *self = next;
        Ok(changed_keys)
    }

    pub(crate) fn advance(&mut self, changes: ChangeSet, preview: &Preview, sequence: u64) {
        self.held_cells = self.held_cells.map(|_| changes.held_cells);
        changes.commit(&mut self.table, preview);
        self.digest = preview.digest;
        self.position.sequence = sequence;
        self.resumed_from = None;
        self.started = true;
    }

    /// Applies a delta's contents to the table, if it leads to the digest that its header names.
    pub(crate) fn apply_body(
        &mut self,
        header: &Header,
        contents: &Contents<'_>,
        budget: &mut Budget,
    ) -> Result<ChangedKeys> {
        check_rows(header, self.table.rows.len())?;
        let changes = decode::read(contents, &mut self.table, budget)?;
        let preview = changes.preview(&self.table);
        if let Err(error) = check_target(header, preview.digest) {
            changes.rollback(&mut self.table);
            return Err(error);
        }
        let changed_keys = ChangedKeys::of(&self.table, &changes);
        self.position.epoch = header.position.epoch;
        self.advance(changes, &preview, header.position.sequence);
        self.held_cells = header.held_cells;
        Ok(changed_keys)
    }
}

/// A delta may only be applied to a snapshot of so many rows.
pub(crate) fn check_rows(header: &Header, rows: usize) -> Result<()> {
    if header.base.rows == rows {
        return Ok(());
    }
    let [base, here] = [header.base.rows, rows].map(grouped);
    Err(Error::new(
        ErrorKind::BaseMismatch,
        format!(
            "the delta was made from a snapshot of {base} rows, this one has {here}; continue from a full frame"
        ),
    ))
}

/// A frame must lead to the state that it names.
pub(crate) fn check_target(header: &Header, digest: u64) -> Result<()> {
    if header.target_digest == digest {
        return Ok(());
    }
    Err(Error::corrupt("digest mismatch after decoding; the frame is damaged"))
}
