//! Frames: a body compressed by zstd behind its header. FORMAT.md section 2.

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use crate::error::{Error, ErrorKind, Result};
use crate::format::budget::Budget;
use crate::format::header::{Compression, Header};
use crate::format::section;
use crate::format::writer::Writer;
use crate::frame::sections::split_entropy;

const MAX_WINDOW_LOG: u32 = 27;

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::TooLarge, format!("zstd: {error}"))
}

/// Makes frames with one level; the compressor's memory is kept between them.
pub(crate) struct FrameWriter {
    compressor: Compressor<'static>,
    #[cfg(test)]
    pub(crate) fault: Option<Fault>,
}

/// What befalls a frame before anyone reads it.
#[cfg(test)]
pub(crate) type Fault = Box<dyn Fn(Vec<u8>) -> Vec<u8>>;

impl FrameWriter {
    pub(crate) fn new(level: i32) -> Result<FrameWriter> {
        let compressor = Compressor::new(level).map_err(failed)?;
        Ok(FrameWriter {
            compressor,
            #[cfg(test)]
            fault: None,
        })
    }

    pub(crate) fn write(&mut self, header: Header, body: &[u8]) -> Result<Vec<u8>> {
        let Ok(body_length) = u32::try_from(body.len()) else {
            let message = format!("a frame of {} bytes is over 4 GiB", body.len());
            return Err(Error::new(ErrorKind::TooLarge, message));
        };
        let (text, entropy) = split_entropy(body);
        let mut payload = self.compressor.compress(text).map_err(failed)?;
        payload.extend_from_slice(entropy);
        let frame = if payload.len() < body.len() {
            let body_length = text.len() as u32;
            Header { compression: Compression::Zstd, body_length, ..header }.write(&payload)
        } else {
            Header { compression: Compression::Stored, body_length, ..header }.write(body)
        };
        #[cfg(test)]
        if let Some(fault) = &self.fault {
            return Ok(fault(frame));
        }
        Ok(frame)
    }
}

/// The frame with what its header says that a reader needs.
pub(crate) fn with_required_bytes(frame: &[u8], required_bytes: u64) -> Result<Vec<u8>> {
    let (header, payload) = Header::read(frame)?;
    let header = Header { required_bytes, ..header };
    let frame = header.write(payload);
    match Header::read(&frame)? {
        read if read == (header, payload) => Ok(frame),
        _ => Err(Error::corrupt("the header is not the one that was meant")),
    }
}

/// Header and decoded body of a frame.
pub(crate) fn read(frame: &[u8], budget: &mut Budget) -> Result<(Header, Vec<u8>)> {
    let (header, payload) = Header::read(frame)?;
    budget.charge(u64::from(header.body_length), 1, "bytes of body")?;
    let length = header.body_length as usize;
    let body = match header.compression {
        Compression::Stored => payload.to_vec(),
        Compression::Zstd => {
            let bad = || Error::corrupt("the body is not one zstd frame");
            let Ok(end) = zstd_safe::find_frame_compressed_size(payload) else {
                return Err(bad());
            };
            let (payload, entropy) = payload.split_at_checked(end).ok_or_else(bad)?;
            let mut decompressor = Decompressor::new().map_err(failed)?;
            decompressor
                .set_parameter(zstd_safe::DParameter::WindowLogMax(MAX_WINDOW_LOG))
                .map_err(failed)?;
            let bytes = decompressor.decompress(payload, length).map_err(|_| bad())?;
            let mut w = Writer { bytes, ..Writer::default() };
            if w.bytes.len() != length {
                return Err(Error::corrupt("the body is not as long as declared"));
            }
            budget.charge(entropy.len() as u64, 1, "bytes of body")?;
            w.section(section::ENTROPY, &Writer { bytes: entropy.to_vec(), ..Writer::default() });
            w.bytes
        }
    };
    if header.compression == Compression::Stored && body.len() != length {
        return Err(Error::corrupt("the body is not as long as declared"));
    }
    Ok((header, body))
}
