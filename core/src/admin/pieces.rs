//! The body of an answer: a text, or pieces that are made one by one as the client takes them, so
//! that a slow client costs no memory and a long page keeps no other client waiting.
//!
//! What it leaves to others: what is in the pieces.

use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Pieces are put together to about this size.
const PIECE: usize = 32 << 10;

type Texts = Box<dyn Iterator<Item = String> + Send>;

/// The body of an answer.
pub(super) enum Pieces {
    /// All of it.
    Whole(String),
    /// One text after the other.
    Parts(Parts),
}

/// Texts that are made when they are needed.
pub(super) struct Parts {
    texts: Texts,
    /// Others had their turn since the last piece.
    yielded: bool,
}

impl Pieces {
    /// A body of these texts.
    pub(super) fn parts(texts: impl Iterator<Item = String> + Send + 'static) -> Pieces {
        Pieces::Parts(Parts { texts: Box::new(texts), yielded: true })
    }

    /// All of it in one text.
    #[cfg(test)]
    pub(super) fn text(self) -> String {
        match self {
            Pieces::Whole(text) => text,
            Pieces::Parts(parts) => parts.texts.collect(),
        }
    }
}

impl Parts {
    fn next(&mut self) -> Option<String> {
        let mut piece = self.texts.next()?;
        while piece.len() < PIECE
            && let Some(text) = self.texts.next()
        {
            piece.push_str(&text);
        }
        Some(piece)
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = |text: String| Some(Ok(Frame::data(Bytes::from(text))));
        match self.get_mut() {
            Pieces::Whole(text) if text.is_empty() => Poll::Ready(None),
            Pieces::Whole(text) => Poll::Ready(frame(std::mem::take(text))),
            Pieces::Parts(parts) => {
                parts.yielded = !parts.yielded;
                if parts.yielded {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(parts.next().and_then(frame))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Pieces::Whole(text) if text.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Pieces::Whole(text) => SizeHint::with_exact(text.len() as u64),
            Pieces::Parts(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pieces::Whole(text) => f.debug_tuple("Whole").field(text).finish(),
            Pieces::Parts(_) => f.write_str("Parts"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_are_put_together() {
        let texts = (0..100).map(|_| "x".repeat(PIECE / 8));
        let Pieces::Parts(mut parts) = Pieces::parts(texts) else { panic!("not parts") };
        let mut lengths = Vec::new();
        while let Some(piece) = parts.next() {
            lengths.push(piece.len());
        }
        assert_eq!(lengths.iter().sum::<usize>(), 100 * (PIECE / 8));
        assert!(lengths[..lengths.len() - 1].iter().all(|length| *length >= PIECE));
        assert_eq!(Pieces::parts(["a", "b"].map(str::to_owned).into_iter()).text(), "ab");
    }
}
