//! The paths of one frame, numbered: FORMAT.md section 4.

use crate::format::writer::Writer;
use crate::state::schema::{PathId, ROOT, Schema};

/// The nodes of one frame, in the order in which they are first needed.
pub(crate) struct FramePaths<'a> {
    schema: &'a Schema,
    /// By path: its node, 0 for none (and for the root).
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
