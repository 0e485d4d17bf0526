//! Keys, paths and shapes by the numbers that a frame has for them: FORMAT.md section 4.

use crate::error::Result;
use crate::format::MAX_DEPTH;
use crate::format::budget::{Budget, KEY, NAME_COPIES, NODE};
use crate::format::reader::Reader;
use crate::format::value::is_text;
use crate::format::writer::Writer;
use crate::state::schema::{KeyId, PathId, ROOT, Schema};
use crate::state::table::Row;

const NONE: u32 = u32::MAX;

/// Members of the schema in the order of their numbers in the frame.
#[derive(Default)]
pub(crate) struct Numbering {
    pub(crate) members: Vec<u32>,
    /// By member: its number, or `NONE`.
    numbers: Vec<u32>,
}

impl Numbering {
    fn of_a_schema_with(members: usize) -> Numbering {
        Numbering { members: Vec::new(), numbers: vec![NONE; members] }
    }

    pub(crate) fn number(&self, member: u32) -> Option<u32> {
        self.numbers.get(member as usize).copied().filter(|number| *number != NONE)
    }

    /// Gives a member the next number. False if it has one.
    pub(crate) fn add(&mut self, member: u32) -> bool {
        let at = member as usize;
        if self.numbers.len() <= at {
            self.numbers.resize(at + 1, NONE);
        }
        if self.numbers[at] != NONE {
            return false;
        }
        self.numbers[at] = self.members.len() as u32;
        self.members.push(member);
        true
    }
}

/// The numbers of a frame: those of the base, then those of what the frame lists.
pub(crate) struct FrameSchema {
    pub(crate) keys: Numbering,
    pub(crate) paths: Numbering,
    pub(crate) shapes: Numbering,
    pub(crate) base_keys: usize,
    pub(crate) base_paths: usize,
    pub(crate) base_shapes: usize,
}

impl FrameSchema {
    /// What these rows have, in the order of its first appearance.
    pub(crate) fn of_base(schema: &Schema, rows: &[Row]) -> FrameSchema {
        let mut numbers = FrameSchema {
            keys: Numbering::of_a_schema_with(schema.keys.len()),
            paths: Numbering::of_a_schema_with(schema.paths.len()),
            shapes: Numbering::of_a_schema_with(schema.shapes.len()),
            base_keys: 0,
            base_paths: 0,
            base_shapes: 0,
        };
        numbers.paths.add(ROOT);
        let live = schema.rows.iter().filter(|rows| **rows > 0).count();
        for row in rows {
            if numbers.shapes.add(row.shape) {
                for path in &schema.shapes[row.shape as usize].paths {
                    numbers.add_path(schema, *path);
                }
                if numbers.shapes.members.len() == live {
                    break;
                }
            }
        }
        numbers.base_keys = numbers.keys.members.len();
        numbers.base_paths = numbers.paths.members.len();
        numbers.base_shapes = numbers.shapes.members.len();
        numbers
    }

    /// Numbers a path, its beginnings before it, and their keys.
    pub(crate) fn add_path(&mut self, schema: &Schema, path: PathId) {
        if self.paths.number(path).is_none() {
            let above = &schema.paths[path as usize];
            self.add_path(schema, above.parent);
            self.keys.add(above.key);
            self.paths.add(path);
        }
    }

    pub(crate) fn write_new_paths(&self, w: &mut Writer, schema: &Schema) {
        let new_paths = &self.paths.members[self.base_paths..];
        if new_paths.is_empty() {
            return;
        }
        let new_keys = &self.keys.members[self.base_keys..];
        let keys: Vec<&[u8]> = new_keys.iter().map(|key| &*schema.keys[*key as usize]).collect();
        w.size(keys.len());
        let mut last: &[u8] = &[];
        let mut shared = Vec::with_capacity(keys.len());
        for key in &keys {
            shared.push(last.iter().zip(*key).take_while(|(a, b)| a == b).count());
            last = key;
        }
        shared.iter().for_each(|shared| w.size(*shared));
        w.strings(keys.iter().zip(&shared).map(|(key, shared)| &key[*shared..]));
        w.size(new_paths.len());
        let (mut last_parent, mut last_key) = (0, self.base_keys as i64 - 1);
        // every path that is numbered has a parent and a key that are
        let number = |numbering: &Numbering, member| numbering.number(member).map_or(0, i64::from);
        for path in new_paths {
            let path = &schema.paths[*path as usize];
            let (parent, key) = (number(&self.paths, path.parent), number(&self.keys, path.key));
            w.svarint(parent - last_parent);
            w.svarint(key - last_key - 1);
            (last_parent, last_key) = (parent, key);
        }
    }
}

