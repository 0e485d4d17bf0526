//! Parts of the encoder that a measurement leaves out: what each saves is the difference (benches/savings.py).

/// What can be left out; the decoder reads such frames as any others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Columns are predicted from other columns.
    Columns,
    /// Numbers of all kinds are coded in one domain.
    Numbers,
    /// Text is compressed with the base's text as prefix.
    Text,
    /// Row sets are predicted from earlier ones.
    RowSets,
    /// Residuals are coded at their entropy.
    Entropy,
}

/// Without the feature nothing is left out, and nothing is asked at run time.
#[cfg(not(feature = "savings"))]
pub(crate) const fn left_out(_: Part) -> bool {
    false
}

/// True if `SNAPDELTA_LEAVE_OUT` names the part.
#[cfg(feature = "savings")]
pub(crate) fn left_out(part: Part) -> bool {
    static NAMES: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let names = NAMES.get_or_init(|| std::env::var("SNAPDELTA_LEAVE_OUT").unwrap_or_default());
    let name = match part {
        Part::Columns => "columns",
        Part::Numbers => "numbers",
        Part::Text => "text",
        Part::RowSets => "row_sets",
        Part::Entropy => "entropy",
    };
    names.split(',').any(|named| named == name)
}
