//! What a connection wants sent: owned bytes and shared receive buffers, in order.
//!
//! What it leaves to others: when to send, and how much may wait.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use crate::Buffer;

/// Received bytes shorter than this are copied behind the owned bytes instead of being shared.
///
/// Between 1 and 8 KiB a copy with one contiguous send and a scatter list without a copy cost the
/// same (measured through a relay, differences below 3 %), so the reason is another one: a copied
/// buffer is free at once, and goes round while it is warm.
pub const COPY_BYTES_MAX: usize = 2048;

/// An output that comes back to the pool keeps its owned bytes' memory up to this size.
const RETAIN_BYTES_MAX: usize = 64 * 1024;

/// Outputs that a pool keeps; more are freed.
const POOLED_MAX: usize = 1024;

/// Outputs that a pool keeps, whether they are needed or not, and how many it frees at once at most
/// of those that are not.
const KEPT: usize = 8;
const TRIMMED_MAX: usize = 64;

/// Segments of one system call: the kernel's `UIO_MAXIOV`.
const VECTORS_MAX: usize = 1024;

/// Bytes to send, in order. Comes from [`crate::Io::output`] and goes back to the pool by itself.
pub struct Output {
    // Boxed so that what the kernel reads while a send is in flight stays put when the output
    // moves. `None` only inside `drop`.
    body: Option<Box<Body>>,
}

/// In this order, so that the usual message, which is owned bytes only, touches one cache line of
/// it.
#[repr(C, align(64))]
struct Body {
    owned: Vec<u8>,
    shared_bytes: usize,
    sent: usize,
    /// Owned bytes before this are named by segments; those from here on come after all segments.
    /// For example "head", shared 5000, "tail": owned is "headtail", segments are owned 0..4 and
    /// shared 5000, and settled is 4.
    settled: usize,
    home: Option<Rc<OutputPool>>,
    segments: Vec<Segment>,
    vectors: Vec<libc::iovec>,
    message: libc::msghdr,
}

const _: () = assert!(std::mem::offset_of!(Body, segments) <= 64);

enum Segment {
    Owned(Range<usize>),
    Shared(Buffer),
}

/// What a backend hands to the kernel next. The pointers are good as long as the output lives.
#[derive(Clone, Copy)]
pub(crate) enum Unsent {
    /// One piece: its start and length.
    One(*const u8, usize),
    /// Several pieces.
    Many(*const libc::msghdr),
}

impl Output {
    /// The owned bytes at the end, to append to: what encoders write into.
    ///
    /// Append only: bytes that are there already may come before shared ones.
    #[inline]
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.body_mut().owned
    }

    /// Appends received bytes: by reference, or by copy when they are short or their pool is half
    /// empty. Peers that take nothing can so hold half of the receive buffers at most, and nobody
    /// else has to wait for them.
    #[inline]
    pub fn push(&mut self, buffer: Buffer) {
        if buffer.len() < COPY_BYTES_MAX || buffer.is_scarce() {
            self.tail().extend_from_slice(&buffer);
        } else {
            self.push_shared(buffer);
        }
    }

    fn push_shared(&mut self, buffer: Buffer) {
        let body = self.body_mut();
        body.settle();
        body.shared_bytes += buffer.len();
        body.segments.push(Segment::Shared(buffer));
    }

    /// Bytes in all.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        let body = self.body();
        body.owned.len() + body.shared_bytes
    }

    /// Whether there is nothing to send.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in order, piece by piece; no piece is empty.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.body().pieces()
    }

    /// Bytes that were not sent yet, as [`Output::advance`] counts them.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.len() - self.body().sent
    }

    /// Notes that the kernel took `bytes` more.
    pub(crate) fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.unsent_bytes());
        self.body_mut().sent += bytes;
    }

    /// What to send next; everything that is left, or the first [`VECTORS_MAX`] pieces of it.
    ///
    /// The output must not be changed while the kernel reads it.
    pub(crate) fn unsent(&mut self) -> Unsent {
        let body = self.body_mut();
        if body.shared_bytes == 0 {
            let rest = &body.owned[body.sent..];
            return Unsent::One(rest.as_ptr(), rest.len());
        }
        body.gather()
    }

    fn body(&self) -> &Body {
        match &self.body {
            Some(body) => body,
            None => unreachable!("an output has a body until it is dropped"),
        }
    }

    fn body_mut(&mut self) -> &mut Body {
        match &mut self.body {
            Some(body) => body,
            None => unreachable!("an output has a body until it is dropped"),
        }
    }
}

