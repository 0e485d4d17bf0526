//! The text of a frame, and the prefix that it is compressed with: FORMAT.md section 8.5.

use std::collections::HashSet;
use std::ops::Range;

use crate::encoding::blobs::step_for;
use crate::encoding::left_out::{Part, left_out};
use crate::error::{Error, Result};
use crate::format::budget::{Budget, PREFIX_ROW};
use crate::format::reader::Reader;
use crate::format::value::{is_blob, write_text_value};
use crate::format::writer::Writer;
use crate::state::schema::PathId;
use crate::state::table::{Cell, Cells, Table};

/// What the prefix takes of one column of the base.
#[derive(Clone, Copy)]
pub(crate) struct PrefixPart {
    pub(crate) path: PathId,
    /// Every so many rows of the base; none if 0.
    pub(crate) step: u64,
    /// The cells that the frame updates.
    pub(crate) updated: bool,
}

/// What both sides have of the base before they have the text, one value after another.
pub(crate) struct Prefix<'a> {
    table: &'a Table,
    pub(crate) bytes: Writer,
    /// By blob: the last part that brought it.
    seen: Vec<u32>,
    parts: u32,
}

impl<'a> Prefix<'a> {
    pub(crate) fn new(table: &'a Table) -> Prefix<'a> {
        Prefix { table, bytes: Writer::default(), seen: vec![0; table.pool.mark()], parts: 0 }
    }

    /// The symbols of every `step`-th row; none if it is 0.
    pub(crate) fn symbols(&mut self, step: u64, budget: &mut Budget) -> Result<()> {
        for row in self.sampled_rows(step, budget)? {
            let symbol = &self.table.rows[row].symbol;
            budget.charge(symbol.len() as u64, 1, "bytes of prefix")?;
            self.bytes.text(symbol);
        }
        Ok(())
    }

    /// Bytes payloads of SPARSE's updated cells.
    pub(crate) fn sparse(&mut self, cells: impl Iterator<Item = Cell>, budget: &mut Budget) -> Result<()> {
        self.parts += 1;
        let mut cells = cells;
        cells.try_for_each(|cell| self.cell(cell, budget))
    }

    /// `updated` are the base's cells that the frame updates in the column.
    pub(crate) fn part(
        &mut self,
        part: PrefixPart,
        updated: Option<&Cells>,
        budget: &mut Budget,
    ) -> Result<()> {
        self.parts += 1;
        for row in self.sampled_rows(part.step, budget)? {
            if let Some(cell) = self.table.cell(row, part.path) {
                self.cell(cell, budget)?;
            }
        }
        if let Some(updated) = updated {
            budget.charge(updated.len() as u64, PREFIX_ROW, "rows of the prefix")?;
            updated.iter().try_for_each(|cell| self.cell(cell, budget))?;
        }
        Ok(())
    }

    fn sampled_rows(&self, step: u64, budget: &mut Budget) -> Result<impl Iterator<Item = usize> + use<>> {
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        let rows = if step == 0 { 0 } else { self.table.rows.len() };
        budget.charge(rows.div_ceil(step.max(1)) as u64, PREFIX_ROW, "rows of the prefix")?;
        Ok((0..rows).step_by(step.max(1)))
    }

    /// A part brings each payload once.
    #[inline]
    fn cell(&mut self, cell: Cell, budget: &mut Budget) -> Result<()> {
        if !is_blob(cell.tag)
            || std::mem::replace(&mut self.seen[cell.word as usize], self.parts) == self.parts
        {
            return Ok(());
        }
        let payload = self.table.pool.get(cell.word);
        budget.charge(payload.len() as u64, 1, "bytes of prefix")?;
        write_text_value(&mut self.bytes, cell.tag, payload);
        Ok(())
    }
}

/// A piece of the text, compressed by itself with a range of the prefix before it.
pub(crate) struct Chunk {
    pub(crate) length: usize,
    pub(crate) prefix: Range<usize>,
    pub(crate) compressed: Range<usize>,
}

/// True if a section TEXT, or what stands for it where there is none, says that the text has the symbols of added rows.
pub(crate) fn symbols_in_text(section: &Reader<'_>) -> bool {
    section.clone().uvarint().is_ok_and(|step| step > 0)
}

/// The contents of TEXT.
pub(crate) struct TextSection<'a> {
    /// The symbols of added rows are in the text, and those of every so many base rows in the prefix.
    pub(crate) symbols: u64,
    pub(crate) parts: Vec<PrefixPart>,
    chunks: Reader<'a>,
}

