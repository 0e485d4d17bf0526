//! What a word is predicted from: FORMAT.md section 8.2.

use crate::encoding::row_view::RowView;
use crate::error::Result;
use crate::format::predictor;
use crate::format::reader::Reader;
use crate::format::value::Tag;
use crate::format::writer::Writer;
use crate::state::schema::PathId;
use crate::state::table::Cells;

/// How integers are predicted from what the reader already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Predictor {
    Zero,
    Base,
    Previous,
    Reference(u64),
    Column(PathId),
    ColumnChange(PathId),
    Max(PathId, PathId),
}

/// Words of another column where it has the tag, else None.
fn same_tag(cells: &Cells, tag: Tag) -> impl Iterator<Item = Option<u64>> + '_ {
    cells.iter().map(move |cell| (cell.tag == tag).then_some(cell.word))
}

impl Predictor {
    /// What is predicted for each word, but for `Previous`, which needs the words themselves.
    pub(crate) fn predictions(
        self,
        base: Option<&[u64]>,
        rows: &[u32],
        tag: Tag,
        view: &RowView<'_>,
    ) -> Vec<u64> {
        let n = rows.len();
        let base = || base.map_or_else(|| vec![0; n], <[u64]>::to_vec);
        match self {
            Predictor::Zero | Predictor::Previous => vec![0; n],
            Predictor::Base => base(),
            Predictor::Reference(word) => vec![word; n],
            Predictor::Column(path) => {
                same_tag(&view.present(path, rows), tag).map(Option::unwrap_or_default).collect()
            }
            Predictor::ColumnChange(path) => {
                let (now, previous) = view.present_and_base(path, rows);
                let changes = same_tag(&now, tag).zip(same_tag(&previous, tag));
                base()
                    .into_iter()
                    .zip(changes)
                    .map(|(base, change)| match change {
                        (Some(now), Some(previous)) => base.wrapping_add(now).wrapping_sub(previous),
                        _ => base,
                    })
                    .collect()
            }
            Predictor::Max(a, b) => {
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

    pub(crate) fn write(self, w: &mut Writer, frame_path: impl Fn(PathId) -> u64) {
        match self {
            Predictor::Zero => w.u8(predictor::ZERO),
            Predictor::Base => w.u8(predictor::BASE),
            Predictor::Previous => w.u8(predictor::PREVIOUS),
            Predictor::Reference(word) => {
                w.u8(predictor::REFERENCE);
                w.u64(word);
            }
            Predictor::Column(path) => {
                w.u8(predictor::COLUMN);
                w.uvarint(frame_path(path));
            }
            Predictor::ColumnChange(path) => {
                w.u8(predictor::COLUMN_CHANGE);
                w.uvarint(frame_path(path));
            }
            Predictor::Max(a, b) => {
                w.u8(predictor::MAX);
                w.uvarint(frame_path(a));
                w.uvarint(frame_path(b));
            }
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>, context: &Context<'_>) -> Result<Predictor> {
        let path = |r: &mut Reader<'_>| other_path(r, context.paths, context.path);
        Ok(match r.u8()? {
            predictor::ZERO => Predictor::Zero,
            predictor::BASE => Predictor::Base,
            predictor::PREVIOUS => Predictor::Previous,
            predictor::REFERENCE => Predictor::Reference(r.u64()?),
            predictor::COLUMN => Predictor::Column(path(r)?),
            predictor::COLUMN_CHANGE => Predictor::ColumnChange(path(r)?),
            predictor::MAX => Predictor::Max(path(r)?, path(r)?),
            code => return Err(r.reserved("predictor", code)),
        })
    }
}

/// Reads the path id of another column.
pub(crate) fn other_path(r: &mut Reader<'_>, paths: &[PathId], own: PathId) -> Result<PathId> {
    let path_id = r.up_to(paths.len() - 1, "path id")?;
    match paths[path_id] {
        path if path == own => Err(r.corrupt("a column refers to itself")),
        path => Ok(path),
    }
}

/// What a word stream is read with.
pub(crate) struct Context<'a> {
    pub(crate) tag: Tag,
    pub(crate) base: Option<&'a [u64]>,
    pub(crate) rows: &'a [u32],
    pub(crate) view: RowView<'a>,
    /// The path of each path id of the frame.
    pub(crate) paths: &'a [PathId],
    /// The column's own path.
    pub(crate) path: PathId,
}
