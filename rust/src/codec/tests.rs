//! Tests the state of writer and reader without Python: it reads back and compares every frame of seeded snapshots.

// a test says what it expected
#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use crate::codec::compose::compose;
use crate::codec::decoder::Decoder;
use crate::codec::state::State;
use crate::error::ErrorKind;
use crate::format::budget::{Budget, DEFAULT_MAX_BYTES};
use crate::format::header::{FrameKind, Header, Position};
use crate::format::value::{Payload, Tag, tag, text_cell};
use crate::frame::container::{self, Contents, Fault, FrameWriter};
use crate::frame::row_order::tests::keys_both_ways;
use crate::state::change_set::{Added, ChangeSet, Record, Source};
use crate::state::schema::{PathId, ROOT};
use crate::state::table::Table;

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
                (tag, Payload::Fixed64(w)) => word(tag, w),
                (tag, Payload::Bytes(bytes)) => Value(tag, bytes.to_vec(), 0),
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
    let known: BTreeSet<String> = next.iter().map(|(symbol, _)| symbol.clone()).collect();
    for _ in 0..random.below(6) {
        let symbol = format!("S{}", random.below(400));
        if !known.contains(&symbol) && next.iter().all(|(other, _)| *other != symbol) {
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
            let key = table.schema.key(name.as_bytes());
            let path: PathId = table.schema.path(ROOT, key);
            let payload =
                if value.1.is_empty() { Payload::Fixed64(value.2) } else { Payload::Bytes(&value.1) };
            let cell = table.acquire(value.0, payload);
            changes.retain(cell);
            cells.push((path, cell));
        }
        let paths: Vec<PathId> = cells.iter().map(|cell| cell.0).collect();
        let shape = table.schema.shape(&paths).expect("a flat record has a shape");
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
                        Some(_) if same => changes.discard(*new),
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
    let record = |row: &crate::state::table::Row| {
        let paths = &table.schema.shapes[row.shape as usize].paths;
        let cell = |(position, path): (usize, &PathId)| {
            let cell = row.cell(position);
            let value = match table.payload(cell) {
                Payload::Fixed64(word) => Value(cell.tag, Vec::new(), word),
                Payload::Bytes(bytes) => Value(cell.tag, bytes.to_vec(), 0),
            };
            (text(table.schema.keys_of(*path)[0]), value)
        };
        paths.iter().enumerate().map(cell).collect()
    };
    table.rows.iter().map(|row| (text(&row.symbol), record(row))).collect()
}

/// All of a writer's state that can be told, from its place to what its table holds.
fn told(state: &State) -> (Snapshot, [u64; 3], [usize; 6], bool) {
    let State { table, position: Position { epoch, sequence }, digest, started, .. } = state;
    let schema = &table.schema;
    let (blobs, bytes) = table.pool.size();
    let held =
        [schema.keys.len(), schema.paths.len(), schema.shapes.len(), blobs, bytes, table.memory_bytes()];
    (contents(table), [*epoch, *sequence, *digest], held, *started)
}

/// A verified frame as it is without verification: it does not say what a reader needs.
fn unmeasured(frame: &[u8]) -> Vec<u8> {
    let (header, _) = Header::read(frame).expect("a frame");
    assert!(header.required_bytes > 0);
    container::with_required_bytes(frame, 0).expect("a frame")
}

#[test]
fn any_sequence_of_snapshots_comes_back() {
    for seed in 0..12 {
        let mut random = Random(seed);
        let mut writer = State::new(seed);
        let mut verified = State::new(seed);
        verified.verify = true;
        let mut frame_writer = FrameWriter::new(3).expect("a level that zstd has");
        let mut reader = Decoder::new(DEFAULT_MAX_BYTES);
        let mut snapshot: Snapshot = (0..150).map(|i| (format!("S{i}"), fields(&mut random))).collect();
        for sequence in 1..40 {
            snapshot = step(&mut random, &snapshot);
            let twin = changes(&mut verified.table, &snapshot);
            let changes = changes(&mut writer.table, &snapshot);
            let full = sequence == 1 || random.below(7) == 0;
            let kind = if full { FrameKind::Full } else { FrameKind::Delta };
            let frame = writer.encode(changes, kind, sequence, &mut frame_writer).expect("a frame").0;
            let proven = verified.encode(twin, kind, sequence, &mut frame_writer).expect("a verified frame");
            assert_eq!((unmeasured(&proven.0), proven.1), (frame.clone(), kind));
            assert_eq!(
                unmeasured(&verified.full(&mut frame_writer).expect("a verified state")),
                writer.full(&mut frame_writer).expect("a state")
            );
            assert_eq!(told(&verified), told(&writer));
            reader.apply(&frame).expect("its own frame");
            assert_eq!(contents(&writer.table), snapshot, "writer, seed {seed}, frame {sequence}");
            assert_eq!(contents(&reader.state.table), snapshot, "reader, seed {seed}, frame {sequence}");
            assert_eq!(reader.state.digest, reader.state.table.digest());
            assert_eq!(reader.state.table.pool.size(), writer.table.pool.size());
        }
    }
}

