//! Reading bodies: exact, chunked, until close.
//!
//! What it leaves to others: the grammar of chunks (`chunked.rs`), and what follows a body.

use super::chunked::Chunked;
use super::lines::LineBuffer;
use crate::error::Fault;
use crate::{BodyLength, Headers};
use core::ops::Range;

/// What a step of reading a body came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum BodyStep {
    NeedMore,
    /// This range of the input.
    Data(Range<usize>),
    Trailers,
    End,
}

/// Where a body stands.
#[derive(Debug)]
pub(crate) enum Body {
    /// No more bytes.
    Complete,
    /// So many bytes are missing; at least one.
    Exact(u64),
    Chunked(Chunked),
    UntilClose,
}

/// What reading a trailer section needs.
pub(crate) struct TrailerSink<'d> {
    pub(crate) lines: &'d mut LineBuffer,
    pub(crate) trailers: &'d mut Headers,
    /// Envoy's `enable_trailers`.
    pub(crate) keep: bool,
}

impl Body {
    /// A body before its first byte. A tunnel is not a body; its owner knows.
    pub(crate) fn new(length: BodyLength, extension_bytes_max: usize) -> Body {
        match length {
            BodyLength::None | BodyLength::Tunnel | BodyLength::Exact(0) => Body::Complete,
            BodyLength::Exact(length) => Body::Exact(length),
            BodyLength::Chunked => Body::Chunked(Chunked::new(extension_bytes_max)),
            BodyLength::UntilClose => Body::UntilClose,
        }
    }

    /// Reads on; answers with the number of bytes dealt with.
    pub(crate) fn step(
        &mut self,
        input: &[u8],
        sink: TrailerSink<'_>,
    ) -> Result<(usize, BodyStep), Fault> {
        match self {
            Body::Complete => Ok((0, BodyStep::End)),
            Body::Chunked(chunked) => chunked.step(input, sink),
            _ if input.is_empty() => Ok((0, BodyStep::NeedMore)),
            Body::Exact(left) => {
                let length = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= length as u64;
                if *left == 0 {
                    *self = Body::Complete;
                }
                Ok((length, BodyStep::Data(0..length)))
            }
            Body::UntilClose => Ok((input.len(), BodyStep::Data(0..input.len()))),
        }
    }
}
