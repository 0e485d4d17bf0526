//! Several deltas as one.

use std::collections::HashMap;

use crate::codec::decoder::{Decoder, check_base};
use crate::codec::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::format::header::{FrameKind, Header};
use crate::frame::container::FrameWriter;
use crate::state::change_set::{Added, ChangeSet, Record, Source};
use crate::state::schema::{PathId, ROOT, ShapeId};
use crate::state::table::{Cell, Row, Table};

/// The delta that leads from the base to where the deltas, at least one, lead in turn. The base becomes that state.
pub(crate) fn compose(
    base: &mut State,
    deltas: &[&[u8]],
    max_bytes: u64,
    frame_writer: &mut FrameWriter,
) -> Result<Vec<u8>> {
    let first = deltas.first().copied().unwrap_or_default();
    let (first, _) = Header::read(first)?;
    check_base(&first, base.digest)?;
    let mut decoder = Decoder::new(max_bytes);
    decoder.state.resume(base);
    decoder.state.position = first.base.position;
    for delta in deltas {
        if decoder.apply(delta)? == FrameKind::Full {
            return Err(Error::base_mismatch("a full frame is not a delta: compose what comes after it"));
        }
    }
    let last = &decoder.state;
    base.resumed_from = Some(first.base.position);
    base.position = last.position;
    base.verify = true;
    base.held_cells = last.held_cells;
    let mut changes = changes_between(&mut base.table, &last.table);
    changes.held_cells = last.held_cells.unwrap_or_default();
    let target = last.digest;
    let (frame, kind) = base.encode(changes, FrameKind::Delta, last.position.sequence, frame_writer)?;
    if kind != FrameKind::Delta {
        let message =
            "the composed delta does not read back; this is a defect of snapdelta: please report it";
        return Err(Error::new(ErrorKind::Encoding, message));
    }
    if base.digest == target { Ok(frame) } else { Err(Error::corrupt("the composed delta leads elsewhere")) }
}

/// What leads from one table to another.
fn changes_between(base: &mut Table, target: &Table) -> ChangeSet {
    let mut between = Between {
        changes: ChangeSet::over(base),
        paths: HashMap::from([(ROOT, ROOT)]),
        shapes: HashMap::new(),
        base,
        target,
    };
    let base_rows = between.base.rows.len();
    let mut sources = Vec::with_capacity(target.rows.len());
    for row in &target.rows {
        sources.push(match between.base.position(&row.symbol) {
            Some(at) => {
                between.retained(at as u32, row);
                Source::Base(at as u32)
            }
            None => {
                let record = between.record(row);
                between.changes.added.push(Added { symbol: row.symbol.clone(), record });
                Source::Added(between.changes.added.len() as u32 - 1)
            }
        });
    }
    let mut changes = between.changes;
    changes.sort_updates();
    changes.reshaped.sort_unstable_by_key(|reshaped| reshaped.0);
    changes.set_target(base_rows, &sources);
    changes
}

struct Between<'a> {
    base: &'a mut Table,
    target: &'a Table,
    changes: ChangeSet,
    /// Numbers of the target by those that they have in the base.
    paths: HashMap<PathId, PathId>,
    shapes: HashMap<ShapeId, ShapeId>,
}

impl Between<'_> {
    fn path(&mut self, path: PathId) -> PathId {
        if let Some(known) = self.paths.get(&path) {
            return *known;
        }
        let parent = self.path(self.target.schema.paths[path as usize].parent);
        let key = self.target.schema.paths[path as usize].key;
        let key = self.base.schema.key(&self.target.schema.keys[key as usize]);
        let known = self.base.schema.path(parent, key);
        self.paths.insert(path, known);
        known
    }

    fn shape(&mut self, shape: ShapeId) -> ShapeId {
        if let Some(known) = self.shapes.get(&shape) {
            return *known;
        }
        let paths = &self.target.schema.shapes[shape as usize].paths;
        let paths: Vec<PathId> = paths.iter().map(|path| self.path(*path)).collect();
        // a shape of the target is one here as well
        let known = self.base.schema.shape(&paths).unwrap_or_default();
        self.shapes.insert(shape, known);
        known
    }

    /// A cell of the target as one of the base, which the change set owns.
    fn acquire(&mut self, cell: Cell) -> Cell {
        let acquired = self.base.acquire(cell.tag, self.target.payload(cell));
        self.changes.retain(acquired);
        acquired
    }

    /// A whole record.
    fn record(&mut self, row: &Row) -> Record {
        let record = Record { shape: self.shape(row.shape), start: self.changes.cells.len() };
        for position in 0..row.tags.len() {
            let cell = self.acquire(row.cell(position));
            self.changes.cells.push(cell);
        }
        record
    }

    /// A row that both have, by its position in the base.
    fn retained(&mut self, at: u32, row: &Row) {
        let shape = self.shape(row.shape);
        let old = &self.base.rows[at as usize];
        let old_shape = old.shape;
        if old_shape == shape && self.base.has_cells_of(old, self.target, row) {
            return;
        }
        let reshaped = (old_shape != shape).then(|| self.record(row));
        let paths = self.base.schema.shapes[shape as usize].paths.clone();
        for (position, path) in paths.iter().enumerate() {
            let Some(old) = self.base.cell(at as usize, *path) else { continue };
            let cell = row.cell(position);
            if old.tag == cell.tag && self.base.payload(old) == self.target.payload(cell) {
                continue;
            }
            let new = match reshaped {
                Some(record) => self.changes.cells.get(record.start + position),
                None => self.acquire(cell),
            };
            self.changes.update(*path, at, old, new);
        }
        if let Some(record) = reshaped {
            self.changes.reshaped.push((at, record));
        }
    }
}
