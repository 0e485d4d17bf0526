//! Fetching ahead: what a walk will read is brought into the cache some blocks of records before it is read.
//!
//! A record is reached level by level: its dict's head, its table of keys and values, the values, the tables of the
//! dicts among them, their values. Each level is fetched one block earlier than the next, so that no fetch waits for the one
//! before it. Where objects lie in the order in which they are read this costs a little; on a fragmented heap it
//! halves the time of a walk.

use crate::python::ffi::object::{Dict, Pair, Walk};

/// Records that are fetched together.
const BLOCK: usize = 8;
/// Levels, and so blocks, that the fetching is ahead.
const LEVELS: usize = 5;

/// The records of a walk, some of which are wanted.
pub(crate) struct Prefetcher<'w, 'a> {
    walk: &'w Walk<'w>,
    records: &'a [Pair<'w>],
    /// By record; None: all.
    wanted: Option<&'a [bool]>,
    /// Where a record is expected to have dicts.
    places: Vec<usize>,
}

impl<'w, 'a> Prefetcher<'w, 'a> {
    pub(crate) fn new(walk: &'w Walk<'w>, records: &'a [Pair<'w>], wanted: Option<&'a [bool]>) -> Self {
        let prefetcher = Prefetcher { walk, records, wanted, places: Vec::new() };
        // the first blocks have nothing before them
        (0..LEVELS).for_each(|block| (0..LEVELS - block).for_each(|level| prefetcher.level(level, block)));
        prefetcher
    }

    /// Tells where records have dicts from here on.
    pub(crate) fn expect(&mut self, places: impl Iterator<Item = usize>) {
        self.places.clear();
        self.places.extend(places);
    }

    pub(crate) fn is_wanted(&self, at: usize) -> bool {
        self.wanted.is_none_or(|wanted| wanted.get(at) == Some(&true))
    }

    /// To be called before a record is read.
    #[inline(always)]
    pub(crate) fn before(&self, at: usize) {
        if at.is_multiple_of(BLOCK) {
            let block = at / BLOCK;
            (0..LEVELS).for_each(|level| self.level(level, block + LEVELS - level));
        }
    }

    fn level(&self, level: usize, block: usize) {
        let start = (block * BLOCK).min(self.records.len());
        let end = (start + BLOCK).min(self.records.len());
        for at in (start..end).filter(|at| self.is_wanted(*at)) {
            let Pair { key, value } = self.records[at];
            if level == 0 {
                key.prefetch();
                value.prefetch();
            } else if let Some(dict) = Dict::of(value, self.walk.types) {
                self.record(level, dict);
            }
        }
    }

    fn record(&self, level: usize, dict: Dict<'w>) {
        if level == 1 {
            return dict.prefetch_table();
        }
        let pairs = dict.entries(self.walk.types).unwrap_or_default();
        if level == 2 {
            return pairs.iter().for_each(|pair| pair.value.prefetch());
        }
        // the places ascend: a narrow record after a wide one has few of them
        let inner = self.places.iter().map_while(|place| pairs.get(*place));
        for dict in inner.filter_map(|pair| Dict::of(pair.value, self.walk.types)) {
            if level == 3 {
                dict.prefetch_table();
            } else {
                let pairs = dict.entries(self.walk.types).unwrap_or_default();
                pairs.iter().for_each(|pair| pair.value.prefetch());
            }
        }
    }
}
