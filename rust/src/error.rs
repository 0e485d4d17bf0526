//! One error for the whole core: what kind it is, and where it was found.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// The bytes break the format.
    Corrupt,
    /// The bytes ask for more than the limits allow.
    Limit,
    /// Written by a newer format.
    Version,
    /// The delta was made from another base.
    BaseMismatch,
    /// What is to be written does not fit the format (a frame over 4 GiB).
    TooLarge,
    /// A frame just made does not read back.
    Encoding,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    /// Offset in the frame (header) or in its decoded body, where one is known.
    pub(crate) offset: Option<usize>,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), offset: None }
    }

    pub(crate) fn base_mismatch(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BaseMismatch, message)
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    pub(crate) fn corrupt_at(offset: usize, message: impl Into<String>) -> Self {
        Self::corrupt(message).at(offset)
    }

    pub(crate) fn version(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Version, message)
    }

    /// Names the place, unless a deeper one is already named.
    pub(crate) fn at(mut self, offset: usize) -> Self {
        self.offset.get_or_insert(offset);
        self
    }
}

/// A key in the text of a path, with `.`, `[` and `\` escaped.
pub(crate) fn key_text(key: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(key).chars() {
        if matches!(c, '.' | '[' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// The text of a path.
pub(crate) fn text_of_keys(keys: &[impl AsRef<[u8]>]) -> String {
    keys.iter().map(|key| key_text(key.as_ref())).collect::<Vec<_>>().join(".")
}

/// 1204 -> "1,204"
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "byte {}: {}", grouped(offset), self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_and_grouped() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1204), "1,204");
        assert_eq!(grouped(1_000_000), "1,000,000");
        let e = Error::corrupt("x").at(1204).at(9);
        assert_eq!(e.to_string(), "byte 1,204: x");
    }
}
