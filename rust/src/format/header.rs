//! The fixed head of a frame: FORMAT.md section 2.

use crate::error::{Error, Result};
use crate::format::VERSION;
use crate::format::hash::{Chain, hash_bytes};
use crate::format::reader::Reader;
use crate::format::writer::Writer;

pub(crate) const MAGIC: [u8; 4] = [0xD1, b'S', b'N', b'D'];
const CHECKSUM_LENGTH: usize = 8;

/// Flags of the fields.
mod flag {
    pub(super) const DELTA: u8 = 1;
    pub(super) const ZSTD: u8 = 2;
    pub(super) const OTHER_EPOCH: u8 = 4;
    pub(super) const WITHIN_TOLERANCE: u8 = 8;
    pub(super) const TEXT: u8 = 16;
    pub(super) const BUNDLE: u8 = 32;
    pub(super) const ALL: u8 = 63;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Full,
    Delta,
}

impl FrameKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            FrameKind::Full => "full",
            FrameKind::Delta => "delta",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Stored,
    Zstd,
}

/// A state's position in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
}

/// The state that a frame starts from; for a full frame the empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameBase {
    pub(crate) position: Position,
    pub(crate) digest: u64,
    pub(crate) rows: usize,
}

impl FrameBase {
    pub(crate) fn empty() -> FrameBase {
        FrameBase { position: Position::default(), digest: Chain::default().finish(0), rows: 0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: FrameKind,
    pub(crate) compression: Compression,
    /// A compressed text follows the body.
    pub(crate) has_text: bool,
    /// The body contains consecutive deltas.
    pub(crate) is_bundle: bool,
    /// The number of held cells; None if the states are exact.
    pub(crate) held_cells: Option<u64>,
    pub(crate) position: Position,
    pub(crate) base: FrameBase,
    pub(crate) target_digest: u64,
    /// Bytes of budget that a reader needs; 0 if the writer does not know.
    pub(crate) required_bytes: u64,
    pub(crate) body_length: u32,
}

impl Header {
    /// The whole frame around a compressed body and text.
    pub(crate) fn write(&self, payload: &[u8]) -> Vec<u8> {
        let fields = self.fields();
        let mut w = Writer::default();
        w.bytes.reserve_exact(32 + fields.len() + payload.len());
        w.raw(&MAGIC);
        w.u8(VERSION);
        w.size(fields.len());
        w.size(payload.len());
        w.raw(&fields);
        w.raw(payload);
        let checksum = hash_bytes(&w.bytes);
        w.u64(checksum);
        w.bytes
    }

    fn fields(&self) -> Vec<u8> {
        let Header { position, base, .. } = self;
        let is_delta = self.kind == FrameKind::Delta;
        let other_epoch = is_delta && base.position.epoch != position.epoch;
        let flags = [
            (is_delta, flag::DELTA),
            (self.compression == Compression::Zstd, flag::ZSTD),
            (other_epoch, flag::OTHER_EPOCH),
            (self.held_cells.is_some(), flag::WITHIN_TOLERANCE),
            (self.has_text, flag::TEXT),
            (self.is_bundle, flag::BUNDLE),
        ];
        let mut w = Writer::default();
        w.u8(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum());
        w.uvarint(position.epoch);
        w.uvarint(position.sequence);
        w.uvarint(self.required_bytes);
        if let Some(held_cells) = self.held_cells {
            w.uvarint(held_cells);
        }
        if self.compression == Compression::Zstd || self.has_text {
            w.uvarint(u64::from(self.body_length));
        }
        if is_delta {
            if other_epoch {
                w.uvarint(base.position.epoch);
                w.uvarint(base.position.sequence);
            } else {
                w.uvarint(position.sequence.wrapping_sub(base.position.sequence));
            }
            w.u64(base.digest);
            w.size(base.rows);
        }
        w.u64(self.target_digest);
        w.bytes
    }

    /// Checks a frame and splits it into header and compressed parts.
    pub(crate) fn read(frame: &[u8]) -> Result<(Header, &[u8])> {
        if !frame.starts_with(&MAGIC) {
            return Err(Error::corrupt_at(0, "this is not a snapdelta frame"));
        }
        let checked = frame.len().saturating_sub(CHECKSUM_LENGTH).max(MAGIC.len());
        let (contents, checksum) = frame.split_at(checked);
        let mut r = Reader::new(contents);
        r.raw(MAGIC.len())?;
        let version = r.u8()?;
        let [fields, payload] = [r.uvarint()?, r.uvarint()?];
        if fields.checked_add(payload) != Some(r.left() as u64) {
            return Err(r.corrupt(format!(
                "the frame declares {fields} bytes of header and {payload} of body and has {}",
                r.left()
            )));
        }
        if Reader::new(checksum).u64()? != hash_bytes(contents) {
            return Err(Error::corrupt_at(checked, "the checksum does not match: the frame was damaged"));
        }
        if version == 0 {
            return Err(Error::corrupt_at(MAGIC.len(), "there is no format 0"));
        }
        if version != VERSION {
            return Err(Error::version(format!(
                "written by format {version}, this build reads up to {VERSION}; upgrade snapdelta-rs"
            ))
            .at(MAGIC.len()));
        }
        let fields = r.part(fields as usize)?;
        let payload = r.raw(payload as usize)?;
        Ok((Header::read_fields(fields, payload.len())?, payload))
    }

    fn read_fields(mut r: Reader<'_>, payload: usize) -> Result<Header> {
        let flags = r.u8()?;
        if flags & !flag::ALL != 0 {
            return Err(r.reserved("flags of a frame", flags));
        }
        let has = |flag: u8| flags & flag != 0;
        let position = Position { epoch: r.uvarint()?, sequence: r.uvarint()? };
        let required_bytes = r.uvarint()?;
        let held_cells = has(flag::WITHIN_TOLERANCE).then(|| r.uvarint()).transpose()?;
        let body_length = if has(flag::ZSTD) || has(flag::TEXT) { r.uvarint()? } else { payload as u64 };
        let body_length = u32::try_from(body_length).map_err(|_| r.corrupt("a body of 4 GiB and more"))?;
        if has(flag::OTHER_EPOCH) && !has(flag::DELTA) {
            return Err(r.corrupt("a full frame has no base"));
        }
        if has(flag::BUNDLE) && (!has(flag::DELTA) || has(flag::ZSTD) || has(flag::TEXT)) {
            return Err(r.corrupt("a bundle is a delta whose body is stored"));
        }
        let base = if has(flag::DELTA) {
            let base = read_base_position(&mut r, position, has(flag::OTHER_EPOCH))?;
            FrameBase {
                position: base,
                digest: r.u64()?,
                rows: r.up_to(u32::MAX as usize, "number of rows")?,
            }
        } else {
            FrameBase::empty()
        };
        let target_digest = r.u64()?;
        r.finish()?;
        Ok(Header {
            kind: if has(flag::DELTA) { FrameKind::Delta } else { FrameKind::Full },
            compression: if has(flag::ZSTD) { Compression::Zstd } else { Compression::Stored },
            has_text: has(flag::TEXT),
            is_bundle: has(flag::BUNDLE),
            held_cells,
            position,
            base,
            target_digest,
            required_bytes,
            body_length,
        })
    }
}

fn read_base_position(r: &mut Reader<'_>, position: Position, other_epoch: bool) -> Result<Position> {
    if other_epoch {
        let base = Position { epoch: r.uvarint()?, sequence: r.uvarint()? };
        return if base.epoch == position.epoch {
            Err(r.corrupt("the base is of the same epoch"))
        } else {
            Ok(base)
        };
    }
    let distance = r.uvarint()?;
    let stands_alone = position == Position::default();
    match position.sequence.checked_sub(distance) {
        Some(sequence) if (distance == 0) == stands_alone => Ok(Position { sequence, ..position }),
        _ => Err(r.corrupt("the base does not come before the frame")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const HEADER: Header = Header {
        kind: FrameKind::Delta,
        compression: Compression::Stored,
        has_text: false,
        is_bundle: false,
        held_cells: None,
        position: Position { epoch: 1, sequence: 2 },
        base: FrameBase { position: Position { epoch: 1, sequence: 1 }, digest: 3, rows: 300 },
        target_digest: 4,
        required_bytes: 0,
        body_length: 3,
    };

    #[test]
    fn every_flipped_bit_is_found() {
        let frame = HEADER.write(b"abc");
        assert!(Header::read(&frame).is_ok());
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::read(&bad).map(|_| ()).map_err(|e| e.kind), Err(ErrorKind::Corrupt));
        }
        for length in 0..frame.len() {
            let cut = Header::read(&frame[..length]).map(|_| ()).map_err(|e| e.kind);
            assert_eq!(cut, Err(ErrorKind::Corrupt));
        }
    }

    #[test]
    fn every_header_comes_back() {
        let position = |epoch, sequence| Position { epoch, sequence };
        let delta =
            |position, base| Header { position, base: FrameBase { position: base, ..HEADER.base }, ..HEADER };
        let largest = position(u64::MAX, u64::MAX);
        let headers = [
            HEADER,
            Header { compression: Compression::Zstd, body_length: u32::MAX, ..HEADER },
            Header { has_text: true, body_length: 2, ..HEADER },
            Header { held_cells: Some(0), required_bytes: u64::MAX, ..HEADER },
            Header { held_cells: Some(u64::MAX), ..HEADER },
            Header { is_bundle: true, ..HEADER },
            Header { kind: FrameKind::Full, base: FrameBase::empty(), ..HEADER },
            delta(position(0, 0), position(0, 0)),
            delta(position(7, 90), position(7, 40)),
            delta(position(7, 1), position(6, 40)),
            delta(largest, position(u64::MAX, 0)),
            delta(largest, position(0, u64::MAX)),
        ];
        for header in headers {
            let frame = header.write(b"abc");
            assert_eq!(Header::read(&frame), Ok((header, &b"abc"[..])));
        }
        let never = [
            delta(position(7, 90), position(7, 90)),
            delta(position(7, 90), position(7, 91)),
            delta(position(0, 1), position(0, 1)),
            Header { is_bundle: true, has_text: true, body_length: 2, ..HEADER },
            Header { is_bundle: true, compression: Compression::Zstd, ..HEADER },
            Header { is_bundle: true, kind: FrameKind::Full, base: FrameBase::empty(), ..HEADER },
        ];
        for header in never {
            assert!(Header::read(&header.write(b"abc")).is_err(), "{header:?}");
        }
    }

    #[test]
    fn a_newer_version_says_so() {
        let mut frame = HEADER.write(b"abc");
        frame[4] = 2;
        let checked = frame.len() - CHECKSUM_LENGTH;
        let checksum = hash_bytes(&frame[..checked]);
        frame[checked..].copy_from_slice(&checksum.to_le_bytes());
        let error = Header::read(&frame).map(|_| ()).map_err(|e| e.kind);
        assert_eq!(error, Err(ErrorKind::Version));
    }
}
