//! What can go wrong while Python objects are read, and the path in its message.

use pyo3::PyErr;

pub enum Step {
    Key(Vec<u8>),
    Index(usize),
}

pub enum Trouble {
    /// A kind of value that cannot be carried. The trail leads from the value up to the symbol.
    Unsupported {
        trail: Vec<Step>,
        message: String,
    },
    /// Raised by Python code that was asked to convert a value, or for want of memory.
    Python(PyErr),
    Core(crate::error::Error),
}

pub type Outcome<T> = Result<T, Trouble>;

impl From<PyErr> for Trouble {
    fn from(error: PyErr) -> Self {
        Trouble::Python(error)
    }
}

impl From<crate::error::Error> for Trouble {
    fn from(error: crate::error::Error) -> Self {
        Trouble::Core(error)
    }
}

impl Trouble {
    pub fn unsupported(message: impl Into<String>) -> Trouble {
        Trouble::Unsupported { trail: Vec::new(), message: message.into() }
    }

    pub fn too_deep() -> Trouble {
        Trouble::unsupported(format!(
            "nested deeper than {} (or it contains itself)",
            crate::format::MAX_DEPTH
        ))
    }

    /// One step further up.
    pub fn below(mut self, step: Step) -> Trouble {
        if let Trouble::Unsupported { trail, .. } = &mut self {
            trail.push(step);
        }
        self
    }

    pub fn below_key(self, key: &[u8]) -> Trouble {
        self.below(Step::Key(key.to_vec()))
    }

    /// Below keys given from the top down.
    pub fn below_keys(self, keys: &[&[u8]]) -> Trouble {
        keys.iter().rev().fold(self, |trouble, key| trouble.below_key(key))
    }
}

/// The text form of a path: `AAPL.lastTrade.c[0]`, with `.`, `[` and `\` escaped.
pub fn path_text<'a>(steps: impl Iterator<Item = &'a Step>) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Index(i) => text.push_str(&format!("[{i}]")),
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(&key_text(key));
            }
        }
    }
    text
}

pub fn key_text(key: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(key).chars() {
        if matches!(c, '.' | '[' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}
