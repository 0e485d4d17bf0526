//! A Decoder whose answers are spans in memory, where JavaScript reads rows, texts and columns in place.

use crate::codec::decoder::Decoder;
use crate::error::ErrorKind;
use crate::format::decimal;
use crate::format::header::FrameKind;
use crate::format::reader::Reader as Bytes;
use crate::format::value::tag;
use crate::state::schema::{Child, Path, PathId, ROOT, Schema, Shape};
use crate::state::table::Cell;

/// Lengths and counts must fit into 32 bits, and an allocation into half of the address space.
const MAX_BYTES: u64 = i32::MAX as u64;
/// The tag of a row that lacks the column.
const NO_CELL: u8 = u8::MAX;
const DICT_FOLLOWS: u32 = 1;

/// A span: an address and a number of items, valid until the next call.
pub(crate) type Span = (usize, usize);

fn span<T>(items: &[T]) -> Span {
    (items.as_ptr() as usize, items.len())
}

/// The requested symbols.
#[derive(Clone, Copy)]
pub(crate) enum Symbols {
    All,
    Added,
    Updated,
    Removed,
    Moved,
}

pub(crate) struct Reader {
    decoder: Decoder,
    /// Rises when the numbers of keys and shapes change.
    schema_version: u32,
    /// The input that JavaScript writes before a call: a frame, a symbol, a path.
    input: Vec<u8>,
    bytes: Vec<u8>,
    numbers: Vec<u32>,
    words: Vec<u64>,
}

impl Reader {
    pub(crate) fn new(max_bytes: u64) -> Reader {
        Reader {
            decoder: Decoder::new(max_bytes.min(MAX_BYTES)),
            schema_version: 0,
            input: Vec::new(),
            bytes: Vec::new(),
            numbers: Vec::new(),
            words: Vec::new(),
        }
    }

    /// Room for the next call's input.
    pub(crate) fn room(&mut self, length: usize) -> Span {
        self.input.clear();
        self.input.resize(length, 0);
        span(&self.input)
    }

    /// Applies the frame in the input. An error puts its text in `message` and leaves the state unchanged.
    pub(crate) fn apply(&mut self) -> Result<FrameKind, ErrorKind> {
        let frame = std::mem::take(&mut self.input);
        match self.decoder.apply(&frame) {
            Ok(kind) => {
                if kind == FrameKind::Full || self.decoder.state.refresh_schema() {
                    self.schema_version = self.schema_version.wrapping_add(1);
                }
                Ok(kind)
            }
            Err(error) => {
                self.bytes = error.to_string().into_bytes();
                Err(error.kind)
            }
        }
    }

    pub(crate) fn message(&self) -> Span {
        span(&self.bytes)
    }

    pub(crate) fn position(&self) -> (u64, u64) {
        let position = self.decoder.state.position;
        (position.epoch, position.sequence)
    }

    pub(crate) fn digest(&self) -> u64 {
        self.decoder.state.digest
    }

    pub(crate) fn schema_version(&self) -> u32 {
        self.schema_version
    }

    pub(crate) fn rows(&self) -> usize {
        self.decoder.state.table.rows.len()
    }

    /// The length of each symbol, and all symbols in one piece.
    pub(crate) fn symbols(&mut self, which: Symbols) -> [Span; 2] {
        let Reader { decoder, bytes, numbers, .. } = self;
        bytes.clear();
        numbers.clear();
        let add = |symbol: &[u8]| {
            numbers.push(symbol.len() as u32);
            bytes.extend_from_slice(symbol);
        };
        let changed = &decoder.changed_keys;
        match which {
            Symbols::All => decoder.state.table.rows.iter().map(|row| &*row.symbol).for_each(add),
            Symbols::Added => changed.added.iter().map(|symbol| &**symbol).for_each(add),
            Symbols::Updated => decoder.updated().for_each(add),
            Symbols::Removed => changed.removed.iter().map(|symbol| &**symbol).for_each(add),
            Symbols::Moved => decoder.moved().into_iter().for_each(add),
        }
        [span(&self.numbers), span(&self.bytes)]
    }

