//! Maps by numbers that this crate gives out itself, one after the other: few of them can be made to collide.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::format::hash::Chain;

pub(crate) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

#[derive(Default)]
pub(crate) struct IdHasher(Chain);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0.feed(u64::from(*byte)));
    }

    fn write_u32(&mut self, id: u32) {
        self.0.feed(u64::from(id));
    }

    fn write_u64(&mut self, id: u64) {
        self.0.feed(id);
    }

    fn write_isize(&mut self, variant: isize) {
        self.0.feed(variant as u64);
    }

    fn finish(&self) -> u64 {
        self.0.finish(0)
    }
}
