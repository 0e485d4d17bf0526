//! The bytes of FORMAT.md. Nothing outside this folder knows a byte's meaning.

pub mod budget;
pub mod datetime;
pub mod decimal;
pub mod hash;
pub mod header;
pub mod reader;
pub mod tag;
pub mod text;
pub mod value;
pub mod writer;

pub const VERSION: u8 = 1;

/// Dicts, lists and tuples nest at most this deep.
pub const MAX_DEPTH: usize = 64;

/// Section ids, FORMAT.md sections 3 to 9.
pub mod section {
    pub const ROWS: u8 = 1;
    pub const PATHS: u8 = 2;
    pub const SHAPES: u8 = 3;
    pub const ROW_SETS: u8 = 4;
    pub const SPARSE: u8 = 5;
    pub const COLUMNS: u8 = 6;
    pub const ORDER: u8 = 7;
    pub const FIRST_OPTIONAL: u8 = 128;
}

/// Kinds of row sets, FORMAT.md section 6.
pub mod row_set_kind {
    pub const MEMBERS: u8 = 0;
    pub const BITMAP: u8 = 1;
    pub const EXCLUSIONS: u8 = 2;
}

/// Flags of a column, FORMAT.md section 8.
pub mod column_flag {
    pub const UPDATES: u8 = 1;
    pub const INSERTS: u8 = 2;
}

/// First byte of a cell stream where it is no tag, FORMAT.md section 8.1.
pub mod cells {
    pub const COPY: u8 = 254;
    pub const MAX_COPIES: usize = 8;
    pub const MIXED: u8 = 255;
}

/// Codings of a word stream, FORMAT.md section 8.2.
pub mod fixed64 {
    pub const CONSTANT: u8 = 0;
    pub const DICTIONARY: u8 = 1;
    pub const RESIDUALS: u8 = 2;
    pub const DECIMALS: u8 = 3;
    pub const MAX_EXPONENT: u8 = 22;
    pub const MAX_DICTIONARY: usize = 65_536;
}

/// Predictors of residuals, FORMAT.md section 8.2.
pub mod predictor {
    pub const ZERO: u8 = 0;
    pub const BASE: u8 = 1;
    pub const PREVIOUS: u8 = 2;
    pub const REFERENCE: u8 = 3;
    pub const COLUMN: u8 = 4;
    pub const COLUMN_CHANGE: u8 = 5;
    pub const FORMULA: u8 = 6;
    pub const MAX: u8 = 7;
}

/// Codings of a blob stream, FORMAT.md section 8.3.
pub mod bytes {
    pub const DIRECT: u8 = 0;
    pub const DICTIONARY: u8 = 1;
}

/// Modes of ORDER, FORMAT.md section 9.
pub mod order {
    pub const MOVES: u8 = 0;
    pub const SORTED: u8 = 1;
    pub const DESCENDING: u8 = 1;
}
