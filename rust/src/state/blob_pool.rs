//! Blobs by number, each stored once and counted: equal numbers are equal blobs.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;

use crate::format::hash::hash_bytes;
use crate::state::capacity::capacity_after_refusal;

#[derive(Clone)]
struct PooledBlob {
    bytes: Box<[u8]>,
    hash: u64,
    holders: u32,
    key: Key,
}

/// Where a blob is found in the index: keyed, so that hostile blobs cannot be made to collide.
#[derive(Clone, Copy)]
struct Key(u32);

impl Key {
    fn new(hasher: &RandomState, bytes: &[u8]) -> Key {
        let mut hasher = hasher.build_hasher();
        hasher.write(bytes);
        Key(hasher.finish() as u32)
    }

    /// The table takes its places from the low bits and its tags from the high ones.
    fn hash(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

#[derive(Default, Clone)]
pub(crate) struct BlobPool {
    entries: Vec<PooledBlob>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: RandomState,
    bytes: usize,
}

impl BlobPool {
    /// The number of a blob; the caller holds it until `release`.
    pub(crate) fn acquire(&mut self, bytes: &[u8]) -> u64 {
        let key = Key::new(&self.hasher, bytes);
        let entries = &mut self.entries;
        if let Some(&id) = self.index.find(key.hash(), |&id| *entries[id as usize].bytes == *bytes) {
            entries[id as usize].holders += 1;
            return u64::from(id);
        }
        let entry = PooledBlob { bytes: bytes.into(), hash: hash_bytes(bytes), holders: 1, key };
        self.bytes += bytes.len();
        let id = match self.free.pop() {
            Some(id) => {
                entries[id as usize] = entry;
                id
            }
            None => {
                entries.push(entry);
                (entries.len() - 1) as u32
            }
        };
        self.index.insert_unique(key.hash(), id, |&id| entries[id as usize].key.hash());
        u64::from(id)
    }

    pub(crate) fn retain(&mut self, id: u64) {
        self.entries[id as usize].holders += 1;
    }

    pub(crate) fn release(&mut self, id: u64) {
        let entry = &mut self.entries[id as usize];
        entry.holders -= 1;
        if entry.holders > 0 {
            return;
        }
        if let Ok(found) = self.index.find_entry(entry.key.hash(), |&other| u64::from(other) == id) {
            found.remove();
        }
        self.bytes -= entry.bytes.len();
        entry.bytes = Box::default();
        self.free.push(id as u32);
    }

    #[inline]
    pub(crate) fn get(&self, id: u64) -> &[u8] {
        &self.entries[id as usize].bytes
    }

    #[inline]
    pub(crate) fn hash(&self, id: u64) -> u64 {
        self.entries[id as usize].hash
    }

    /// How many numbers were given out.
    pub(crate) fn mark(&self) -> usize {
        self.entries.len()
    }

    /// Forgets the numbers given out since the mark, which nobody holds any more.
    pub(crate) fn rollback_to(&mut self, mark: usize) {
        if self.entries.len() == mark {
            return;
        }
        self.entries.truncate(mark);
        self.free.retain(|id| (*id as usize) < mark);
        self.entries.shrink_to(capacity_after_refusal(mark));
        self.free.shrink_to(capacity_after_refusal(self.free.len()));
        let entries = &self.entries;
        self.index.shrink_to(capacity_after_refusal(mark), |&id| entries[id as usize].key.hash());
    }

    /// Number of distinct blobs, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.entries.len() - self.free.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_shared_counted_and_forgotten() {
        let mut pool = BlobPool::default();
        let a = pool.acquire(b"one");
        assert_eq!(pool.acquire(b"one"), a);
        let b = pool.acquire(b"two");
        assert_ne!(a, b);
        pool.release(a);
        assert_eq!(pool.get(a), b"one");
        pool.release(a);
        assert_eq!(pool.size(), (1, 3));
        assert_eq!(pool.acquire(b"three"), a);
        assert_eq!(pool.get(b), b"two");
    }
}
