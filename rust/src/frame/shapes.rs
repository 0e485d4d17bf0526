//! Shapes that the base has not, and what becomes of the rows that get another one: FORMAT.md section 5.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::budget::{Budget, MEMBER, SHAPE, SHAPE_DICT, SHAPE_PATH};
use crate::format::reader::Reader;
use crate::format::writer::Writer;
use crate::frame::paths::FrameSchema;
use crate::state::change_set::ChangeSet;
use crate::state::permutation::longest_increasing;
use crate::state::schema::{PathId, Schema, Shape, ShapeId};
use crate::state::table::Table;

/// What leads from one shape to another.
#[derive(PartialEq, Eq, Hash)]
struct Edit<P> {
    /// Positions in the old shape.
    removed: Vec<u32>,
    /// Positions in the new shape, and the paths there.
    inserted: Vec<u32>,
    paths: Vec<P>,
}

impl Edit<PathId> {
    fn between(old: &Shape, new: &Shape) -> Edit<PathId> {
        let both: Vec<u32> =
            new.paths.iter().filter_map(|path| old.position(*path)).map(|at| at as u32).collect();
        let mut stays = longest_increasing(&both).into_iter();
        let mut edit = Edit { removed: Vec::new(), inserted: Vec::new(), paths: Vec::new() };
        let mut next_kept = 0;
        for (at, path) in (0..).zip(&new.paths) {
            match old.position(*path).filter(|_| stays.next() == Some(true)) {
                Some(position) => {
                    edit.removed.extend(next_kept..position as u32);
                    next_kept = position as u32 + 1;
                }
                None => {
                    edit.inserted.push(at);
                    edit.paths.push(*path);
                }
            }
        }
        edit.removed.extend(next_kept..old.len() as u32);
        edit
    }

    fn len(&self) -> usize {
        self.removed.len() + self.inserted.len()
    }
}

impl Edit<usize> {
    fn read(r: &mut Reader<'_>, ids: &mut PathIds, budget: &mut Budget) -> Result<Edit<usize>> {
        let limit = u32::MAX as usize;
        let removed = r.counted_gaps(limit)?;
        budget.charge(removed.len() as u64, MEMBER, "paths in edits")?;
        let inserted = r.counted_gaps(limit)?;
        budget.charge(inserted.len() as u64, SHAPE_PATH, "paths in edits")?;
        let paths = ids.read(r, inserted.len())?;
        Ok(Edit { removed, inserted, paths })
    }

    /// The paths that it makes of a shape's, charged before. None if a position is out of range.
    fn apply(
        &self,
        old: &[PathId],
        numbers: &FrameSchema,
        budget: &mut Budget,
    ) -> Result<Option<Vec<PathId>>> {
        budget.charge(1, SHAPE, "shapes")?;
        budget.charge((old.len() + self.paths.len()) as u64, SHAPE_PATH, "paths in shapes")?;
        if self.removed.last().is_some_and(|last| *last as usize >= old.len()) {
            return Ok(None);
        }
        let length = old.len() - self.removed.len() + self.inserted.len();
        if self.inserted.last().is_some_and(|last| *last as usize >= length) {
            return Ok(None);
        }
        let mut removed = self.removed.iter().peekable();
        let mut kept =
            (0..).zip(old).filter(|(at, _)| removed.next_if_eq(&at).is_none()).map(|(_, path)| *path);
        let mut inserted = self.inserted.iter().zip(&self.paths).peekable();
        let path_at = |at: u32| match inserted.next_if(|(position, _)| **position == at) {
            Some((_, id)) => Some(numbers.paths.members[*id]),
            None => kept.next(),
        };
        Ok(Some((0..length as u32).filter_map(path_at).collect()))
    }
}

/// Writes SHAPES. All paths of the new shapes get their numbers.
pub(crate) fn write(table: &Table, changes: &ChangeSet, numbers: &mut FrameSchema) -> Writer {
    let mut w = Writer::default();
    if changes.reshaped.is_empty() && changes.added.is_empty() {
        return w;
    }
    let mut writer = ShapeWriter { schema: &table.schema, ids: PathIds::after_base(numbers), numbers };
    let (count, new_shapes) = writer.new_shapes(changes);
    w.size(count);
    w.raw(&new_shapes.bytes);
    writer.edits(&mut w, table, changes);
    for run in changes.added.chunk_by(|a, b| a.record.shape == b.record.shape) {
        w.size(writer.shape_number(run[0].record.shape));
        w.size(run.len());
    }
    w
}

struct ShapeWriter<'a> {
    schema: &'a Schema,
    numbers: &'a mut FrameSchema,
    ids: PathIds,
}

