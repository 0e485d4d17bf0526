//! The paths of one frame, numbered: FORMAT.md section 4.

use std::collections::HashSet;

use crate::error::Result;
use crate::format::budget::{Budget, KEY, NODE};
use crate::format::reader::Reader;
use crate::format::value::is_text;
use crate::format::writer::Writer;
use crate::state::schema::{PathId, ROOT, Schema};

/// The path ids of one frame, in the order in which the writer first needs them.
pub(crate) struct FramePaths<'a> {
    schema: &'a Schema,
    /// By path of the schema: its id in the frame, 0 for none (and for the root).
    by_path: Vec<u32>,
    paths: Vec<PathId>,
}

impl<'a> FramePaths<'a> {
    pub(crate) fn new(schema: &'a Schema) -> Self {
        FramePaths { schema, by_path: vec![0; schema.paths.len()], paths: vec![ROOT] }
    }

    pub(crate) fn of(&mut self, path: PathId) -> u64 {
        if path != ROOT && self.by_path[path as usize] == 0 {
            self.of(self.schema.paths[path as usize].parent);
            self.by_path[path as usize] = self.paths.len() as u32;
            self.paths.push(path);
        }
        u64::from(self.by_path[path as usize])
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        let frame_paths = || self.paths[1..].iter().map(|path| &self.schema.paths[*path as usize]);
        if self.paths.len() == 1 {
            return;
        }
        let mut number = vec![u32::MAX; self.schema.keys.len()];
        let mut keys: Vec<&[u8]> = Vec::new();
        for frame_path in frame_paths() {
            if number[frame_path.key as usize] == u32::MAX {
                number[frame_path.key as usize] = keys.len() as u32;
                keys.push(&self.schema.keys[frame_path.key as usize]);
            }
        }
        w.size(keys.len());
        w.strings(keys.iter().copied());
        w.size(self.paths.len() - 1);
        let (mut last_parent, mut last_key) = (0, -1);
        for frame_path in frame_paths() {
            let parent = i64::from(self.by_path[frame_path.parent as usize]);
            let key = i64::from(number[frame_path.key as usize]);
            w.svarint(parent - last_parent);
            w.svarint(key - last_key - 1);
            (last_parent, last_key) = (parent, key);
        }
    }
}

/// PATHS as read: the keys, and by path id the id of its parent and the number of its key. Id 0 is the path `()`.
pub(crate) struct PathList<'a> {
    pub(crate) keys: Vec<&'a [u8]>,
    pub(crate) paths: Vec<(usize, usize)>,
}

/// Reads the section; the caller checks how deep the paths nest.
pub(crate) fn read<'a>(mut r: Reader<'a>, budget: &mut Budget) -> Result<PathList<'a>> {
    let mut list = PathList { keys: Vec::new(), paths: vec![(0, 0)] };
    if r.is_empty() {
        return Ok(list);
    }
    let n = r.count("keys")?;
    budget.charge(n as u64, KEY, "keys")?;
    list.keys = r.strings(n)?;
    budget.charge_names(&list.keys)?;
    if !list.keys.iter().all(|key| is_text(key)) {
        return Err(r.corrupt("a key is not UTF-8"));
    }
    let distinct: HashSet<&[u8]> = list.keys.iter().copied().collect();
    if distinct.len() != n {
        return Err(r.corrupt("duplicate key"));
    }
    let n = r.count("paths")?;
    budget.charge(n as u64, NODE, "paths")?;
    let (mut parent, mut key) = (0i64, -1i64);
    let mut seen = HashSet::with_capacity(n);
    for _ in 0..n {
        parent = parent.wrapping_add(r.svarint()?);
        key = key.wrapping_add(r.svarint()?).wrapping_add(1);
        let above = usize::try_from(parent).ok().filter(|id| *id < list.paths.len());
        let number = usize::try_from(key).ok().filter(|number| *number < list.keys.len());
        let (Some(above), Some(number)) = (above, number) else {
            return Err(r.corrupt("a path names a missing parent or key"));
        };
        if !seen.insert((above, number)) {
            return Err(r.corrupt("duplicate path"));
        }
        list.paths.push((above, number));
    }
    r.finish()?;
    Ok(list)
}
