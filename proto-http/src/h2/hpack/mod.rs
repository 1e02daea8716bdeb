//! HPACK (RFC 7541): field lines to bytes and back, with a dynamic table on each side.
//!
//! What it leaves to others: which fields make a good head (`h2::fields`), frames, and SETTINGS.

mod decode;
mod dynamic;
mod encode;
mod huffman;
mod integer;
mod line;
mod static_table;

pub(crate) use decode::Block;
pub use decode::Decoder;
pub use encode::{Encoder, Indexing};
pub use line::{Line, LineName};

/// What can be wrong with a field block: on a connection always COMPRESSION_ERROR (RFC 9113 4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HpackError {
    /// The block ends within a representation.
    Truncated,
    /// An integer of more than 28 bits.
    IntegerTooLarge,
    /// Bytes that are not the Huffman code of anything, or padded with more than seven bits or with
    /// zeros.
    Huffman,
    /// Index 0, or one beyond both tables.
    Index,
    /// A table size above what was allowed, at another place than the block's beginning, or the
    /// third in one block.
    TableSize,
    /// The allowed size was reduced, and no table size follows (RFC 7541 4.2).
    TableSizeMissing,
}

impl core::fmt::Display for HpackError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl core::error::Error for HpackError {}

/// The size that both dynamic tables begin with (RFC 9113 6.5.2).
pub const DEFAULT_TABLE_SIZE: usize = 4096;