const UPDATED: u64 = 1;

impl<'a> TextSection<'a> {
    /// Reads all but the chunks. `paths` are the paths by path id.
    pub(crate) fn read(mut r: Reader<'a>, paths: &[PathId]) -> Result<TextSection<'a>> {
        let symbols = r.uvarint()?;
        let n = r.count("parts of the prefix")?;
        let mut parts = Vec::with_capacity(n);
        let mut path_id = -1i64;
        for _ in 0..n {
            path_id = path_id.wrapping_add(r.svarint()?).wrapping_add(1);
            let path = usize::try_from(path_id).ok().and_then(|at| paths.get(at));
            let path = *path.ok_or_else(|| r.corrupt("the prefix names a missing path"))?;
            let code = r.uvarint()?;
            parts.push(PrefixPart { path, step: code >> 1, updated: code & UPDATED != 0 });
        }
        Ok(TextSection { symbols, parts, chunks: r })
    }

    pub(crate) fn corrupt(&self, message: &str) -> Error {
        self.chunks.corrupt(message)
    }

    /// Reads the chunks of a text of which `compressed` bytes are there, with so many bytes of prefix.
    pub(crate) fn chunks(
        mut self,
        prefix: usize,
        compressed: usize,
        budget: &mut Budget,
    ) -> Result<Vec<Chunk>> {
        let r = &mut self.chunks;
        let n = r.count("chunks")?;
        let mut chunks = Vec::with_capacity(n);
        let mut at = 0;
        for i in 0..n {
            let length = r.uvarint()?;
            let start = r.up_to(prefix, "start of a prefix")?;
            let after = r.up_to(prefix - start, "end of a prefix")?;
            let left = compressed - at;
            let size = if i + 1 == n { left } else { r.up_to(left, "length of a chunk")? };
            budget.charge(length, 2, "bytes of text")?;
            if length == 0 {
                return Err(r.corrupt("a chunk is empty"));
            }
            let length = length as usize;
            chunks.push(Chunk { length, prefix: start..prefix - after, compressed: at..at + size });
            at += size;
        }
        if n == 0 {
            return Err(r.corrupt("a text without chunks"));
        }
        r.finish()?;
        Ok(chunks)
    }
}

/// Where the values of one column, or of the symbols, are in the text, and what they resemble in the prefix.
struct Anchor {
    text: usize,
    prefix: usize,
}

/// The text of a frame before it is compressed.
#[derive(Default)]
pub(crate) struct FrameText {
    pub(crate) bytes: Vec<u8>,
    pub(crate) prefix: Vec<u8>,
    /// TEXT up to the chunks.
    pub(crate) section: Writer,
    anchors: Vec<Anchor>,
}

/// Bytes of text that are compressed at once, and bytes of prefix beside those that they resemble.
const CHUNK: usize = 1 << 18;
const MARGIN: usize = 1 << 16;
/// A chunk's prefix is at most so long.
const LONGEST_PREFIX: usize = 1 << 20;

impl FrameText {
    /// The ranges of the text, each with its range of the prefix.
    pub(crate) fn ranges(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let chunks = self.bytes.len().div_ceil(CHUNK);
        let ends = (1..=chunks).map(|i| (self.bytes.len() as u64 * i as u64 / chunks as u64) as usize);
        let mut start = 0;
        ends.map(|end| {
            let text = std::mem::replace(&mut start, end)..end;
            let from = self.resembled(text.start).saturating_sub(MARGIN);
            let to = (self.resembled(text.end) + MARGIN).min(self.prefix.len());
            (text, from.max(to.saturating_sub(LONGEST_PREFIX))..to)
        })
        .collect()
    }

