//! Writer's and reader's state without Python: seeded sequences of snapshots, every frame read back and compared.

// a test says what it expected
#![allow(clippy::expect_used)]

use std::collections::BTreeMap;

use snapdelta::codec::{Decoder, State};
use snapdelta::error::ErrorKind;
use snapdelta::format::header::Kind;
use snapdelta::format::limits::DEFAULT_MAX_BYTES;
use snapdelta::format::value::{Payload, Tag, tag, text_cell};
use snapdelta::frame::Sealer;
use snapdelta::table::Table;
use snapdelta::table::changes::{Added, ChangeSet, Record, Source};
use snapdelta::table::names::{PathId, ROOT};

/// SplitMix64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

#[derive(Clone, PartialEq, Debug)]
struct Value(Tag, Vec<u8>, u64);

type Fields = Vec<(String, Value)>;
type Snapshot = Vec<(String, Fields)>;

fn value(random: &mut Random) -> Value {
    let word = |tag, word| Value(tag, Vec::new(), word);
    match random.below(8) {
        0 => word(tag::NONE, 0),
        1 => word(tag::INT, random.below(1000).wrapping_sub(500)),
        2 => word(tag::FLOAT, (random.below(100_000) as f64 / 100.0).to_bits()),
        3 => word(tag::FLOAT, random.next()),
        4 | 5 => {
            let text = format!("text {}", random.below(30)).repeat(random.below(3) as usize + 1);
            match text_cell(text.as_bytes()) {
                (tag, Payload::Word(w)) => word(tag, w),
                (tag, Payload::Blob(bytes)) => Value(tag, bytes.to_vec(), 0),
            }
        }
        6 => word(tag::DIGITS, random.below(1 << 40)),
        _ => word(tag::TRUE, 0),
    }
}

fn fields(random: &mut Random) -> Fields {
    let n = 1 + random.below(9);
    let all = (0..n).filter(|_| random.below(8) > 0).map(|i| (format!("f{i}"), i)).collect::<Vec<_>>();
    if all.is_empty() {
        return vec![("f0".into(), value(random))];
    }
    all.into_iter().map(|(name, _)| (name, value(random))).collect()
}

fn step(random: &mut Random, last: &Snapshot) -> Snapshot {
    let mut next = last.clone();
    next.retain(|_| random.below(20) > 0);
    for (_, record) in &mut next {
        if random.below(40) == 0 {
            *record = fields(random);
        }
        for field in record.iter_mut() {
            if random.below(4) == 0 {
                field.1 = value(random);
            }
        }
    }
    let known: BTreeMap<String, ()> = next.iter().map(|(symbol, _)| (symbol.clone(), ())).collect();
    for _ in 0..random.below(6) {
        let symbol = format!("S{}", random.below(400));
        if !known.contains_key(&symbol) && next.iter().all(|(other, _)| *other != symbol) {
            next.push((symbol, fields(random)));
        }
    }
    if random.below(3) == 0 && !next.is_empty() {
        let (from, to) = (random.below(next.len() as u64), random.below(next.len() as u64));
        let moved = next.remove(from as usize);
        next.insert(to as usize, moved);
    }
    next
}

/// What the Python walk does, the slow way.
fn changes(table: &mut Table, next: &Snapshot) -> ChangeSet {
    let mut changes = ChangeSet::default();
    let mut target = Vec::new();
    for (symbol, record) in next {
        let base = table.position(symbol.as_bytes());
        let mut cells = Vec::new();
        for (name, value) in record {
            let key = table.names.key(name.as_bytes());
            let path: PathId = table.names.path(ROOT, key);
            let payload = if value.1.is_empty() { Payload::Word(value.2) } else { Payload::Blob(&value.1) };
            let cell = table.acquire(value.0, payload);
            changes.own(cell);
            cells.push((path, cell));
        }
        let paths: Vec<PathId> = cells.iter().map(|cell| cell.0).collect();
        let shape = table.names.shape(&paths).expect("a flat record has a shape");
        let record = Record { shape, start: changes.cells.len() };
        match base {
            None => {
                target.push(Source::Added(changes.added.len() as u32));
                cells.iter().for_each(|cell| changes.cells.push(cell.1));
                changes.added.push(Added { symbol: symbol.as_bytes().into(), record });
            }
            Some(row) => {
                target.push(Source::Base(row as u32));
                let same = table.rows[row].shape == shape;
                for (path, new) in &cells {
                    match table.cell(row, *path) {
                        Some(old) if old != *new => changes.update(*path, row as u32, old, *new),
                        Some(_) if same => changes.spare(*new),
                        _ => {}
                    }
                }
                if !same {
                    cells.iter().for_each(|cell| changes.cells.push(cell.1));
                    changes.reshaped.push((row as u32, record));
                }
            }
        }
    }
    changes.sort_updates();
    changes.reshaped.sort_unstable_by_key(|reshaped| reshaped.0);
    changes.set_target(table.rows.len(), &target);
    changes
}