    /// The row of the symbol in the input.
    pub(crate) fn find(&mut self) -> Option<usize> {
        self.decoder.state.table.position(&self.input)
    }

    /// The number of a row's shape, its tags and its words. A word of tag TEXT and the like is a blob's number.
    pub(crate) fn row(&self, at: usize) -> Option<(u32, Span, Span)> {
        let row = self.decoder.state.table.rows.get(at)?;
        Some((row.shape, span(&row.tags), span(&row.words)))
    }

    /// A shape as its dict: number of entries, then of each the key's number and 0, or 1 and the dict below it.
    /// Empty for a record that is one leaf.
    pub(crate) fn shape(&mut self, id: u32) -> Option<Span> {
        let shape = self.decoder.state.table.schema.shapes.get(id as usize)?;
        self.numbers.clear();
        if !shape.is_leaf() {
            write_dict(&mut self.numbers, shape, 0);
        }
        Some(span(&self.numbers))
    }

    pub(crate) fn key(&self, id: u32) -> Option<Span> {
        self.decoder.state.table.schema.keys.get(id as usize).map(|key| span(key))
    }

    /// The bytes of a blob that a row has.
    pub(crate) fn blob(&self, id: u32) -> Span {
        span(self.decoder.state.table.pool.get(u64::from(id)))
    }

    /// The tag of each row's cell at the path in the input.
    pub(crate) fn column_tags(&mut self) -> Option<Span> {
        let tags = self.column()?.map(|cell| cell.map_or(NO_CELL, |cell| cell.tag)).collect();
        self.bytes = tags;
        Some(span(&self.bytes))
    }

    /// The ints of the column; 0 for all others.
    pub(crate) fn column_int64(&mut self) -> Option<Span> {
        let int = |cell: Cell| if cell.tag == tag::INT { cell.word } else { 0 };
        let words = self.column()?.map(|cell| cell.map_or(0, int)).collect();
        self.words = words;
        Some(span(&self.words))
    }

    /// The floats, ints and Decimals of the column as the nearest doubles; NaN for all others.
    pub(crate) fn column_float64(&mut self) -> Option<Span> {
        let table = &self.decoder.state.table;
        let double = |cell: Cell| match cell.tag {
            tag::FLOAT => f64::from_bits(cell.word),
            tag::INT => cell.word as i64 as f64,
            tag::DECIMAL | tag::DECIMAL_OTHER => {
                decimal::text(table.payload(cell)).and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
            }
            _ => f64::NAN,
        };
        let words = self.column()?.map(|cell| cell.map_or(f64::NAN, double).to_bits()).collect();
        self.words = words;
        Some(span(&self.words))
    }

    /// The cells at the path in the input, row by row; the input has each key's length before its bytes. None
    /// if the input is not a path.
    fn column(&self) -> Option<impl Iterator<Item = Option<Cell>>> {
        let mut r = Bytes::new(&self.input);
        let mut keys = Vec::new();
        while !r.is_empty() {
            let length = r.u32().ok()?;
            keys.push(r.raw(length as usize).ok()?);
        }
        let table = &self.decoder.state.table;
        let path = find_path(&table.schema, &keys);
        Some((0..table.rows.len()).map(move |row| table.cell(row, path?)))
    }
}

/// The path of these keys, if a record may have it.
fn find_path(schema: &Schema, keys: &[&[u8]]) -> Option<PathId> {
    keys.iter().try_fold(ROOT, |parent, key| {
        let is_it = |path: &Path| path.parent == parent && *schema.keys[path.key as usize] == **key;
        // The first path is the root, its own parent.
        let found = schema.paths.iter().skip(1).position(is_it)?;
        Some(found as PathId + 1)
    })
}

fn write_dict(out: &mut Vec<u32>, shape: &Shape, number: u32) {
    let entries = shape.dict(number);
    out.push(entries.len() as u32);
    for entry in entries {
        out.push(entry.key);
        match entry.child {
            Child::Leaf => out.push(0),
            Child::Dict(below) => {
                out.push(DICT_FOLLOWS);
                write_dict(out, shape, below);
            }
        }
    }
}