impl ShapeWriter<'_> {
    fn shape_number(&self, shape: ShapeId) -> usize {
        // the caller has numbered it
        self.numbers.shapes.number(shape).map_or(0, |number| number as usize)
    }

    /// The shapes of added rows that the base has not, and how many.
    fn new_shapes(&mut self, changes: &ChangeSet) -> (usize, Writer) {
        let (mut count, mut w) = (0, Writer::default());
        let mut last = self.numbers.shapes.members.last().copied();
        for added in &changes.added {
            let id = added.record.shape;
            if self.numbers.shapes.add(id) {
                count += 1;
                let shape = &self.schema.shapes[id as usize];
                let edit = last.map(|last| (last, Edit::between(&self.schema.shapes[last as usize], shape)));
                match edit.filter(|(_, edit)| 2 * edit.len() < shape.len()) {
                    Some((last, edit)) => {
                        w.size(self.shape_number(id) - self.shape_number(last));
                        self.edit(&mut w, &edit);
                    }
                    None => {
                        w.size(0);
                        w.size(shape.len());
                        self.paths(&mut w, &shape.paths);
                    }
                }
            }
            last = Some(id);
        }
        (count, w)
    }

    /// The edits that lead to the shapes of reshaped rows, and which row has which.
    fn edits(&mut self, w: &mut Writer, table: &Table, changes: &ChangeSet) {
        let mut list = Writer::default();
        let mut edits: HashMap<Edit<PathId>, usize> = HashMap::new();
        let mut known: HashMap<(ShapeId, ShapeId), usize> = HashMap::new();
        let mut numbers = Vec::with_capacity(changes.reshaped.len());
        for (row, record) in &changes.reshaped {
            let pair = (table.rows[*row as usize].shape, record.shape);
            numbers.push(*known.entry(pair).or_insert_with(|| {
                let [old, new] = [pair.0, pair.1].map(|shape| &self.schema.shapes[shape as usize]);
                let next = edits.len();
                match edits.entry(Edit::between(old, new)) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        self.edit(&mut list, new.key());
                        *new.insert(next)
                    }
                }
            }));
        }
        w.size(edits.len());
        w.raw(&list.bytes);
        w.size(changes.reshaped.len());
        w.gaps(changes.reshaped.iter().map(|(row, _)| *row));
        let mut named = 0;
        for number in numbers {
            if number == named {
                named += 1;
                w.size(0);
            } else {
                w.size(number + 1);
            }
        }
    }

    fn edit(&mut self, w: &mut Writer, edit: &Edit<PathId>) {
        w.counted_gaps(&edit.removed);
        w.counted_gaps(&edit.inserted);
        self.paths(w, &edit.paths);
    }

    fn paths(&mut self, w: &mut Writer, paths: &[PathId]) {
        for path in paths {
            self.numbers.add_path(self.schema, *path);
            let id = self.numbers.paths.number(*path).map_or(0, i64::from);
            w.svarint(id - self.ids.last - 1);
            self.ids.last = id;
        }
    }
}

/// Path ids as SHAPES has them, each against the one before.
struct PathIds {
    last: i64,
    /// How many path ids there are; None where the base is not known, and so no id.
    limit: Option<usize>,
}

impl PathIds {
    fn after_base(numbers: &FrameSchema) -> PathIds {
        PathIds { last: numbers.base_paths as i64 - 1, limit: Some(numbers.paths.members.len()) }
    }

    fn of_unknown_base() -> PathIds {
        PathIds { last: 0, limit: None }
    }

    /// The caller has charged so many.
    fn read(&mut self, r: &mut Reader<'_>, n: usize) -> Result<Vec<usize>> {
        let mut ids = Vec::with_capacity(n);
        for _ in 0..n {
            self.last = self.last.wrapping_add(r.svarint()?).wrapping_add(1);
            let Some(limit) = self.limit else { continue };
            match usize::try_from(self.last).ok().filter(|id| *id < limit) {
                Some(id) => ids.push(id),
                None => return Err(r.corrupt("a shape names a path that is not there")),
            }
        }
        Ok(ids)
    }
}

/// A new shape as read: its path ids, or how far before it the shape is that an edit makes it of.
enum NewShape {
    Written(Vec<usize>),
    Edited(usize, Edit<usize>),
}

/// SHAPES as read.
#[derive(Default)]
pub(crate) struct ShapeList {
    new_shapes: Vec<NewShape>,
    edits: Vec<Edit<usize>>,
    /// Rows of the base with the number of their edit.
    pub(crate) reshaped: Vec<(u32, usize)>,
    /// Runs of added rows: the number of their shape, and how many.
    runs: Vec<(usize, usize)>,
}

