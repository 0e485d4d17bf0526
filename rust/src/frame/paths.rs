//! The paths of one frame, numbered: FORMAT.md section 4.

use crate::format::writer::Writer;
use crate::state::schema::{Names, PathId, ROOT};

/// The nodes of one frame, in the order in which they are first needed.
pub struct Nodes<'a> {
    names: &'a Names,
    /// By path: its node, 0 for none (and for the root).
    by_path: Vec<u32>,
    paths: Vec<PathId>,
}

impl<'a> Nodes<'a> {
    pub fn new(names: &'a Names) -> Self {
        Nodes { names, by_path: vec![0; names.paths.len()], paths: vec![ROOT] }
    }

    pub fn of(&mut self, path: PathId) -> u64 {
        if path != ROOT && self.by_path[path as usize] == 0 {
            self.of(self.names.paths[path as usize].parent);
            self.by_path[path as usize] = self.paths.len() as u32;
            self.paths.push(path);
        }
        u64::from(self.by_path[path as usize])
    }

    pub fn write(&self, w: &mut Writer) {
        let nodes = || self.paths[1..].iter().map(|path| &self.names.paths[*path as usize]);
        if self.paths.len() == 1 {
            return;
        }
        let mut number = vec![u32::MAX; self.names.keys.len()];
        let mut keys: Vec<&[u8]> = Vec::new();
        for node in nodes() {
            if number[node.key as usize] == u32::MAX {
                number[node.key as usize] = keys.len() as u32;
                keys.push(&self.names.keys[node.key as usize]);
            }
        }
        w.size(keys.len());
        w.strings(keys.iter().copied());
        w.size(self.paths.len() - 1);
        let (mut last_parent, mut last_key) = (0, -1);
        for node in nodes() {
            let parent = i64::from(self.by_path[node.parent as usize]);
            let key = i64::from(number[node.key as usize]);
            w.sv(parent - last_parent);
            w.sv(key - last_key - 1);
            (last_parent, last_key) = (parent, key);
        }
    }
}