#[test]
fn sort_keys_of_a_sample_are_those_of_all_rows() {
    for seed in 0..8 {
        let mut random = Random(seed);
        let mut state = State::new(seed);
        let mut frame_writer = FrameWriter::new(3).expect("a level that zstd has");
        let mut snapshot: Snapshot = (0..60).map(|i| (format!("S{i}"), fields(&mut random))).collect();
        let mut different = 0;
        for sequence in 1..12 {
            snapshot = step(&mut random, &snapshot);
            let changes = changes(&mut state.table, &snapshot);
            for path in 0..state.table.schema.paths.len() as PathId {
                let [one_by_one, at_once] = keys_both_ways(&state.table, &changes, path);
                assert_eq!(one_by_one, at_once, "seed {seed}, snapshot {sequence}, path {path}");
                different += at_once.iter().collect::<BTreeSet<_>>().len();
            }
            state.encode(changes, FrameKind::Delta, sequence, &mut frame_writer).expect("a frame");
        }
        assert!(different > 300, "{different}");
    }
}

#[test]
fn a_damaged_frame_changes_nothing() {
    let mut random = Random(99);
    let mut writer = State::new(1);
    let mut frame_writer = FrameWriter::new(3).expect("a level that zstd has");
    let mut reader = Decoder::new(DEFAULT_MAX_BYTES);
    let mut snapshot: Snapshot = (0..40).map(|i| (format!("S{i}"), fields(&mut random))).collect();
    let first = changes(&mut writer.table, &snapshot);
    reader
        .apply(&writer.encode(first, FrameKind::Full, 1, &mut frame_writer).expect("a frame").0)
        .expect("full");
    let before = contents(&reader.state.table);
    let held = reader.state.table.pool.size();
    snapshot = step(&mut random, &snapshot);
    let second = changes(&mut writer.table, &snapshot);
    let frame = writer.encode(second, FrameKind::Delta, 2, &mut frame_writer).expect("a frame").0;
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

/// The frame with another header or body, sealed as if nothing were wrong.
fn resealed(frame: &[u8], change: impl Fn(&mut Header, &mut Vec<u8>)) -> Vec<u8> {
    let (mut header, Contents { mut body, text }) =
        container::read(frame, &mut Budget::new(u64::MAX)).expect("a frame");
    change(&mut header, &mut body);
    FrameWriter::new(3)
        .and_then(|mut frame_writer| frame_writer.write_parts(header, &body, text))
        .expect("a frame")
}

/// What may befall a frame that is sealed; `other` is a frame of other contents.
fn faults(other: Vec<u8>) -> Vec<(&'static str, Fault)> {
    fn header(change: fn(&mut Header)) -> Fault {
        Box::new(move |frame| resealed(&frame, |header, _| change(header)))
    }
    let other = move |header: &mut Header, body: &mut Vec<u8>| {
        let (_, contents) = container::read(&other, &mut Budget::new(u64::MAX)).expect("a frame");
        header.compression = crate::format::header::Compression::Stored;
        *body = contents.body;
    };
    vec![
        ("nothing", Box::new(|_| Vec::new())),
        ("cut", Box::new(|frame| frame[..frame.len() - 1].to_vec())),
        (
            "flipped",
            Box::new(|mut frame| {
                let last = frame.len() - 1;
                frame[last] ^= 1;
                frame
            }),
        ),
        ("epoch", header(|header| header.position.epoch += 1)),
        ("sequence", header(|header| header.position.sequence += 1)),
        ("base", header(|header| header.base.digest ^= 1)),
        ("target", header(|header| header.target_digest ^= 1)),
        ("empty body", Box::new(|frame| resealed(&frame, |_, body| body.clear()))),
        ("longer body", Box::new(|frame| resealed(&frame, |_, body| body.push(1)))),
        (
            "last byte",
            Box::new(|frame| {
                resealed(&frame, |_, body| {
                    if let Some(last) = body.last_mut() {
                        *last ^= 1;
                    }
                })
            }),
        ),
        ("other contents", Box::new(move |frame| resealed(&frame, &other))),
    ]
}

/// Two snapshots, and a third whose frames have names, blobs and a shape that the others have not.
fn three() -> [Snapshot; 3] {
    let mut random = Random(7);
    let first: Snapshot = (0..60).map(|i| (format!("S{i}"), fields(&mut random))).collect();
    let second = step(&mut random, &first);
    let mut other = step(&mut random, &first);
    for (at, (_, record)) in other.iter_mut().enumerate().take(20) {
        let text = format!("a text of its own, number {at}");
        record.insert(0, ("a key of its own".into(), Value(tag::TEXT, text.into_bytes(), 0)));
    }
    [first, second, other]
}

/// A verified writer that has sent a first frame, and what it did that with.
fn begun(first: &Snapshot) -> (State, FrameWriter) {
    let mut state = State::new(3);
    state.verify = true;
    let mut frame_writer = FrameWriter::new(3).expect("a level that zstd has");
    let changes = changes(&mut state.table, first);
    state.encode(changes, FrameKind::Full, 1, &mut frame_writer).expect("a full frame");
    (state, frame_writer)
}

fn send(
    state: &mut State,
    frame_writer: &mut FrameWriter,
    next: &Snapshot,
    kind: FrameKind,
) -> crate::error::Result<(Vec<u8>, FrameKind)> {
    let changes = changes(&mut state.table, next);
    state.encode(changes, kind, state.position.sequence + 1, frame_writer)
}

#[test]
fn a_delta_that_does_not_read_back_becomes_a_full_frame() {
    let [first, second, other] = three();
    let (mut elsewhere, mut frame_writer) = begun(&first);
    let (wrong, _) = send(&mut elsewhere, &mut frame_writer, &other, FrameKind::Delta).expect("a delta");
    for (name, fault) in faults(wrong) {
        let ((mut writer, mut frame_writer), (mut twin, mut twins)) = (begun(&first), begun(&first));
        let is_delta =
            |frame: &[u8]| Header::read(frame).is_ok_and(|(header, _)| header.kind == FrameKind::Delta);
        frame_writer.fault = Some(Box::new(move |frame| if is_delta(&frame) { fault(frame) } else { frame }));
        let made = send(&mut writer, &mut frame_writer, &second, FrameKind::Delta).expect("a full frame");
        let asked = send(&mut twin, &mut twins, &second, FrameKind::Full).expect("a full frame");
        assert_eq!(made, asked, "{name}");
        assert_eq!(made.1, FrameKind::Full);
        assert_eq!(told(&writer), told(&twin), "{name}");
        // it goes on as if the delta had never been tried
        frame_writer.fault = None;
        let next = send(&mut writer, &mut frame_writer, &first, FrameKind::Delta).expect("a delta");
        assert_eq!(next, send(&mut twin, &mut twins, &first, FrameKind::Delta).expect("a delta"), "{name}");
        assert_eq!(told(&writer), told(&twin), "{name}");
    }
}

#[test]
fn a_composed_delta_that_does_not_read_back_is_an_error() {
    let [first, second, _] = three();
    let (mut writer, mut frame_writer) = begun(&first);
    let (delta, _) = send(&mut writer, &mut frame_writer, &second, FrameKind::Delta).expect("a delta");
    let (mut base, _) = begun(&first);
    frame_writer.fault = Some(Box::new(|mut frame| {
        if Header::read(&frame).is_ok_and(|(header, _)| header.kind == FrameKind::Delta) {
            frame.pop();
        }
        frame
    }));
    let error =
        compose(&mut base, &[&delta], DEFAULT_MAX_BYTES, &mut frame_writer).expect_err("a full frame");
    assert_eq!(error.kind, ErrorKind::Encoding);
    frame_writer.fault = None;
    let (mut base, _) = begun(&first);
    let frame = compose(&mut base, &[&delta], DEFAULT_MAX_BYTES, &mut frame_writer).expect("a delta");
    assert!(Header::read(&frame).is_ok_and(|(header, _)| header.kind == FrameKind::Delta));
}

#[test]
fn a_full_frame_that_does_not_read_back_is_an_error() {
    let [first, second, other] = three();
    let (mut elsewhere, _) = begun(&other);
    let wrong = elsewhere.full(&mut FrameWriter::new(3).expect("a level that zstd has")).expect("a frame");
    // a full frame does not name its base
    for (name, fault) in faults(wrong).into_iter().filter(|(name, _)| *name != "base") {
        let ((mut writer, mut frame_writer), (mut twin, mut twins)) = (begun(&first), begun(&first));
        // what a capture brings of names stays, as after every capture that is given up
        changes(&mut twin.table, &second).rollback(&mut twin.table);
        frame_writer.fault = Some(fault);
        let state = writer.full(&mut frame_writer).expect_err("a refused state");
        let full =
            send(&mut writer, &mut frame_writer, &second, FrameKind::Full).expect_err("a refused frame");
        let delta = send(&mut writer, &mut frame_writer, &second, FrameKind::Delta)
            .expect_err("a refused delta, and full");
        for (error, sequence) in [(state, 1), (full, 2), (delta, 2)] {
            assert_eq!(error.kind, ErrorKind::Encoding, "{name}");
            let message = error.to_string();
            assert!(message.contains(&format!("full frame with sequence {sequence}")), "{message}");
            assert!(message.contains("nothing was handed out") && message.contains("report"), "{message}");
        }
        assert_eq!(told(&writer), told(&twin), "{name}");
        frame_writer.fault = None;
        for next in [&second, &first, &second] {
            let made = send(&mut writer, &mut frame_writer, next, FrameKind::Delta).expect("a delta");
            assert_eq!(made, send(&mut twin, &mut twins, next, FrameKind::Delta).expect("a delta"), "{name}");
        }
        assert_eq!(told(&writer), told(&twin), "{name}");
    }
}

#[test]
fn a_first_frame_that_is_refused_leaves_an_empty_state() {
    let [first, ..] = three();
    let mut writer = State::new(3);
    writer.verify = true;
    let mut frame_writer = FrameWriter::new(3).expect("a level that zstd has");
    frame_writer.fault = Some(Box::new(|_| Vec::new()));
    let refused = send(&mut writer, &mut frame_writer, &first, FrameKind::Full).expect_err("a refused frame");
    assert_eq!(refused.kind, ErrorKind::Encoding);
    assert!(!writer.started && writer.table.rows.is_empty());
    assert_eq!((writer.position.sequence, writer.table.pool.size()), (0, (0, 0)));
    frame_writer.fault = None;
    let made = send(&mut writer, &mut frame_writer, &first, FrameKind::Full).expect("a frame");
    let (mut plain, mut frame_writer) = (State::new(3), FrameWriter::new(3).expect("a level that zstd has"));
    let plain = send(&mut plain, &mut frame_writer, &first, FrameKind::Full).expect("a frame");
    assert_eq!((unmeasured(&made.0), made.1), plain);
}

#[test]
fn no_flipped_byte_of_a_body_gets_through() {
    let [first, second, _] = three();
    let ((mut writer, mut frame_writer), (mut proof, _)) = (begun(&first), begun(&first));
    let begin = proof.full(&mut frame_writer).expect("a full frame");
    let (frame, _) = send(&mut writer, &mut frame_writer, &second, FrameKind::Delta).expect("a delta");
    let (meant, Contents { body, .. }) =
        container::read(&frame, &mut Budget::new(u64::MAX)).expect("a frame");
    let written = changes(&mut proof.table, &second);
    let required_bytes = proof.verify_round_trip(&frame, &meant, Some(&written)).expect("the frame itself");
    assert_eq!(meant.required_bytes, required_bytes);
    let held = told(&proof);
    let mut refused = 0;
    for at in 0..body.len() {
        let wrong = resealed(&frame, |_, body| body[at] ^= 1 << (at % 8));
        let mut reader = Decoder::new(DEFAULT_MAX_BYTES);
        reader.apply(&begin).expect("a full frame");
        let is_refused = proof.verify_round_trip(&wrong, &meant, Some(&written)).is_err();
        assert_eq!(is_refused, proof.verify_round_trip(&wrong, &meant, None).is_err(), "byte {at}");
        assert_eq!(is_refused, reader.apply(&wrong).is_err(), "byte {at}");
        // what leads to the same state by another way is no fault
        refused += usize::from(is_refused);
        assert_eq!(told(&proof), held, "byte {at}");
    }
    assert!(refused * 100 > body.len() * 95, "{refused} of {}", body.len());
}