/// PATHS as read: the new keys, and by new path the path id of its parent and the number of its key.
#[derive(Default)]
pub(crate) struct NewPaths {
    pub(crate) keys: Vec<Box<[u8]>>,
    pub(crate) paths: Vec<(usize, usize)>,
}

impl NewPaths {
    /// Reads the section after a base with so many keys and path ids.
    pub(crate) fn read(
        mut r: Reader<'_>,
        base_keys: usize,
        base_paths: usize,
        budget: &mut Budget,
    ) -> Result<NewPaths> {
        let mut new = NewPaths::default();
        if r.is_empty() {
            return Ok(new);
        }
        let n = r.count("keys")?;
        budget.charge(n as u64, KEY, "keys")?;
        new.keys = read_keys(&mut r, n, budget)?;
        let n = r.count("paths")?;
        budget.charge(n as u64, NODE, "paths")?;
        let (mut parent, mut key) = (0i64, base_keys as i64 - 1);
        for _ in 0..n {
            parent = parent.wrapping_add(r.svarint()?);
            key = key.wrapping_add(r.svarint()?).wrapping_add(1);
            let above = usize::try_from(parent).ok().filter(|id| *id < base_paths + new.paths.len());
            let number = usize::try_from(key).ok().filter(|number| *number < base_keys + new.keys.len());
            let (Some(above), Some(number)) = (above, number) else {
                return Err(r.corrupt("a path names a missing parent or key"));
            };
            new.paths.push((above, number));
        }
        r.finish()?;
        Ok(new)
    }

    /// Brings the keys and paths into the schema and numbers them; `r` tells where they were.
    pub(crate) fn number(
        &self,
        numbers: &mut FrameSchema,
        schema: &mut Schema,
        r: &Reader<'_>,
    ) -> Result<()> {
        for key in &self.keys {
            if !numbers.keys.add(schema.key(key)) {
                return Err(r.corrupt("duplicate key"));
            }
        }
        for (parent, key) in &self.paths {
            let (parent, key): (PathId, KeyId) = (numbers.paths.members[*parent], numbers.keys.members[*key]);
            if schema.paths[parent as usize].depth >= MAX_DEPTH {
                return Err(r.corrupt("nested too deep"));
            }
            if !numbers.paths.add(schema.path(parent, key)) {
                return Err(r.corrupt("duplicate path"));
            }
        }
        Ok(())
    }
}

/// Keys of which each begins like the one before.
fn read_keys(r: &mut Reader<'_>, n: usize, budget: &mut Budget) -> Result<Vec<Box<[u8]>>> {
    let mut shared = Vec::with_capacity(n);
    for _ in 0..n {
        shared.push(r.up_to(u32::MAX as usize, "beginning of a key")?);
    }
    let mut keys: Vec<Box<[u8]>> = Vec::with_capacity(n);
    for (shared, rest) in shared.into_iter().zip(r.strings(n)?) {
        let last: &[u8] = keys.last().map_or(&[], |key| key);
        let Some(beginning) = last.get(..shared) else {
            return Err(r.corrupt("a key shares more bytes than the one before has"));
        };
        budget.charge((shared + rest.len()) as u64, NAME_COPIES, "bytes of names")?;
        let key = [beginning, rest].concat();
        if !is_text(&key) {
            return Err(r.corrupt("a key is not UTF-8"));
        }
        keys.push(key.into());
    }
    Ok(keys)
}