fn contents(table: &Table) -> Snapshot {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let record = |row: &snapdelta::table::Row| {
        let paths = &table.names.shapes[row.shape as usize].paths;
        let cell = |(position, path): (usize, &PathId)| {
            let cell = row.cell(position);
            let value = match table.payload(cell) {
                Payload::Word(word) => Value(cell.tag, Vec::new(), word),
                Payload::Blob(bytes) => Value(cell.tag, bytes.to_vec(), 0),
            };
            (text(table.names.keys_of(*path)[0]), value)
        };
        paths.iter().enumerate().map(cell).collect()
    };
    table.rows.iter().map(|row| (text(&row.symbol), record(row))).collect()
}

#[test]
fn any_sequence_of_snapshots_comes_back() {
    for seed in 0..12 {
        let mut random = Random(seed);
        let mut writer = State::new(seed);
        let mut sealer = Sealer::new(3).expect("a level that zstd has");
        let mut reader = Decoder::new(DEFAULT_MAX_BYTES);
        let mut snapshot: Snapshot = (0..150).map(|i| (format!("S{i}"), fields(&mut random))).collect();
        for sequence in 1..40 {
            snapshot = step(&mut random, &snapshot);
            let changes = changes(&mut writer.table, &snapshot);
            let full = sequence == 1 || random.below(7) == 0;
            let kind = if full { Kind::Full } else { Kind::Delta };
            let frame = writer.encode(changes, kind, sequence, &mut sealer).expect("a frame").0;
            reader.apply(&frame).expect("its own frame");
            assert_eq!(contents(&writer.table), snapshot, "writer, seed {seed}, frame {sequence}");
            assert_eq!(contents(&reader.state.table), snapshot, "reader, seed {seed}, frame {sequence}");
            assert_eq!(reader.state.digest, reader.state.table.digest());
            assert_eq!(reader.state.table.pool.size(), writer.table.pool.size());
        }
    }
}

#[test]
fn a_damaged_frame_changes_nothing() {
    let mut random = Random(99);
    let mut writer = State::new(1);
    let mut sealer = Sealer::new(3).expect("a level that zstd has");
    let mut reader = Decoder::new(DEFAULT_MAX_BYTES);
    let mut snapshot: Snapshot = (0..40).map(|i| (format!("S{i}"), fields(&mut random))).collect();
    let first = changes(&mut writer.table, &snapshot);
    reader.apply(&writer.encode(first, Kind::Full, 1, &mut sealer).expect("a frame").0).expect("full");
    let before = contents(&reader.state.table);
    let held = reader.state.table.pool.size();
    snapshot = step(&mut random, &snapshot);
    let second = changes(&mut writer.table, &snapshot);
    let frame = writer.encode(second, Kind::Delta, 2, &mut sealer).expect("a frame").0;
    for at in 0..frame.len() {
        let error = reader.apply(&frame[..at]).expect_err("a piece");
        assert_eq!(error.kind, ErrorKind::Corrupt);
    }
    assert_eq!(contents(&reader.state.table), before);
    assert_eq!(reader.state.table.pool.size(), held);
    reader.apply(&frame).expect("the whole frame");
    let again = reader.apply(&frame).expect_err("a frame that came before");
    assert_eq!(again.kind, ErrorKind::BaseMismatch);
}
