//! The fixed head of a frame: FORMAT.md section 2.

use crate::error::{Error, Result};
use crate::format::VERSION;
use crate::format::hash::hash_joined;
use crate::format::reader::Reader;
use crate::format::writer::Writer;

pub(crate) const MAGIC: [u8; 4] = [0xD1, b'S', b'N', b'D'];
pub(crate) const HEADER_LENGTH: usize = 56;
const CHECKED: usize = 48;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: FrameKind,
    pub(crate) compression: Compression,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) base_digest: u64,
    pub(crate) target_digest: u64,
    pub(crate) body_length: u32,
}

impl Header {
    /// The whole frame around a compressed body.
    pub(crate) fn write(&self, payload: &[u8]) -> Vec<u8> {
        let mut w = Writer::default();
        w.bytes.reserve_exact(HEADER_LENGTH + payload.len());
        w.raw(&MAGIC);
        w.u8(VERSION);
        w.u8(match self.kind {
            FrameKind::Full => 0,
            FrameKind::Delta => 1,
        });
        w.u8(match self.compression {
            Compression::Stored => 0,
            Compression::Zstd => 1,
        });
        w.u8(0);
        w.u64(self.epoch);
        w.u64(self.sequence);
        w.u64(self.base_digest);
        w.u64(self.target_digest);
        w.raw(&self.body_length.to_le_bytes());
        w.raw(&(payload.len() as u32).to_le_bytes());
        let checksum = hash_joined(&w.bytes, payload);
        w.u64(checksum);
        w.raw(payload);
        w.bytes
    }

    /// Checks a frame and takes it apart into header and compressed body.
    pub(crate) fn read(frame: &[u8]) -> Result<(Header, &[u8])> {
        if !frame.starts_with(&MAGIC) {
            return Err(Error::corrupt_at(0, "this is not a snapdelta frame"));
        }
        if frame.len() < HEADER_LENGTH {
            return Err(Error::corrupt_at(frame.len(), "the frame ends within its header"));
        }
        let (head, payload) = frame.split_at(HEADER_LENGTH);
        let mut r = Reader::new(head);
        r.raw(4)?;
        let [version, kind, compression, zero] = [r.u8()?, r.u8()?, r.u8()?, r.u8()?];
        let [epoch, sequence] = [r.u64()?, r.u64()?];
        let [base_digest, target_digest] = [r.u64()?, r.u64()?];
        let [body_length, compressed_length] = [r.u32()?, r.u32()?];
        if payload.len() != compressed_length as usize {
            return Err(Error::corrupt_at(
                44,
                format!("the frame declares {compressed_length} bytes of body and has {}", payload.len()),
            ));
        }
        if hash_joined(&head[..CHECKED], payload) != r.u64()? {
            return Err(Error::corrupt_at(48, "the checksum does not match: the frame was damaged"));
        }
        if version == 0 {
            return Err(Error::corrupt_at(4, "there is no format 0"));
        }
        if version != VERSION {
            return Err(Error::version(format!(
                "written by format {version}, this build reads up to {VERSION}; upgrade snapdelta-rs"
            ))
            .at(4));
        }
        let kind = match kind {
            0 => FrameKind::Full,
            1 => FrameKind::Delta,
            _ => return Err(Error::corrupt_at(5, "unknown kind of frame")),
        };
        let compression = match compression {
            0 => Compression::Stored,
            1 => Compression::Zstd,
            _ => return Err(Error::corrupt_at(6, "unknown compression of the body")),
        };
        if zero != 0 {
            return Err(Error::corrupt_at(7, "a reserved byte is not 0"));
        }
        let header = Header { kind, compression, epoch, sequence, base_digest, target_digest, body_length };
        Ok((header, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const HEADER: Header = Header {
        kind: FrameKind::Delta,
        compression: Compression::Stored,
        epoch: 1,
        sequence: 2,
        base_digest: 3,
        target_digest: 4,
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
    }

    #[test]
    fn a_newer_version_says_so() {
        let mut frame = HEADER.write(b"abc");
        frame[4] = 2;
        let checksum = hash_joined(&frame[..48], b"abc");
        frame[48..56].copy_from_slice(&checksum.to_le_bytes());
        let error = Header::read(&frame).map(|_| ()).map_err(|e| e.kind);
        assert_eq!(error, Err(ErrorKind::Version));
    }
}