impl Body {
    fn new() -> Box<Body> {
        Box::new(Body {
            owned: Vec::new(),
            settled: 0,
            segments: Vec::new(),
            shared_bytes: 0,
            sent: 0,
            vectors: Vec::new(),
            // SAFETY: a msghdr of zeroes is valid: null pointers and zero lengths.
            message: unsafe { std::mem::zeroed() },
            home: None,
        })
    }

    /// Names the owned bytes at the end by a segment, so that another segment can follow them.
    fn settle(&mut self) {
        debug_assert!(self.settled <= self.owned.len(), "tail() is for appending");
        if self.settled < self.owned.len() {
            self.segments.push(Segment::Owned(self.settled..self.owned.len()));
            self.settled = self.owned.len();
        }
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let named = self.segments.iter().map(|segment| match segment {
            Segment::Owned(range) => &self.owned[range.clone()],
            Segment::Shared(buffer) => &**buffer,
        });
        named.chain(std::iter::once(&self.owned[self.settled..])).filter(|piece| !piece.is_empty())
    }

    /// Fills `vectors` and `message` with what is not sent yet.
    fn gather(&mut self) -> Unsent {
        let mut vectors = std::mem::take(&mut self.vectors);
        vectors.clear();
        let mut skip = self.sent;
        for piece in self.pieces() {
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let rest = &piece[skip..];
            skip = 0;
            if vectors.len() == VECTORS_MAX {
                break;
            }
            let iov_base = rest.as_ptr().cast_mut().cast();
            vectors.push(libc::iovec { iov_base, iov_len: rest.len() });
        }
        self.vectors = vectors;
        if let [one] = self.vectors[..] {
            return Unsent::One(one.iov_base.cast(), one.iov_len);
        }
        self.message.msg_iov = self.vectors.as_mut_ptr();
        self.message.msg_iovlen = self.vectors.len() as _;
        Unsent::Many(&raw const self.message)
    }

    fn clear(&mut self) {
        if self.owned.capacity() > RETAIN_BYTES_MAX {
            self.owned = Vec::new();
        }
        self.owned.clear();
        self.settled = 0;
        self.sent = 0;
        if self.shared_bytes > 0 {
            self.segments.clear();
            self.shared_bytes = 0;
        }
    }
}

impl Default for Output {
    /// An output without a pool, for tests.
    fn default() -> Output {
        Output { body: Some(Body::new()) }
    }
}

impl Drop for Output {
    #[inline]
    fn drop(&mut self) {
        if let Some(mut body) = self.body.take()
            && let Some(home) = body.home.take()
        {
            home.take_back(body);
        }
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Output({} bytes)", self.len())
    }
}

/// Cleared outputs to be used again, so that sending allocates nothing in steady state.
#[derive(Default)]
pub(crate) struct OutputPool {
    // Boxes because bodies must not move while the kernel reads them, and so are handed on as they
    // are.
    #[allow(clippy::vec_box)]
    free: RefCell<Vec<Box<Body>>>,
    /// The fewest that were free since the memory was trimmed last.
    fewest: Cell<usize>,
}

impl OutputPool {
    /// An empty output that comes back here.
    pub(crate) fn take(self: &Rc<OutputPool>) -> Output {
        let mut free = self.free.borrow_mut();
        let mut body = free.pop().unwrap_or_else(Body::new);
        self.fewest.set(self.fewest.get().min(free.len()));
        body.home = Some(Rc::clone(self));
        Output { body: Some(body) }
    }

    /// Frees some of those that were not needed since this was called last. Whether there may be
    /// more.
    pub(crate) fn trim(&self) -> bool {
        let mut free = self.free.borrow_mut();
        let unneeded = self.fewest.get().min(free.len()).saturating_sub(KEPT).min(TRIMMED_MAX);
        free.drain(..unneeded);
        self.fewest.set(free.len());
        free.len() > KEPT
    }

