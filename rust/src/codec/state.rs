//! Writer's and reader's state: a table, its place in the stream, and what may follow.

use crate::error::{Error, ErrorKind, Result, grouped};
use crate::format::budget::Budget;
use crate::format::header::{Compression, FrameKind, Header};
use crate::frame::container::{self, FrameWriter};
use crate::frame::encode::FormulaCache;
use crate::frame::{decode, encode};
use crate::state::change_set::{Added, ChangeSet, Preview, Record};
use crate::state::table::{Table, digest};

/// A state and where in its stream it is.
#[derive(Default)]
pub struct State {
    pub table: Table,
    pub epoch: u64,
    pub sequence: u64,
    pub digest: u64,
    /// A frame has led here; before the first the state is empty.
    pub started: bool,
    /// Frames are read back before they are handed out.
    pub verify: bool,
    /// What the last full frame, and the last delta after it, were found to make a reader hold.
    needs: [u64; 2],
    formulas: FormulaCache,
}

impl State {
    pub fn new(epoch: u64) -> State {
        State { epoch, digest: digest(std::iter::empty()), ..State::default() }
    }

    fn header(&self, kind: FrameKind, sequence: u64, base_digest: u64, target_digest: u64) -> Header {
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

    /// Makes the frame of a change set and goes on to its state. Returns the frame and its kind. After an error the
    /// state is what it was.
    pub fn encode(
        &mut self,
        changes: ChangeSet,
        kind: FrameKind,
        sequence: u64,
        frame_writer: &mut FrameWriter,
    ) -> Result<(Vec<u8>, FrameKind)> {
        let preview = changes.preview(&self.table);
        let mut encode_body = self
            .encode_body(&changes, preview.digest, kind, sequence, frame_writer)
            .map(|frame| (frame, kind));
        if kind == FrameKind::Delta && matches!(&encode_body, Err(error) if error.kind == ErrorKind::Encoding)
        {
            let full = self.encode_body(&changes, preview.digest, FrameKind::Full, sequence, frame_writer);
            encode_body = full.map(|frame| (frame, FrameKind::Full));
        }
        match encode_body {
            Ok(frame) => {
                self.advance(changes, &preview, sequence);
                Ok(frame)
            }
            Err(error) => {
                changes.rollback(&mut self.table);
                Err(error)
            }
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
        let mut formulas = self.formulas.clone();
        let (body, base_digest) = match kind {
            FrameKind::Delta => {
                let base_rows = self.table.rows.len();
                (encode::write(&self.table, changes, base_rows, &mut formulas), self.digest)
            }
            FrameKind::Full => (self.encode_full(changes, &mut formulas), digest(std::iter::empty())),
        };
        let header = self.header(kind, sequence, base_digest, target);
        let frame = self.write_frame(header, body, frame_writer, Some(changes))?;
        self.formulas = formulas;
        Ok(frame)
    }

    /// The body of a full frame of the state that the change set leads to.
    fn encode_full(&self, changes: &ChangeSet, formulas: &mut FormulaCache) -> Vec<u8> {
        let added;
        let changes = if self.table.rows.is_empty() {
            changes
        } else {
            added = target_as_added(&self.table, changes);
            &added
        };
        encode::write(&self.table, changes, 0, formulas)
    }

    /// The frame of a body, read back if so wanted. `changes` lead to the target that the header names.
    fn write_frame(
        &mut self,
        header: Header,
        body: Vec<u8>,
        frame_writer: &mut FrameWriter,
        changes: Option<&ChangeSet>,
    ) -> Result<Vec<u8>> {
        let frame = frame_writer.write(header, &body)?;
        drop(body);
        if self.verify {
            self.verify_round_trip(&frame, &header, changes)
                .map_err(|error| verify_failed(&header, &error))?;
        }
        Ok(frame)
    }

    /// Reads a frame back from its bytes: against the state a delta, against nothing a full one. The state stays what
    /// it is.
    fn verify_round_trip(&mut self, frame: &[u8], meant: &Header, written: Option<&ChangeSet>) -> Result<()> {
        // without a limit: what it leads to is in memory
        let mut budget = Budget::new(u64::MAX);
        let (header, body) = container::read(frame, &mut budget)?;
        if header != (Header { compression: header.compression, body_length: header.body_length, ..*meant }) {
            return Err(Error::corrupt_at(0, "the header is not the one that was meant"));
        }
        let mut read = |table: &mut Table| {
            let changes = decode::read(&body, table, &mut budget)?;
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
        Ok(())
    }

    /// Bytes that a reader's limits must allow for the latest frames. Only known of frames that were read back.
    pub fn required_bytes(&self) -> Option<u64> {
        self.verify.then(|| self.needs.into_iter().max()).flatten()
    }

    /// Lets go of names that are no longer used; true if all numbers of keys and paths are others now.
    pub fn refresh_schema(&mut self) -> bool {
        let refreshed = self.table.refresh_schema();
        if refreshed {
            self.formulas.clear();
        }
        refreshed
    }

    fn advance(&mut self, changes: ChangeSet, preview: &Preview, sequence: u64) {
        changes.commit(&mut self.table, preview);
        self.digest = preview.digest;
        self.sequence = sequence;
        self.started = true;
    }

    /// The state as a full frame, under the sequence number that it has.
    pub fn full(&mut self, frame_writer: &mut FrameWriter) -> Result<Vec<u8>> {
        let body = self.encode_full(&ChangeSet::default(), &mut FormulaCache::new());
        let empty = digest(std::iter::empty());
        self.write_frame(
            self.header(FrameKind::Full, self.sequence, empty, self.digest),
            body,
            frame_writer,
            None,
        )
    }

    /// Applies a delta's body to the table, if it leads to the digest that its header names.
    pub fn apply_body(&mut self, header: &Header, body: &[u8], budget: &mut Budget) -> Result<ChangedKeys> {
        let changes = decode::read(body, &mut self.table, budget)?;
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

/// Symbols that a frame touched.
#[derive(Default)]
pub struct ChangedKeys {
    pub added: Vec<Box<[u8]>>,
    pub removed: Vec<Box<[u8]>>,
    /// Rows of the new state that were there and have another record now.
    pub updated: Vec<u32>,
}

impl ChangedKeys {
    pub fn of(table: &Table, changes: &ChangeSet) -> ChangedKeys {
        let base = table.rows.len();
        let updated = changes.updated(base);
        // by place in the reference, then in the target
        let retained = changes.retained(base);
        let in_reference = |place: &u32| {
            let row = retained.get(*place as usize);
            row.is_some_and(|row| updated[*row as usize])
        };
        let updated = match &changes.order {
            None => (0..retained.len() as u32).filter(in_reference).collect(),
            Some(order) => {
                (0..).zip(order).filter(|(_, place)| in_reference(place)).map(|(at, _)| at).collect()
            }
        };
        let symbol = |row: &u32| table.rows[*row as usize].symbol.clone();
        ChangedKeys {
            added: changes.added.iter().map(|added| added.symbol.clone()).collect(),
            removed: changes.removed.iter().map(symbol).collect(),
            updated,
        }
    }

    /// Between two states that no delta joins.
    fn between(old: &mut Table, new: &mut Table) -> ChangedKeys {
        let mut changed_keys = ChangedKeys::default();
        for at in 0..new.rows.len() {
            let row = &new.rows[at];
            match old.position(&row.symbol) {
                None => changed_keys.added.push(row.symbol.clone()),
                Some(before) if old.rows[before].hash != row.hash => changed_keys.updated.push(at as u32),
                Some(_) => {}
            }
        }
        for row in &old.rows {
            if new.position(&row.symbol).is_none() {
                changed_keys.removed.push(row.symbol.clone());
            }
        }
        changed_keys
    }
}

/// The state that a change set leads to, as rows added to nothing. Its blobs are owned by what it is made from.
fn target_as_added(table: &Table, changes: &ChangeSet) -> ChangeSet {
    let mut rows: Vec<Added> = Vec::new();
    let mut encode_full = ChangeSet::default();
    let base = table.rows.len();
    // the records of the base rows, updates laid over them
    let mut starts = vec![0; base];
    for (at, row) in table.rows.iter().enumerate() {
        starts[at] = encode_full.cells.len();
        encode_full.cells.tags.extend_from_slice(&row.tags);
        encode_full.cells.words.extend_from_slice(&row.words);
    }
    for (path, column) in (0..).zip(&changes.updates) {
        for (row, cell) in column.rows.iter().zip(column.new.iter()) {
            let at = *row as usize;
            let shape = &table.schema.shapes[table.rows[at].shape as usize];
            if let Some(position) = shape.position(path) {
                encode_full.cells.set(starts[at] + position, cell);
            }
        }
    }
    let extra = encode_full.cells.len();
    encode_full.cells.tags.extend_from_slice(&changes.cells.tags);
    encode_full.cells.words.extend_from_slice(&changes.cells.words);
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
    encode_full.added = match &changes.order {
        None => rows,
        Some(order) => {
            let mut rows: Vec<Option<Added>> = rows.into_iter().map(Some).collect();
            order.iter().filter_map(|at| rows[*at as usize].take()).collect()
        }
    };
    encode_full
}

fn verify_failed(header: &Header, error: &Error) -> Error {
    let (kind, sequence) = (header.kind.name(), grouped(header.sequence as usize));
    Error::new(
        ErrorKind::Encoding,
        format!(
            "the {kind} frame with sequence {sequence} does not read back ({error}); nothing was handed out and the \
             state is what it was; this is a defect of snapdelta: please report it, with the snapshot if you can"
        ),
    )
}

pub fn base_mismatch(message: String) -> Error {
    Error::new(ErrorKind::BaseMismatch, message)
}

/// A full frame as a state.
pub fn open_full(frame: &[u8], max_bytes: u64) -> Result<State> {
    let mut budget = Budget::new(max_bytes);
    let (header, body) = container::read(frame, &mut budget)?;
    if header.kind != FrameKind::Full {
        return Err(base_mismatch("this is a delta: apply it to the snapshot that it was made from".into()));
    }
    state_of_full(&header, &body, &mut budget)
}

fn state_of_full(header: &Header, body: &[u8], budget: &mut Budget) -> Result<State> {
    let mut state = State::new(header.epoch);
    if header.base_digest != state.digest {
        return Err(Error::corrupt_at(24, "a full frame is made from the empty snapshot"));
    }
    state.apply_body(header, body, budget)?;
    Ok(state)
}

/// The reader's side: full frames at any time, deltas only in sequence.
pub struct Decoder {
    pub state: State,
    pub changed_keys: ChangedKeys,
    max_bytes: u64,
}

impl Decoder {
    pub fn new(max_bytes: u64) -> Decoder {
        Decoder { state: State::new(0), changed_keys: ChangedKeys::default(), max_bytes }
    }

    /// Symbols whose record the last frame changed, in the order of the state.
    pub fn updated(&self) -> impl Iterator<Item = &[u8]> {
        self.changed_keys.updated.iter().map(|row| &*self.state.table.rows[*row as usize].symbol)
    }

    /// After an error the state is what it was.
    pub fn apply(&mut self, frame: &[u8]) -> Result<FrameKind> {
        let mut budget = Budget::new(self.max_bytes);
        let (header, body) = container::read(frame, &mut budget)?;
        match header.kind {
            FrameKind::Full => {
                let mut next = state_of_full(&header, &body, &mut budget)?;
                self.changed_keys = ChangedKeys::between(&mut self.state.table, &mut next.table);
                self.state = next;
            }
            FrameKind::Delta => {
                self.check_position(&header)?;
                self.changed_keys = self.state.apply_body(&header, &body, &mut budget)?;
            }
        }
        Ok(header.kind)
    }

    fn check_position(&self, header: &Header) -> Result<()> {
        let here = &self.state;
        let problem = if !here.started {
            "the decoder has no state yet: apply a full frame first".to_string()
        } else if header.epoch != here.epoch {
            format!("the delta is of epoch {}, the state of {}", header.epoch, here.epoch)
        } else if Some(header.sequence) != here.sequence.checked_add(1) {
            format!(
                "the delta has sequence {}, the state is at {}",
                grouped(header.sequence as usize),
                grouped(here.sequence as usize)
            )
        } else {
            return check_base(header, here.digest);
        };
        Err(base_mismatch(format!("{problem}; continue from a full frame")))
    }
}

/// A delta may only be applied to the state that it was made from.
pub fn check_base(header: &Header, digest: u64) -> Result<()> {
    if header.base_digest == digest {
        return Ok(());
    }
    Err(base_mismatch(format!(
        "the delta was made from a snapshot with digest {:016x}, this one has {digest:016x}; continue from a full frame",
        header.base_digest
    )))
}

/// A frame must lead to the state that it names.
pub fn check_target(header: &Header, digest: u64) -> Result<()> {
    if header.target_digest == digest {
        return Ok(());
    }
    Err(Error::corrupt_at(32, "the result has not the digest that the frame names: the frame is damaged"))
}
