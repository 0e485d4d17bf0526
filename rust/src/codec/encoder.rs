//! The writer's state machine: captured changes, the frames made of them, and their verification.

use crate::codec::state::{State, check_target};
use crate::codec::tolerance::Tolerances;
use crate::error::{Error, ErrorKind, Result, grouped};
use crate::format::budget::Budget;
use crate::format::header::{FrameKind, Header};
use crate::frame::container::{self, FrameWriter};
use crate::frame::encode::Body;
use crate::frame::learning::Knowledge;
use crate::frame::{decode, encode};
use crate::state::change_set::{Added, ChangeSet, Record};
use crate::state::table::Table;

/// Changes that were captured and are not a frame yet.
pub(crate) struct CapturedChanges {
    ticket: u64,
    changes: ChangeSet,
    kind: FrameKind,
}

/// A state, and at most one captured change set that waits to become a frame.
pub(crate) struct Encoder {
    pub(crate) state: State,
    frame_writer: FrameWriter,
    tolerances: Tolerances,
    pending: Option<CapturedChanges>,
    tickets: u64,
}

impl Encoder {
    pub(crate) fn new(level: i32, epoch: u64, verify: bool, tolerances: Tolerances) -> Result<Encoder> {
        let mut state = State::new(epoch);
        state.verify = verify;
        state.held_cells = (!tolerances.is_empty()).then_some(0);
        let frame_writer = FrameWriter::new(level)?;
        Ok(Encoder { state, frame_writer, tolerances, pending: None, tickets: 0 })
    }

    /// Takes changes out of a captured change set that are within a tolerance of the state, which is the published one.
    pub(crate) fn hold_back(&mut self, changes: &mut ChangeSet) {
        self.tolerances.hold_back(changes, &mut self.state.table);
    }

    /// The first frame is a full one.
    pub(crate) fn kind(&self, full: bool) -> FrameKind {
        if full || !self.state.started { FrameKind::Full } else { FrameKind::Delta }
    }

    /// Keeps captured changes until `finish`. Returns their ticket.
    pub(crate) fn keep(&mut self, changes: ChangeSet, kind: FrameKind) -> u64 {
        self.tickets += 1;
        self.pending = Some(CapturedChanges { ticket: self.tickets, changes, kind });
        self.tickets
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Rolls kept changes back whose ticket is not above this one. Returns true if there were some.
    pub(crate) fn drop_up_to(&mut self, ticket: u64) -> bool {
        let dropped = self.pending.take_if(|pending| pending.ticket <= ticket);
        if let Some(pending) = dropped {
            pending.changes.rollback(&mut self.state.table);
            return true;
        }
        false
    }

    /// Takes the kept changes of a ticket.
    pub(crate) fn take(&mut self, ticket: u64) -> Option<(ChangeSet, FrameKind)> {
        let pending = self.pending.take_if(|pending| pending.ticket == ticket);
        pending.map(|pending| (pending.changes, pending.kind))
    }

    /// Makes the frame of a change set under the next sequence. After an error the state is what it was.
    pub(crate) fn encode(&mut self, changes: ChangeSet, kind: FrameKind) -> Result<(Vec<u8>, FrameKind)> {
        let Some(sequence) = self.state.position.sequence.checked_add(1) else {
            changes.rollback(&mut self.state.table);
            let message = "the sequence has reached its largest value; start a new epoch";
            return Err(Error::new(ErrorKind::TooLarge, message));
        };
        self.state.encode(changes, kind, sequence, &mut self.frame_writer)
    }

    /// The state as a full frame, under the sequence that it has.
    pub(crate) fn full(&mut self) -> Result<Vec<u8>> {
        self.state.full(&mut self.frame_writer)
    }
}

impl State {
    /// Makes the frame of a change set and goes on to its state. Returns the frame and its kind. After an error the
    /// state is what it was.
    pub(crate) fn encode(
        &mut self,
        changes: ChangeSet,
        kind: FrameKind,
        sequence: u64,
        frame_writer: &mut FrameWriter,
    ) -> Result<(Vec<u8>, FrameKind)> {
        let preview = changes.preview(&self.table);
        let frame = self.frame(&changes, preview.digest, kind, sequence, frame_writer);
        match frame {
            Ok(_) => self.advance(changes, &preview, sequence),
            Err(_) => changes.rollback(&mut self.table),
        }
        frame
    }

    /// The frame of a change set that leads to the target digest, and its kind: a full one where a delta does not read
    /// back.
    pub(crate) fn frame(
        &mut self,
        changes: &ChangeSet,
        target: u64,
        kind: FrameKind,
        sequence: u64,
        frame_writer: &mut FrameWriter,
    ) -> Result<(Vec<u8>, FrameKind)> {
        let frame = self.encode_body(changes, target, kind, sequence, frame_writer);
        match frame {
            Err(error) if kind == FrameKind::Delta && error.kind == ErrorKind::Encoding => {
                let full = self.encode_body(changes, target, FrameKind::Full, sequence, frame_writer);
                full.map(|frame| (frame, FrameKind::Full))
            }
            frame => frame.map(|frame| (frame, kind)),
        }
    }

    fn encode_body(
        &mut self,
        changes: &ChangeSet,
        target: u64,
        kind: FrameKind,
        sequence: u64,
        frame_writer: &mut FrameWriter,
    ) -> Result<Vec<u8>> {
        // what was learned from a frame that is refused is forgotten with it
        let mut knowledge = self.knowledge.clone();
        let body = match kind {
            FrameKind::Delta => encode::write(&self.table, changes, self.table.rows.len(), &mut knowledge)?,
            FrameKind::Full => self.encode_full(changes, &mut knowledge)?,
        };
        let header = self.header(kind, sequence, target, changes.held_cells);
        let frame = self.write_frame(header, body, frame_writer, Some(changes))?;
        self.knowledge = knowledge;
        Ok(frame)
    }