    fn take_back(&self, mut body: Box<Body>) {
        body.clear();
        let mut free = self.free.borrow_mut();
        if free.len() < POOLED_MAX {
            free.push(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(output: &Output) -> Vec<u8> {
        output.pieces().collect::<Vec<_>>().concat()
    }

    /// What the kernel would read, and in how many pieces.
    fn unsent(output: &mut Output) -> (Vec<u8>, usize) {
        match output.unsent() {
            Unsent::One(start, length) => {
                // SAFETY: `unsent` gave a live piece of the output.
                (unsafe { std::slice::from_raw_parts(start, length) }.to_vec(), 1)
            }
            Unsent::Many(message) => {
                // SAFETY: `unsent` gave a header whose vectors name live pieces of the output.
                let vectors = unsafe {
                    std::slice::from_raw_parts((*message).msg_iov, (*message).msg_iovlen)
                };
                let mut all = Vec::new();
                for vector in vectors {
                    // SAFETY: as above.
                    all.extend_from_slice(unsafe {
                        std::slice::from_raw_parts(vector.iov_base.cast::<u8>(), vector.iov_len)
                    });
                }
                (all, vectors.len())
            }
        }
    }

    fn long(byte: u8) -> Buffer {
        Buffer::copy_from(&vec![byte; COPY_BYTES_MAX])
    }

    #[test]
    fn short_buffers_are_copied_and_long_ones_shared() {
        let mut output = Output::default();
        assert!(output.is_empty());
        output.tail().extend_from_slice(b"head ");
        output.push(Buffer::copy_from(&vec![b'a'; COPY_BYTES_MAX - 1]));
        assert_eq!(unsent(&mut output).1, 1);
        output.push(long(b'b'));
        output.tail().extend_from_slice(b" tail");
        assert_eq!(output.len(), 5 + 2047 + 2048 + 5);
        let (all, pieces) = unsent(&mut output);
        assert_eq!(pieces, 3);
        assert_eq!(all, bytes(&output));
        assert!(all.starts_with(b"head a") && all.ends_with(b"b tail"));
    }

    #[test]
    fn one_shared_buffer_is_one_piece() {
        let mut output = Output::default();
        output.push(long(b'x'));
        assert_eq!(unsent(&mut output), (vec![b'x'; COPY_BYTES_MAX], 1));
    }

    #[test]
    fn what_was_sent_is_skipped_at_every_position() {
        let mut output = Output::default();
        output.tail().extend_from_slice(b"abc");
        output.push(long(b'd'));
        output.push(long(b'e'));
        output.tail().extend_from_slice(b"fgh");
        let all = bytes(&output);
        // Miri takes minutes for every position.
        let step = if cfg!(miri) { 241 } else { 1 };
        for sent in (0..all.len()).step_by(step) {
            assert_eq!(unsent(&mut output).0, &all[sent..]);
            output.advance(step.min(all.len() - sent));
        }
        assert_eq!(output.unsent_bytes(), 0);
    }

    #[test]
    fn many_pieces_are_sent_in_batches_that_the_kernel_takes() {
        let mut output = Output::default();
        for i in 0..VECTORS_MAX + 5 {
            output.push(long(i as u8));
        }
        assert_eq!(unsent(&mut output).1, VECTORS_MAX);
        output.advance(VECTORS_MAX * COPY_BYTES_MAX);
        assert_eq!(unsent(&mut output), (bytes(&output)[VECTORS_MAX * COPY_BYTES_MAX..].into(), 5));
    }

    #[test]
    fn outputs_come_back_empty_and_keep_their_memory() {
        let pool = Rc::new(OutputPool::default());
        let mut output = pool.take();
        output.tail().extend_from_slice(b"something");
        output.push(long(b'y'));
        output.advance(3);
        let body: *const Body = output.body();
        drop(output);
        assert_eq!(pool.free.borrow().len(), 1);
        let mut output = pool.take();
        assert_eq!(body, &raw const *output.body());
        assert!(output.is_empty() && output.unsent_bytes() == 0);
        assert!(output.tail().capacity() >= 9);
        assert_eq!(output.pieces().count(), 0);
        output.tail().reserve(RETAIN_BYTES_MAX + 1);
        drop(output);
        assert_eq!(pool.take().tail().capacity(), 0);
        assert_eq!(Rc::strong_count(&pool), 1);
    }

    #[test]
    #[should_panic(expected = "assertion")]
    fn more_than_there_is_cannot_be_sent() {
        let mut output = Output::default();
        output.tail().push(1);
        output.advance(2);
    }
}