    /// The place in the prefix that resembles a place in the text.
    fn resembled(&self, at: usize) -> usize {
        let next = self.anchors.partition_point(|anchor| anchor.text <= at);
        let Some(b) = self.anchors.get(next) else { return self.prefix.len() };
        let a = next.checked_sub(1).map_or(&Anchor { text: 0, prefix: 0 }, |i| &self.anchors[i]);
        let share = (at - a.text) as u64 * (b.prefix - a.prefix) as u64 / (b.text - a.text) as u64;
        a.prefix + share as usize
    }
}

/// So many bytes of text are worth a stream of their own.
const WORTH: usize = 64;

/// True if the distinct bytes payloads are worth it.
pub(crate) fn is_worth<'a>(table: &Table, all: impl Iterator<Item = &'a Cells>) -> bool {
    if left_out(Part::Text) {
        return false;
    }
    let mut seen = vec![false; table.pool.mark()];
    let mut bytes = 0;
    for cells in all.filter(|cells| cells.may_have_blobs()) {
        for (_, word) in cells.tags.iter().zip(&cells.words).filter(|(tag, _)| is_blob(**tag)) {
            if !std::mem::replace(&mut seen[*word as usize], true) {
                bytes += table.pool.get(*word).len();
                if bytes >= WORTH {
                    return true;
                }
            }
        }
    }
    false
}

/// Collects the prefix of a text that is written, and what tells the reader of it.
pub(crate) struct FrameTextBuilder<'a> {
    prefix: Prefix<'a>,
    symbols: u64,
    parts: Vec<(u64, PrefixPart)>,
    sparse_inserts: HashSet<PathId>,
    anchors: Vec<Anchor>,
    /// What the writer takes is not bounded by a limit of the reader.
    budget: Budget,
}

impl<'a> FrameTextBuilder<'a> {
    pub(crate) fn new(table: &'a Table) -> FrameTextBuilder<'a> {
        FrameTextBuilder {
            prefix: Prefix::new(table),
            symbols: 0,
            parts: Vec::new(),
            sparse_inserts: HashSet::new(),
            anchors: Vec::new(),
            budget: Budget::new(u64::MAX),
        }
    }

    fn step_for(&self, text: usize) -> u64 {
        step_for(self.prefix.table, text) as u64
    }

    /// Symbols are in the text, up to `end`.
    pub(crate) fn symbols(&mut self, end: usize) -> Result<()> {
        if end > 0 {
            self.symbols = self.step_for(end);
            self.prefix.symbols(self.symbols, &mut self.budget)?;
        }
        self.anchor(end);
        Ok(())
    }

    pub(crate) fn sparse(&mut self, cells: impl Iterator<Item = Cell>) -> Result<()> {
        self.prefix.sparse(cells, &mut self.budget)
    }

    /// An inserted cell of SPARSE is in the text.
    pub(crate) fn sparse_insert(&mut self, path: PathId, path_id: u64, bytes: usize) -> Result<()> {
        if self.sparse_inserts.insert(path) { self.column(path, path_id, bytes, None) } else { Ok(()) }
    }

    /// The cells of a column are in the text: so many bytes of inserts, and updates of cells that had these.
    pub(crate) fn column(
        &mut self,
        path: PathId,
        path_id: u64,
        inserted: usize,
        updated: Option<&Cells>,
    ) -> Result<()> {
        let step = if inserted == 0 { 0 } else { self.step_for(inserted) };
        let part = PrefixPart { path, step, updated: updated.is_some() };
        self.parts.push((path_id, part));
        self.prefix.part(part, updated, &mut self.budget)
    }

    /// What was told of last ends here in the text.
    pub(crate) fn anchor(&mut self, text: usize) {
        self.anchors.push(Anchor { text, prefix: self.prefix.bytes.bytes.len() });
    }

    pub(crate) fn finish(self, bytes: Vec<u8>) -> FrameText {
        let mut section = Writer::default();
        section.uvarint(self.symbols);
        section.size(self.parts.len());
        let mut last = -1;
        for (path_id, PrefixPart { step, updated, .. }) in self.parts {
            section.svarint(path_id as i64 - last - 1);
            section.uvarint((step << 1) | (u64::from(updated) * UPDATED));
            last = path_id as i64;
        }
        FrameText { bytes, prefix: self.prefix.bytes.bytes, section, anchors: self.anchors }
    }
}