    /// The body of a full frame of the state that the change set leads to.
    fn encode_full(&self, changes: &ChangeSet, knowledge: &mut Knowledge) -> Result<Body> {
        let added;
        let changes = if self.table.rows.is_empty() {
            changes
        } else {
            added = target_as_added(&self.table, changes);
            &added
        };
        encode::write(&self.table, changes, 0, knowledge)
    }

    /// The frame of a body, read back if so wanted. `changes` lead to the target that the header names.
    fn write_frame(
        &mut self,
        header: Header,
        body: Body,
        frame_writer: &mut FrameWriter,
        changes: Option<&ChangeSet>,
    ) -> Result<Vec<u8>> {
        let frame = frame_writer.write(header, body)?;
        if !self.verify {
            return Ok(frame);
        }
        self.verify_round_trip(&frame, &header, changes)
            .and_then(|required_bytes| container::with_required_bytes(&frame, required_bytes))
            .map_err(|error| verify_failed(&header, &error))
    }

    /// Reads a frame back from its bytes: against the state a delta, against nothing a full one. The state stays what
    /// it is. Returns what a reader is charged for it.
    pub(crate) fn verify_round_trip(
        &mut self,
        frame: &[u8],
        meant: &Header,
        written: Option<&ChangeSet>,
    ) -> Result<u64> {
        // without a limit: what it leads to is in memory
        let mut budget = Budget::new(u64::MAX);
        let (header, contents) = container::read(frame, &mut budget)?;
        let Header { compression, has_text, body_length, .. } = header;
        if header != (Header { compression, has_text, body_length, ..*meant }) {
            return Err(Error::corrupt("the header is not the one that was meant"));
        }
        let mut read = |table: &mut Table| {
            let changes = decode::read(&contents, table, &mut budget)?;
            // what was written leads to the digest that was meant; the same by another way is right as well
            let same = header.kind == FrameKind::Delta && written.is_some_and(|w| changes.is_same(w, table));
            let reached = if same { meant.target_digest } else { changes.preview(table).digest };
            changes.rollback(table);
            check_target(&header, reached)
        };
        match header.kind {
            FrameKind::Delta => read(&mut self.table)?,
            FrameKind::Full => self.table.without_rows(read)?,
        }
        self.needs = match header.kind {
            FrameKind::Delta => [self.needs[0], budget.spent()],
            FrameKind::Full => [budget.spent(), 0],
        };
        Ok(budget.spent())
    }

    /// Bytes that a reader's limits must allow for the latest frames. Only known of frames that were read back.
    pub(crate) fn required_bytes(&self) -> Option<u64> {
        self.verify.then(|| self.needs.into_iter().max()).flatten()
    }

    /// The state as a full frame, under the sequence number that it has.
    pub(crate) fn full(&mut self, frame_writer: &mut FrameWriter) -> Result<Vec<u8>> {
        let body = self.encode_full(&ChangeSet::default(), &mut Knowledge::default())?;
        let held_cells = self.held_cells.unwrap_or_default();
        let header = self.header(FrameKind::Full, self.position.sequence, self.digest, held_cells);
        self.write_frame(header, body, frame_writer, None)
    }
}

/// The state that a change set leads to, as rows added to nothing. Its blobs are owned by what it is made from.
fn target_as_added(table: &Table, changes: &ChangeSet) -> ChangeSet {
    let mut rows: Vec<Added> = Vec::new();
    let mut target = ChangeSet::default();
    let base = table.rows.len();
    // the records of the base rows, updates laid over them
    let mut starts = vec![0; base];
    for (at, row) in table.rows.iter().enumerate() {
        starts[at] = target.cells.len();
        target.cells.tags.extend_from_slice(&row.tags);
        target.cells.words.extend_from_slice(&row.words);
    }
    for (path, column) in (0..).zip(&changes.updates) {
        for (row, cell) in column.rows.iter().zip(column.new.iter()) {
            let at = *row as usize;
            let shape = &table.schema.shapes[table.rows[at].shape as usize];
            if let Some(position) = shape.position(path) {
                target.cells.set(starts[at] + position, cell);
            }
        }
    }
    let extra = target.cells.len();
    target.cells.tags.extend_from_slice(&changes.cells.tags);
    target.cells.words.extend_from_slice(&changes.cells.words);
    let shifted = |record: Record| Record { start: record.start + extra, ..record };
    for row in changes.retained(base) {
        let at = row as usize;
        let record = match changes.reshaped.binary_search_by_key(&row, |r| r.0) {
            Ok(i) => shifted(changes.reshaped[i].1),
            Err(_) => Record { shape: table.rows[at].shape, start: starts[at] },
        };
        rows.push(Added { symbol: table.rows[at].symbol.clone(), record });
    }
    rows.extend(
        changes
            .added
            .iter()
            .map(|added| Added { symbol: added.symbol.clone(), record: shifted(added.record) }),
    );
    target.added = match &changes.order {
        None => rows,
        Some(order) => {
            let mut rows: Vec<Option<Added>> = rows.into_iter().map(Some).collect();
            order.iter().filter_map(|at| rows[*at as usize].take()).collect()
        }
    };
    target
}

fn verify_failed(header: &Header, error: &Error) -> Error {
    let (kind, sequence) = (header.kind.name(), grouped(header.position.sequence as usize));
    Error::new(
        ErrorKind::Encoding,
        format!(
            "the {kind} frame with sequence {sequence} does not read back ({error}); nothing was handed out and the \
             state is what it was; this is a defect of snapdelta: please report it, with the snapshot if you can"
        ),
    )
}