impl ShapeList {
    /// Reads the section of a frame with so many rows in the base and so many added ones; `numbers` are those of the
    /// base and of PATHS, where the base is known.
    pub(crate) fn read(
        mut r: Reader<'_>,
        base_rows: usize,
        added: usize,
        numbers: Option<&FrameSchema>,
        budget: &mut Budget,
    ) -> Result<ShapeList> {
        let mut list = ShapeList::default();
        if r.is_empty() {
            return if added == 0 { Ok(list) } else { Err(r.corrupt("added rows have no shape")) };
        }
        let mut ids = numbers.map_or_else(PathIds::of_unknown_base, PathIds::after_base);
        let n = r.count("shapes")?;
        budget.charge(n as u64, SHAPE, "shapes")?;
        for _ in 0..n {
            list.new_shapes.push(match r.up_to(u32::MAX as usize, "distance of a shape")? {
                0 => {
                    let n = r.count("paths in a shape")?;
                    budget.charge(n as u64, SHAPE_PATH, "paths in shapes")?;
                    NewShape::Written(ids.read(&mut r, n)?)
                }
                distance => NewShape::Edited(distance, Edit::read(&mut r, &mut ids, budget)?),
            });
        }
        let n = r.count("edits")?;
        budget.charge(n as u64, SHAPE, "edits")?;
        for _ in 0..n {
            list.edits.push(Edit::read(&mut r, &mut ids, budget)?);
        }
        let mut named = 0;
        for row in r.counted_gaps(base_rows)? {
            let number = match r.up_to(named, "edit")? {
                0 => named,
                number => number - 1,
            };
            if number >= list.edits.len() {
                return Err(r.corrupt("a row names an edit that is not there"));
            }
            named = named.max(number + 1);
            list.reshaped.push((row, number));
        }
        let shapes = numbers.map_or(usize::MAX, |numbers| numbers.base_shapes + list.new_shapes.len());
        let mut left = added;
        while left > 0 {
            let last = shapes.checked_sub(1).ok_or_else(|| r.corrupt("added rows have no shape"))?;
            let shape = r.up_to(last, "shape")?;
            let run = r.up_to(left, "run")?;
            if run == 0 {
                return Err(r.corrupt("a run of shapes is empty"));
            }
            list.runs.push((shape, run));
            left -= run;
        }
        r.finish()?;
        Ok(list)
    }

    /// The shapes of reshaped rows, by base position, then those of the added rows. They are brought into the schema.
    pub(crate) fn records(
        &self,
        table: &mut Table,
        numbers: &mut FrameSchema,
        budget: &mut Budget,
    ) -> Result<Vec<(Option<u32>, ShapeId)>> {
        for new in &self.new_shapes {
            let paths = match new {
                NewShape::Written(ids) => {
                    Some(ids.iter().map(|id| numbers.paths.members[*id]).collect::<Vec<PathId>>())
                }
                NewShape::Edited(distance, edit) => {
                    let shapes = &numbers.shapes.members;
                    let source = shapes.len().checked_sub(*distance);
                    let source =
                        source.ok_or_else(|| Error::corrupt("an edit of a shape that is not there"))?;
                    let shape = Arc::clone(&table.schema.shapes[shapes[source] as usize]);
                    edit.apply(&shape.paths, numbers, budget)?
                }
            };
            let shape = intern(&mut table.schema, paths, budget)?;
            if !numbers.shapes.add(shape) {
                return Err(Error::corrupt("duplicate shape"));
            }
        }
        let mut made: HashMap<(ShapeId, usize), ShapeId> = HashMap::new();
        let mut records = Vec::with_capacity(self.reshaped.len());
        for (row, edit) in &self.reshaped {
            let old = table.rows[*row as usize].shape;
            let shape = match made.get(&(old, *edit)) {
                Some(shape) => *shape,
                None => {
                    let paths = Arc::clone(&table.schema.shapes[old as usize]);
                    let paths = self.edits[*edit].apply(&paths.paths, numbers, budget)?;
                    let shape = intern(&mut table.schema, paths, budget)?;
                    if shape == old {
                        return Err(Error::corrupt("an edit changes nothing"));
                    }
                    made.insert((old, *edit), shape);
                    shape
                }
            };
            records.push((Some(*row), shape));
        }
        for (shape, run) in &self.runs {
            records.extend(std::iter::repeat_n((None, numbers.shapes.members[*shape]), *run));
        }
        Ok(records)
    }
}

fn intern(schema: &mut Schema, paths: Option<Vec<PathId>>, budget: &mut Budget) -> Result<ShapeId> {
    let shape = paths.and_then(|paths| schema.shape(&paths));
    let shape = shape.ok_or_else(|| Error::corrupt("no record can have this shape"))?;
    // a shape has no more dicts than there are paths, which were charged
    let dicts = schema.shapes[shape as usize].dicts();
    budget.charge(dicts as u64, SHAPE_DICT, "dicts in shapes")?;
    Ok(shape)
}
