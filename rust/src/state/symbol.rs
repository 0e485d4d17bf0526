//! A symbol, which stands in its row if it is short.

use std::ops::Deref;

/// As long as fits beside a length in the room of a box and its kind.
const INLINE: usize = 22;

#[derive(Debug, Clone)]
pub(crate) struct Symbol(Form);

#[derive(Debug, Clone)]
enum Form {
    Inline(u8, [u8; INLINE]),
    Boxed(Box<[u8]>),
}

impl Symbol {
    /// What is kept outside of the row.
    #[inline]
    pub(crate) fn boxed(&self) -> Option<&[u8]> {
        match &self.0 {
            Form::Inline(..) => None,
            Form::Boxed(text) => Some(text),
        }
    }
}

impl Default for Symbol {
    fn default() -> Self {
        Symbol(Form::Inline(0, [0; INLINE]))
    }
}

impl From<&[u8]> for Symbol {
    fn from(text: &[u8]) -> Self {
        let mut inline = [0; INLINE];
        match inline.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text);
                Symbol(Form::Inline(text.len() as u8, inline))
            }
            None => Symbol(Form::Boxed(text.into())),
        }
    }
}

impl Deref for Symbol {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Form::Inline(length, text) => &text[..usize::from(*length)],
            Form::Boxed(text) => text,
        }
    }
}

impl PartialEq for Symbol {
    fn eq(&self, other: &Symbol) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_symbols_are_what_they_were_made_of() {
        let text: Vec<u8> = (b'A'..=b'Z').collect();
        assert_eq!(Symbol::default(), Symbol::from(&text[..0]));
        for length in 0..=text.len() {
            let symbol = Symbol::from(&text[..length]);
            assert_eq!(*symbol, text[..length]);
            assert_eq!(symbol.boxed().is_some(), length > INLINE);
            assert!(symbol == symbol.clone() && symbol != Symbol::from(&b"other"[..]));
        }
        assert_eq!(size_of::<Symbol>(), 24);
    }
}
