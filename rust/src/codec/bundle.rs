//! Deltas that follow each other as one frame, which a reader applies in one call: FORMAT.md section 2.2.

use crate::error::{Error, ErrorKind, Result};
use crate::format::budget::{BUNDLED, BUNDLED_ROW, Budget};
use crate::format::header::{Compression, FrameKind, Header};
use crate::format::reader::Reader;
use crate::format::writer::Writer;

/// A delta that stands in a bundle, or is to.
pub(crate) struct Delta<'a> {
    pub(crate) header: Header,
    frame: &'a [u8],
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

/// The bundle of at least one delta; bundles among them count as their deltas. No state is decoded.
pub(crate) fn bundle(frames: &[&[u8]]) -> Result<Vec<u8>> {
    let mut deltas: Vec<Delta<'_>> = Vec::with_capacity(frames.len());
    for frame in frames {
        let (header, payload) = Header::read(frame)?;
        if header.kind == FrameKind::Full {
            return Err(Error::base_mismatch("a full frame is not a delta: compose what comes after it"));
        }
        if header.is_bundle {
            deltas.extend(deltas_of(&header, payload, &mut Budget::new(u64::MAX))?);
        } else {
            deltas.push(Delta { header, frame, payload });
        }
    }
    let (Some(Delta { header: first, .. }), Some(Delta { header: last, .. })) =
        (deltas.first(), deltas.last())
    else {
        return Err(Error::corrupt("a bundle holds no delta"));
    };
    for (at, pair) in deltas.windows(2).enumerate() {
        if !follows(&pair[0].header, &pair[1].header) {
            let number = at + 2;
            return Err(Error::base_mismatch(format!("delta {number} does not follow the delta before it")));
        }
    }
    let mut body = Writer::default();
    body.size(deltas.len());
    deltas.iter().for_each(|delta| body.text(delta.frame));
    let body = body.bytes;
    let too_large = || Error::new(ErrorKind::TooLarge, "a bundle of 4 GiB and more");
    let header = Header {
        compression: Compression::Stored,
        has_text: false,
        is_bundle: true,
        held_cells: last.held_cells,
        position: last.position,
        target_digest: last.target_digest,
        required_bytes: required_bytes(&deltas, body.len()),
        body_length: u32::try_from(body.len()).map_err(|_| too_large())?,
        ..*first
    };
    let frame = header.write(&body);
    match Header::read(&frame) {
        Ok(read) if read == (header, &*body) => Ok(frame),
        _ => Err(Error::base_mismatch("the last delta does not lead beyond the base of the first")),
    }
}

fn follows(before: &Header, delta: &Header) -> bool {
    delta.base.position == before.position && delta.base.digest == before.target_digest
}

/// What a reader must be allowed, if every delta says it.
fn required_bytes(deltas: &[Delta<'_>], body: usize) -> u64 {
    if deltas.iter().any(|delta| delta.header.required_bytes == 0) {
        return 0;
    }
    let most = deltas.iter().map(|delta| delta.header.required_bytes).max().unwrap_or_default();
    let rows: u64 = deltas.iter().map(|delta| delta.header.base.rows as u64).sum();
    let own = body as u64 + BUNDLED * deltas.len() as u64 + BUNDLED_ROW * rows;
    most.saturating_add(own)
}

/// The deltas of a bundle, which follow each other from its base to its target. The body was charged before.
pub(crate) fn deltas_of<'a>(bundle: &Header, body: &'a [u8], budget: &mut Budget) -> Result<Vec<Delta<'a>>> {
    let mut r = Reader::new(body);
    let n = r.count("deltas")?;
    budget.charge(n as u64, BUNDLED, "deltas of a bundle")?;
    let mut deltas: Vec<Delta<'_>> = Vec::with_capacity(n);
    for _ in 0..n {
        let frame = r.text()?;
        let (header, payload) = Header::read(frame)?;
        if header.kind == FrameKind::Full || header.is_bundle {
            return Err(r.corrupt("a bundle holds deltas"));
        }
        let comes_next = match deltas.last() {
            None => header.base == bundle.base,
            Some(before) => follows(&before.header, &header),
        };
        if !comes_next {
            return Err(r.corrupt("the deltas of a bundle do not follow each other"));
        }
        budget.charge(header.base.rows as u64, BUNDLED_ROW, "rows of the deltas of a bundle")?;
        deltas.push(Delta { header, frame, payload });
    }
    r.finish()?;
    match deltas.last().map(|delta| &delta.header) {
        Some(last) if (last.position, last.target_digest) == (bundle.position, bundle.target_digest) => {
            Ok(deltas)
        }
        _ => Err(Error::corrupt("the last delta of a bundle does not lead to its target")),
    }
}
