//! Keys, paths and shapes by number. A shape is the ordered list of a record's paths, like a hidden class.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::format::hash::{Chain, hash_bytes};
use crate::state::capacity::capacity_after_refusal;

pub(crate) type KeyId = u32;
pub(crate) type PathId = u32;
pub(crate) type ShapeId = u32;

const ABSENT: u32 = u32::MAX;

/// The path `()`.
pub(crate) const ROOT: PathId = 0;

#[derive(Clone)]
pub(crate) struct Path {
    pub(crate) parent: PathId,
    pub(crate) key: KeyId,
    pub(crate) depth: usize,
    pub(crate) hash: u64,
    chain: Chain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Child {
    Leaf,
    /// The number of a dict of this shape.
    Dict(u32),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ShapeEntry {
    pub(crate) key: KeyId,
    pub(crate) child: Child,
}

/// The entries of all dicts one after another, and the range of each dict.
type Tree = (Box<[ShapeEntry]>, Box<[Range<u32>]>);

pub(crate) struct Shape {
    pub(crate) paths: Box<[PathId]>,
    /// Hash of each path, in step with `paths`.
    pub(crate) path_hashes: Box<[u64]>,
    pub(crate) hash: u64,
    /// The entries of all dicts of the record; dict 0 is the record itself. Empty if the record is one leaf.
    entries: Box<[ShapeEntry]>,
    dicts: Box<[Range<u32>]>,
    /// The least path, and for each path from there on its position; empty if they lie too far apart.
    first_path: PathId,
    dense: Box<[u32]>,
    /// Paths in ascending order with their positions.
    sorted: Box<[(PathId, u32)]>,
}

/// A place among the entries of a dict.
#[derive(Clone, Copy)]
pub(crate) struct ShapePlace {
    /// The number of the dict.
    pub(crate) dict: u32,
    pub(crate) at: usize,
}

/// Where the leaves of a shape stand, by position, and its dicts, by number; the record itself is in none.
#[derive(Default)]
pub(crate) struct ShapePlaces {
    pub(crate) leaves: Vec<ShapePlace>,
    pub(crate) dicts: Vec<ShapePlace>,
}

impl Shape {
    pub(crate) fn len(&self) -> usize {
        self.paths.len()
    }

    pub(crate) fn is_leaf(&self) -> bool {
        *self.paths == [ROOT]
    }

    /// Dicts of the record, itself included; none if it is one leaf.
    pub(crate) fn dicts(&self) -> usize {
        self.dicts.len()
    }

    #[inline]
    pub(crate) fn dict(&self, number: u32) -> &[ShapeEntry] {
        let range = &self.dicts[number as usize];
        &self.entries[range.start as usize..range.end as usize]
    }

    /// Where all that is in the record stands.
    pub(crate) fn places(&self) -> ShapePlaces {
        let nowhere = ShapePlace { dict: 0, at: 0 };
        let mut places = ShapePlaces { leaves: Vec::new(), dicts: vec![nowhere; self.dicts()] };
        if self.dicts() > 0 {
            self.add_places(0, &mut places);
        }
        places
    }

    fn add_places(&self, number: u32, places: &mut ShapePlaces) {
        for (at, entry) in self.dict(number).iter().enumerate() {
            let place = ShapePlace { dict: number, at };
            match entry.child {
                Child::Leaf => places.leaves.push(place),
                Child::Dict(below) => {
                    places.dicts[below as usize] = place;
                    self.add_places(below, places);
                }
            }
        }
    }

    #[inline]
    pub(crate) fn position(&self, path: PathId) -> Option<usize> {
        if !self.dense.is_empty() {
            let at = self.dense.get(path.wrapping_sub(self.first_path) as usize)?;
            return (*at != ABSENT).then_some(*at as usize);
        }
        let found = self.sorted.binary_search_by_key(&path, |entry| entry.0);
        found.ok().map(|i| self.sorted[i].1 as usize)
    }
}

/// How many names there were.
pub(crate) struct SchemaMark {
    keys: usize,
    paths: usize,
    shapes: usize,
}

#[derive(Clone)]
pub(crate) struct Schema {
    pub(crate) keys: Vec<Box<[u8]>>,
    key_hashes: Vec<u64>,
    key_index: HashMap<Box<[u8]>, KeyId>,
    pub(crate) paths: Vec<Path>,
    path_index: HashMap<(PathId, KeyId), PathId>,
    pub(crate) shapes: Vec<Arc<Shape>>,
    /// By shape: how many rows have it.
    pub(crate) rows: Vec<u32>,
    shape_index: HashMap<Box<[PathId]>, ShapeId>,
}

impl Default for Schema {
    fn default() -> Self {
        let chain = Chain::default();
        Schema {
            keys: Vec::new(),
            key_hashes: Vec::new(),
            key_index: HashMap::new(),
            paths: vec![Path { parent: ROOT, key: 0, depth: 0, hash: chain.finish(0), chain }],
            path_index: HashMap::new(),
            shapes: Vec::new(),
            rows: Vec::new(),
            shape_index: HashMap::new(),
        }
    }
}

impl Schema {
    pub(crate) fn key(&mut self, bytes: &[u8]) -> KeyId {
        if let Some(&id) = self.key_index.get(bytes) {
            return id;
        }
        let id = self.keys.len() as KeyId;
        self.keys.push(bytes.into());
        self.key_hashes.push(hash_bytes(bytes));
        self.key_index.insert(bytes.into(), id);
        id
    }

    pub(crate) fn path(&mut self, parent: PathId, key: KeyId) -> PathId {
        if let Some(&id) = self.path_index.get(&(parent, key)) {
            return id;
        }
        let id = self.paths.len() as PathId;
        let above = &self.paths[parent as usize];
        let (mut chain, depth) = (above.chain, above.depth + 1);
        chain.feed(self.key_hashes[key as usize]);
        self.paths.push(Path { parent, key, depth, hash: chain.finish(depth), chain });
        self.path_index.insert((parent, key), id);
        id
    }

    /// The path of these keys, if there is one.
    pub(crate) fn find(&self, keys: &[Vec<u8>]) -> Option<PathId> {
        keys.iter().try_fold(ROOT, |path, key| {
            let key = self.key_index.get(&**key)?;
            self.path_index.get(&(path, *key)).copied()
        })
    }

    /// The number here of each shape of another schema; None for one that is not here.
    pub(crate) fn shapes_of(&self, other: &Schema) -> Vec<Option<ShapeId>> {
        let keys: Vec<_> = other.keys.iter().map(|key| self.key_index.get(key).copied()).collect();
        let mut paths = vec![Some(ROOT)];
        // a path has a greater number than the one that it is below
        for path in &other.paths[1..] {
            let place = paths[path.parent as usize].zip(keys[path.key as usize]);
            paths.push(place.and_then(|place| self.path_index.get(&place).copied()));
        }
        let shape = |shape: &Arc<Shape>| {
            let paths: Option<Vec<PathId>> = shape.paths.iter().map(|path| paths[*path as usize]).collect();
            self.shape_index.get(&*paths?).copied()
        };
        other.shapes.iter().map(shape).collect()
    }

    /// True if rows have a dict with keys at this path.
    pub(crate) fn is_dict(&self, path: PathId) -> bool {
        let live = self.shapes.iter().zip(&self.rows).filter(|(_, rows)| **rows > 0);
        live.flat_map(|(shape, _)| &shape.paths).any(|below| {
            let mut below = *below;
            while below != ROOT {
                below = self.paths[below as usize].parent;
                if below == path {
                    return true;
                }
            }
            false
        })
    }

    /// The keys that lead to a path.
    pub(crate) fn keys_of(&self, mut path: PathId) -> Vec<&[u8]> {
        let mut keys = Vec::new();
        while path != ROOT {
            let frame_path = &self.paths[path as usize];
            keys.push(&*self.keys[frame_path.key as usize]);
            path = frame_path.parent;
        }
        keys.reverse();
        keys
    }

    /// The path and what it stands below, from the first key down.
    fn chain_of(&self, mut path: PathId) -> Vec<PathId> {
        let mut chain = Vec::new();
        while path != ROOT {
            chain.push(path);
            path = self.paths[path as usize].parent;
        }
        chain.reverse();
        chain
    }

    /// None if no record can have these paths in this order.
    pub(crate) fn shape(&mut self, paths: &[PathId]) -> Option<ShapeId> {
        if let Some(&id) = self.shape_index.get(paths) {
            return Some(id);
        }
        // none without a path, so `sorted` has a first one
        let (entries, dicts) = self.tree(paths)?;
        let path_hashes: Box<[u64]> = paths.iter().map(|p| self.paths[*p as usize].hash).collect();
        let mut chain = Chain::default();
        path_hashes.iter().for_each(|hash| chain.feed(*hash));
        let mut sorted: Box<[_]> = paths.iter().copied().zip(0..).collect();
        sorted.sort_unstable();
        let id = self.shapes.len() as ShapeId;
        self.shapes.push(Arc::new(Shape {
            paths: paths.into(),
            hash: chain.finish(paths.len()),
            path_hashes,
            entries,
            dicts,
            first_path: sorted[0].0,
            dense: dense_positions(&sorted),
            sorted,
        }));
        self.rows.push(0);
        self.shape_index.insert(paths.into(), id);
        Some(id)
    }

    /// The dicts of a record with these paths.
    fn tree(&self, paths: &[PathId]) -> Option<Tree> {
        if paths == [ROOT] {
            return Some((Box::default(), Box::default()));
        }
        let mut dicts: Vec<Vec<ShapeEntry>> = vec![Vec::new()];
        // every path and prefix met so far: none may come again once left
        let mut seen = std::collections::HashSet::new();
        // the open dicts: (prefix path, number)
        let mut open: Vec<(PathId, u32)> = vec![(ROOT, 0)];
        for &path in paths {
            let chain = self.chain_of(path);
            let (&leaf, above) = chain.split_last()?;
            let shared = above.iter().zip(&open[1..]).take_while(|(a, b)| **a == b.0).count();
            open.truncate(shared + 1);
            for &prefix in &above[shared..] {
                if !seen.insert(prefix) {
                    return None;
                }
                let number = dicts.len() as u32;
                dicts.push(Vec::new());
                self.enter(&mut dicts, &open, prefix, Child::Dict(number));
                open.push((prefix, number));
            }
            if !seen.insert(leaf) {
                return None;
            }
            self.enter(&mut dicts, &open, leaf, Child::Leaf);
        }
        let mut at = 0;
        let ranges = dicts.iter().map(|dict| {
            let start = at;
            at += dict.len() as u32;
            start..at
        });
        Some((ranges.collect::<Vec<_>>(), dicts.concat()))
            .map(|(ranges, entries)| (entries.into(), ranges.into()))
            .filter(|_| !paths.is_empty())
    }

    fn enter(&self, dicts: &mut [Vec<ShapeEntry>], open: &[(PathId, u32)], path: PathId, child: Child) {
        if let Some(&(_, number)) = open.last() {
            let key = self.paths[path as usize].key;
            dicts[number as usize].push(ShapeEntry { key, child });
        }
    }

    pub(crate) fn mark(&self) -> SchemaMark {
        SchemaMark { keys: self.keys.len(), paths: self.paths.len(), shapes: self.shapes.len() }
    }

    /// Forgets all that came after the mark, and is not used.
    pub(crate) fn rollback_to(&mut self, mark: &SchemaMark) {
        if self.keys.len() == mark.keys && self.paths.len() == mark.paths && self.shapes.len() == mark.shapes
        {
            return;
        }
        for key in self.keys.drain(mark.keys..) {
            self.key_index.remove(&key);
        }
        self.key_hashes.truncate(mark.keys);
        for path in self.paths.drain(mark.paths..) {
            self.path_index.remove(&(path.parent, path.key));
        }
        for shape in self.shapes.drain(mark.shapes..) {
            self.shape_index.remove(&shape.paths);
        }
        self.rows.truncate(mark.shapes);
        let [keys, paths, shapes] = [mark.keys, mark.paths, mark.shapes].map(capacity_after_refusal);
        self.keys.shrink_to(keys);
        self.key_hashes.shrink_to(keys);
        self.key_index.shrink_to(keys);
        self.paths.shrink_to(paths);
        self.path_index.shrink_to(paths);
        self.shapes.shrink_to(shapes);
        self.rows.shrink_to(shapes);
        self.shape_index.shrink_to(shapes);
    }

    /// True if most of what is kept here is no longer used: time to start anew.
    pub(crate) fn is_stale(&self) -> bool {
        let live = self.shapes.iter().zip(&self.rows).filter(|(_, rows)| **rows > 0);
        let (shapes, paths) = live.fold((0, 0), |(n, paths), (s, _)| (n + 1, paths + s.len()));
        self.shapes.len() > 256 + 2 * shapes || self.paths.len() > 4096 + 4 * paths
    }
}

/// The positions by path, if the paths lie close together.
fn dense_positions(sorted: &[(PathId, u32)]) -> Box<[u32]> {
    let (first, last) = (sorted[0].0, sorted[sorted.len() - 1].0);
    let span = (last - first) as usize + 1;
    if span > 4 * sorted.len() + 8 {
        return Box::default();
    }
    let mut dense = vec![ABSENT; span];
    for (path, at) in sorted {
        dense[(path - first) as usize] = *at;
    }
    dense.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(schema: &mut Schema, keys: &[&str]) -> PathId {
        keys.iter().fold(ROOT, |parent, key| {
            let key = schema.key(key.as_bytes());
            schema.path(parent, key)
        })
    }

    #[test]
    fn a_shape_knows_its_dicts() {
        let mut schema = Schema::default();
        let all =
            [path(&mut schema, &["a", "x"]), path(&mut schema, &["a", "y", "z"]), path(&mut schema, &["b"])];
        let id = schema.shape(&all);
        assert_eq!(id, schema.shape(&all));
        let shape = &schema.shapes[id.map_or(0, |id| id as usize)];
        let kinds: Vec<_> = shape.dict(0).iter().map(|e| e.child).collect();
        assert_eq!(kinds, [Child::Dict(1), Child::Leaf]);
        assert_eq!(shape.dict(1).len(), 2);
        assert_eq!(shape.position(all[2]), Some(2));
        assert_eq!(shape.position(ROOT), None);
    }

    #[test]
    fn what_no_record_can_have_is_no_shape() {
        let mut schema = Schema::default();
        let ax = path(&mut schema, &["a", "x"]);
        let ay = path(&mut schema, &["a", "y"]);
        let [a, b] = [path(&mut schema, &["a"]), path(&mut schema, &["b"])];
        for bad in
            [vec![], vec![ax, b, ay], vec![a, ax], vec![ax, a], vec![b, b], vec![ROOT, b], vec![b, ROOT]]
        {
            assert_eq!(schema.shape(&bad), None);
        }
        assert!(schema.shape(&[ROOT]).is_some());
    }
}
