//! The bytes of FORMAT.md. Nothing outside this folder knows a byte's meaning.

pub(crate) mod budget;
pub(crate) mod datetime;
pub(crate) mod decimal;
pub(crate) mod entropy;
pub(crate) mod hash;
pub(crate) mod header;
pub(crate) mod integers;
pub(crate) mod number;
pub(crate) mod number_text;
pub(crate) mod powers;
pub(crate) mod reader;
pub(crate) mod tag;
pub(crate) mod text;
pub(crate) mod value;
pub(crate) mod writer;

pub(crate) const VERSION: u8 = 1;

/// Dicts, lists and tuples nest at most this deep.
pub(crate) const MAX_DEPTH: usize = 64;

/// Section ids, FORMAT.md sections 3 to 9.
pub(crate) mod section {
    pub(crate) const ROWS: u8 = 1;
    pub(crate) const PATHS: u8 = 2;
    pub(crate) const SHAPES: u8 = 3;
    pub(crate) const ROW_SETS: u8 = 4;
    pub(crate) const SPARSE: u8 = 5;
    pub(crate) const COLUMNS: u8 = 6;
    pub(crate) const ORDER: u8 = 7;
    pub(crate) const TEXT: u8 = 8;
    pub(crate) const ENTROPY: u8 = 9;
    pub(crate) const LAST: u8 = ENTROPY;
    pub(crate) const FIRST_OPTIONAL: u8 = 128;
}

/// Kinds of row sets, FORMAT.md section 6.
pub(crate) mod row_set_kind {
    pub(crate) const MEMBERS: u8 = 0;
    pub(crate) const BITMAP: u8 = 1;
    pub(crate) const EXCLUSIONS: u8 = 2;
    pub(crate) const WRONG: u8 = 3;
    pub(crate) const BY_CONTEXT: u8 = 4;
    /// The most sets of a context.
    pub(crate) const MAX_CONTEXT_SETS: usize = 4;
}

/// Shares of a choice, of 256; the last one means all. FORMAT.md sections 6 and 8.4.
pub(crate) mod share {
    pub(crate) const NONE: u8 = 0;
    pub(crate) const ALL: u8 = 255;
    pub(crate) const BITS: u8 = 8;

    /// Those of row sets, which are written as places in this list: the squares of the sines of equal steps.
    pub(crate) const LISTED: [u8; 1 << LISTED_BITS] = [
        0, 1, 3, 6, 10, 16, 23, 31, 40, 50, 60, 72, 84, 96, 109, 122, 134, 147, 160, 172, 184, 196, 206, 216,
        225, 233, 240, 246, 250, 253, 254, 255,
    ];
    pub(crate) const LISTED_BITS: u8 = 5;
}

/// Flags of a column, FORMAT.md section 8.
pub(crate) mod column_flag {
    pub(crate) const UPDATES: u8 = 1;
    pub(crate) const INSERTS: u8 = 2;
    pub(crate) const BASE_VALUES: u8 = 4;
}

/// First byte of a cell stream if it is not a tag, FORMAT.md section 8.1.
pub(crate) mod cells {
    pub(crate) const SPLIT: u8 = 252;
    pub(crate) const NUMBERS: u8 = 253;
    pub(crate) const COPY: u8 = 254;
    pub(crate) const MAX_COPIES: usize = 8;
    pub(crate) const MIXED: u8 = 255;
}

/// Encodings of a word stream, FORMAT.md section 8.2.
pub(crate) mod fixed64 {
    pub(crate) const CONSTANT: u8 = 0;
    pub(crate) const DICTIONARY: u8 = 1;
    pub(crate) const RESIDUALS: u8 = 2;
    pub(crate) const MAX_DICTIONARY: usize = 65_536;
}

/// Predictors of residuals, FORMAT.md section 8.2.
pub(crate) mod predictor {
    pub(crate) const ZERO: u8 = 0;
    pub(crate) const BASE: u8 = 1;
    pub(crate) const PREVIOUS: u8 = 2;
    pub(crate) const REFERENCE: u8 = 3;
    pub(crate) const COLUMN: u8 = 4;
    pub(crate) const COLUMN_CHANGE: u8 = 5;
    pub(crate) const MAX: u8 = 6;
}

/// Streams of numbers, FORMAT.md section 8.4.
pub(crate) mod numbers {
    pub(crate) const MAX_EXPONENT: u8 = 18;
    /// The exponent that means the bits of doubles.
    pub(crate) const RAW: u8 = 255;
    pub(crate) const MAX_FORMS: usize = 15;

    /// Kinds of forms.
    pub(crate) mod form {
        pub(crate) const ABSENT: u8 = 0;
        pub(crate) const INT: u8 = 1;
        pub(crate) const FLOAT: u8 = 2;
        pub(crate) const INT_OR_FLOAT: u8 = 3;
        pub(crate) const DECIMAL: u8 = 4;
        pub(crate) const TEXT: u8 = 5;
    }

    /// As many decimals as a number needs.
    pub(crate) const SHORTEST: u8 = 255;
    /// The same, but at least one.
    pub(crate) const SHORTEST_WITH_POINT: u8 = 254;

    /// Flags of a number in text.
    pub(crate) mod text_flag {
        pub(crate) const SIGN_AFTER_PREFIX: u8 = 1;
        pub(crate) const PLUS: u8 = 2;
        pub(crate) const GROUPED: u8 = 4;
        pub(crate) const PLUS_ON_ZERO: u8 = 8;
        pub(crate) const ALL: u8 = 15;
    }

    /// How the form of a cell is predicted.
    pub(crate) mod mode {
        pub(crate) const FIRST: u8 = 0;
        pub(crate) const BASE: u8 = 1;
        pub(crate) const PRESENCE: u8 = 2;
        pub(crate) const BY_CONTEXT: u8 = 3;
    }

    /// Predictors of numbers.
    pub(crate) mod predictor {
        pub(crate) const ZERO: u8 = 0;
        pub(crate) const PREVIOUS: u8 = 1;
        pub(crate) const REFERENCE: u8 = 2;
        pub(crate) const FORMULA: u8 = 3;
    }
}

/// Encodings of a blob stream, FORMAT.md section 8.3.
pub(crate) mod bytes {
    pub(crate) const DIRECT: u8 = 0;
    pub(crate) const DICTIONARY: u8 = 1;
    pub(crate) const BASE_VALUES: u8 = 2;
}

/// Modes of ORDER, FORMAT.md section 9.
pub(crate) mod order {
    pub(crate) const MOVES: u8 = 0;
    pub(crate) const SORTED: u8 = 1;
    pub(crate) const DESCENDING: u8 = 1;
}
