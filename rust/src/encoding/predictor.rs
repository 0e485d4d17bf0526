//! What a word is predicted from: FORMAT.md section 8.2.

use crate::encoding::decimal;
use crate::encoding::formula::{self, Formula, Operation};
use crate::encoding::row_view::View;
use crate::error::Result;
use crate::format::predictor;
use crate::format::reader::Reader;
use crate::format::value::Tag;
use crate::format::writer::Writer;
use crate::state::schema::{PathId, ROOT};
use crate::state::table::Cells;

/// How integers are predicted from what the reader already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predictor {
    Zero,
    Old,
    Before,
    Reference(u64),
    Other(PathId),
    OtherChange(PathId),
    Formula(Formula),
    Larger(PathId, PathId),
}

/// Integers from words: themselves, or the m of decimals.
#[derive(Clone, Copy)]
pub struct Scale(pub Option<u8>);

impl Scale {
    #[inline(always)]
    pub fn operand(self, word: u64) -> u64 {
        match self.0 {
            None => word,
            Some(exponent) => decimal::operand(word, exponent),
        }
    }

    pub fn operands(self, words: &[u64]) -> Vec<u64> {
        words.iter().map(|w| self.operand(*w)).collect()
    }
}

/// Words of another column where it has the tag, else None.
fn same_tag(cells: &Cells, tag: Tag) -> impl Iterator<Item = Option<u64>> + '_ {
    cells.iter().map(move |cell| (cell.tag == tag).then_some(cell.word))
}

impl Predictor {
    /// The other columns that it works from.
    pub fn operands(self) -> impl Iterator<Item = PathId> {
        let (a, b) = match self {
            Predictor::Other(a) | Predictor::OtherChange(a) => (Some(a), None),
            Predictor::Formula(f) => (Some(f.a), (!f.operation.needs_old()).then_some(f.b)),
            Predictor::Larger(a, b) => (Some(a), Some(b)),
            _ => (None, None),
        };
        a.into_iter().chain(b)
    }

    /// It works from the cell's old value, which an inserted cell has not.
    pub fn needs_old(self) -> bool {
        match self {
            Predictor::Old | Predictor::OtherChange(_) => true,
            Predictor::Formula(formula) => formula.operation.needs_old(),
            _ => false,
        }
    }

    /// What is predicted for each word, but for `Before`, which needs the words themselves.
    pub fn predictions(
        self,
        old: Option<&[u64]>,
        rows: &[u32],
        tag: Tag,
        scale: Scale,
        view: &View<'_>,
    ) -> Vec<u64> {
        let n = rows.len();
        let words_of_old = old;
        let old = || match old {
            Some(old) => scale.operands(old),
            None => vec![0; n],
        };
        match self {
            Predictor::Zero | Predictor::Before => vec![0; n],
            Predictor::Old => old(),
            Predictor::Reference(word) => vec![word; n],
            Predictor::Other(path) => same_tag(&view.present(path, rows), tag)
                .map(|word| word.map_or(0, |word| scale.operand(word)))
                .collect(),
            Predictor::OtherChange(path) => {
                let (now, before) = view.present_and_base(path, rows);
                let changes = same_tag(&now, tag).zip(same_tag(&before, tag));
                old()
                    .into_iter()
                    .zip(changes)
                    .map(|(old, change)| match change {
                        (Some(now), Some(before)) => {
                            old.wrapping_add(scale.operand(now)).wrapping_sub(scale.operand(before))
                        }
                        _ => old,
                    })
                    .collect()
            }
            Predictor::Formula(formula) => formula::predictions(formula, words_of_old, rows, view),
            Predictor::Larger(a, b) => {
                let (a, b) = (view.present(a, rows), view.present(b, rows));
                same_tag(&a, tag)
                    .zip(same_tag(&b, tag))
                    .map(|pair| match pair {
                        (Some(a), Some(b)) => (a as i64).max(b as i64) as u64,
                        _ => 0,
                    })
                    .collect()
            }
        }
    }

    pub fn write(self, w: &mut Writer, node: impl Fn(PathId) -> u64) {
        match self {
            Predictor::Zero => w.u8(predictor::ZERO),
            Predictor::Old => w.u8(predictor::OLD),
            Predictor::Before => w.u8(predictor::BEFORE),
            Predictor::Reference(word) => {
                w.u8(predictor::REFERENCE);
                w.u64(word);
            }
            Predictor::Other(path) => {
                w.u8(predictor::OTHER);
                w.uv(node(path));
            }
            Predictor::OtherChange(path) => {
                w.u8(predictor::OTHER_CHANGE);
                w.uv(node(path));
            }
            Predictor::Formula(Formula { operation, a, b }) => {
                w.u8(predictor::FORMULA);
                w.u8(operation.code());
                w.uv(node(a));
                w.uv(node(b));
            }
            Predictor::Larger(a, b) => {
                w.u8(predictor::LARGER);
                w.uv(node(a));
                w.uv(node(b));
            }
        }
    }

    pub fn read(r: &mut Reader<'_>, context: &Context<'_>) -> Result<Predictor> {
        let path = |r: &mut Reader<'_>| {
            let node = r.up_to(context.paths.len() - 1, "node")?;
            match context.paths[node] {
                path if path == context.path => Err(r.corrupt("a column is predicted from itself")),
                path => Ok(path),
            }
        };
        Ok(match r.u8()? {
            predictor::ZERO => Predictor::Zero,
            predictor::OLD => Predictor::Old,
            predictor::BEFORE => Predictor::Before,
            predictor::REFERENCE => Predictor::Reference(r.u64()?),
            predictor::OTHER => Predictor::Other(path(r)?),
            predictor::OTHER_CHANGE => Predictor::OtherChange(path(r)?),
            predictor::FORMULA => {
                let code = r.u8()?;
                let operation = Operation::of(code).ok_or_else(|| r.reserved("operation", code))?;
                let a = path(r)?;
                let b = if operation.needs_old() { r.up_to(0, "node").map(|_| ROOT)? } else { path(r)? };
                Predictor::Formula(Formula { operation, a, b })
            }
            predictor::LARGER => Predictor::Larger(path(r)?, path(r)?),
            code => return Err(r.reserved("predictor", code)),
        })
    }
}

/// What a word stream is read with.
pub struct Context<'a> {
    pub tag: Tag,
    pub old: Option<&'a [u64]>,
    pub rows: &'a [u32],
    pub view: View<'a>,
    /// The path of each node of the frame.
    pub paths: &'a [PathId],
    /// The column's own path.
    pub path: PathId,
}
