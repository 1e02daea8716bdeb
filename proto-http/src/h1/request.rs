//! Reading requests.
//!
//! ```text
//!           .------------------- End, keep-alive ---------------.
//!           v                                                   |
//!   Head --head--> Body --data, trailers--> Body --complete--> Ending --End--> Closed   (close)
//!    |                                                          |
//!    |  CONNECT                               Upgrade           |
//!    `---------------------> Waiting <--------------------------'
//!                             |    `--resume--> Head, or Closed after CONNECT or close
//!                             `--tunnel--> Tunnel
//! ```
//!
//! What it leaves to others: answering, and deciding about an upgrade.

use super::body::{Body, BodyStep, TrailerSink};
use super::head;
use super::lines::{Fed, LineBuffer, Section};
use super::{Event, Options, Step};
use crate::error::Fault;
use crate::limits::LEADING_BYTES_MAX;
use crate::{BodyLength, Headers, HttpError, Limits, RequestHead};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Head,
    Body,
    /// The body is complete; [`Event::End`] is due.
    Ending,
    Waiting,
    Tunnel,
    Closed,
    /// Something came behind the last request, and is ignored.
    Ignoring,
    Failed(HttpError),
}

/// Reads requests from one downstream connection, one after the other (pipelining included).
#[derive(Debug)]
pub struct RequestDecoder {
    options: Options,
    limits: Limits,
    state: State,
    /// The state after the request that is being read.
    after: State,
    /// Whether the last request asked for the connection's end.
    is_last: bool,
    /// Bytes of empty lines before the request line.
    leading: usize,
    lines: LineBuffer,
    body: Body,
    trailers: Headers,
}

impl RequestDecoder {
    /// A decoder before its first request.
    #[must_use]
    pub fn new(options: Options, limits: Limits) -> RequestDecoder {
        RequestDecoder {
            options,
            limits,
            state: State::Head,
            after: State::Head,
            is_last: false,
            leading: 0,
            lines: LineBuffer::new(Section::Request, options.allow_backslash, &limits),
            body: Body::Complete,
            trailers: Headers::default(),
        }
    }

    /// Takes one step; see the module's page. `head` is overwritten when a head is complete, and
    /// of no meaning after an error.
    ///
    /// After [`Event::Head`] the caller may look at the head and must go on with the same decoder:
    /// a body is never skipped by itself. After a request with `close`, further input is consumed
    /// and ignored.
    ///
    /// # Errors
    ///
    /// What the peer sent cannot be used; see [`HttpError`]. The decoder is of no further use: it
    /// answers with the same error again.
    pub fn decode(&mut self, input: &[u8], head: &mut RequestHead) -> Result<Step, HttpError> {
        let step = match self.state {
            State::Head => self.decode_head(input, head),
            State::Body => self.decode_body(input),
            State::Ending => {
                self.state = self.after;
                Ok(Step::new(0, Event::End))
            }
            State::Waiting => Ok(Step::new(0, Event::NeedMore)),
            State::Tunnel => Ok(Step::new(0, Event::Tunnel)),
            State::Closed | State::Ignoring => {
                self.state = if input.is_empty() { self.state } else { State::Ignoring };
                Ok(Step::new(input.len(), Event::NeedMore))
            }
            State::Failed(error) => return Err(error),
        };
        step.map_err(|fault| {
            let error = HttpError::from(fault);
            self.state = State::Failed(error);
            error
        })
    }

    /// Whether a request has begun and its head is not complete: what `request_headers_timeout`
    /// bounds. Empty lines before a request do not begin one.
    #[must_use]
    pub fn is_in_head(&self) -> bool {
        self.state == State::Head && !self.lines.is_empty()
    }

    /// Whether no byte of a further request has been read: the connection is idle.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state == State::Head && self.lines.is_empty()
    }

    /// Whether a request that asked for the connection's end has ended, and nothing came behind it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether the decoder waits to hear what the bytes after a request are.
    ///
    /// What follows a CONNECT request, or a request with `upgrade` and its body, may be HTTP or
    /// not; that is the answer's to decide. Until then nothing is consumed:
    /// [`RequestDecoder::decode`] answers [`Event::NeedMore`] and leaves the input to the caller,
    /// who keeps it. When the answer is known (101, or 2xx to CONNECT, or anything else) call
    /// [`RequestDecoder::tunnel`] or [`RequestDecoder::resume`], then decode what was kept.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// The connection stays HTTP: the upgrade was refused, ignored or not understood. May be called
    /// as soon as the head is known. After CONNECT, or a request with `close`, further input is
    /// ignored instead.
    pub fn resume(&mut self) {
        let state = if self.is_last { State::Closed } else { State::Head };
        self.leave_waiting(state);
    }

    /// The connection is another protocol's once the request is complete: `decode` answers
    /// [`Event::Tunnel`] from there on and consumes nothing.
    pub fn tunnel(&mut self) {
        self.leave_waiting(State::Tunnel);
    }

    /// The trailers of the request that just ended.
    #[must_use]
    pub fn trailers(&self) -> Option<&Headers> {
        (!self.trailers.is_empty()).then_some(&self.trailers)
    }

    fn leave_waiting(&mut self, state: State) {
        match self.state {
            State::Waiting => self.state = state,
            State::Body | State::Ending if self.after == State::Waiting => self.after = state,
            _ => {}
        }
    }

    fn decode_head(&mut self, input: &[u8], head: &mut RequestHead) -> Result<Step, Fault> {
        if !self.lines.is_empty() {
            return self.decode_kept_head(0, input, head);
        }
        let start = self.skip_empty_lines(input)?;
        let rest = &input[start..];
        if rest.is_empty() {
            return Ok(Step::new(start, Event::NeedMore));
        }
        let window = &rest[..rest.len().min(self.lines.taken_max())];
        let parsed = head::parse_request(window, &self.options, self.limits.fields_max, head);
        match parsed {
            Ok(Some(length)) => {
                self.begin(head);
                Ok(Step::new(start + length, Event::Head))
            }
            _ => self.decode_kept_head(start, rest, head),
        }
    }

    /// The long way: line by line, with what came before. `start` bytes of the caller's input lie
    /// before `rest`.
    #[cold]
    fn decode_kept_head(
        &mut self,
        start: usize,
        rest: &[u8],
        head: &mut RequestHead,
    ) -> Result<Step, Fault> {
        let Fed::Complete(length) = self.lines.feed(rest)? else {
            return Ok(Step::new(start + rest.len(), Event::NeedMore));
        };
        let kept = self.lines.bytes();
        head::parse_request(kept, &self.options, self.limits.fields_max, head)?
            .ok_or(Fault::StartLine)?;
        self.lines.restart(Section::Request);
        self.begin(head);
        Ok(Step::new(start + length, Event::Head))
    }

    /// RFC 9112 2.2: empty lines before a request line are ignored.
    fn skip_empty_lines(&mut self, input: &[u8]) -> Result<usize, Fault> {
        let mut at = 0;
        loop {
            // An odd count means that a CR was the last byte.
            let is_after_cr = self.leading % 2 == 1;
            match input.get(at) {
                Some(b'\r') if !is_after_cr => self.leading += 1,
                Some(b'\n') if is_after_cr => self.leading += 1,
                Some(b'\n') => return Err(Fault::LineEnd),
                Some(_) if is_after_cr => return Err(Fault::LineEnd),
                _ => return Ok(at),
            }
            at += 1;
            if self.leading > LEADING_BYTES_MAX {
                return Err(Fault::EmptyLines);
            }
        }
    }

    /// Prepares for what follows a head.
    fn begin(&mut self, head: &RequestHead) {
        self.leading = 0;
        self.is_last = head.close;
        self.trailers.clear();
        self.after = match head.close {
            _ if head.upgrade => State::Waiting,
            true => State::Closed,
            false => State::Head,
        };
        self.state = match head.body {
            BodyLength::Tunnel => State::Waiting,
            BodyLength::None => State::Ending,
            _ => State::Body,
        };
        self.body = Body::new(head.body, self.limits.chunk_extension_bytes_max);
    }

    fn decode_body(&mut self, input: &[u8]) -> Result<Step, Fault> {
        let sink = TrailerSink {
            lines: &mut self.lines,
            trailers: &mut self.trailers,
            keep: self.options.enable_trailers,
        };
        let (consumed, step) = self.body.step(input, sink)?;
        let event = match step {
            BodyStep::NeedMore => Event::NeedMore,
            BodyStep::Data(range) => Event::Data(range),
            BodyStep::Trailers => Event::Trailers,
            BodyStep::End => {
                self.lines.restart(Section::Request);
                self.state = self.after;
                Event::End
            }
        };
        Ok(Step::new(consumed, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BUFFER_KEEP_BYTES;
    use alloc::vec::Vec;

    const REQUEST: &[u8] = b"POST /a?b HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\nX-Y: z\r\n\
        Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n";

    fn read(decoder: &mut RequestDecoder, head: &mut RequestHead, pieces: &[&[u8]]) {
        for piece in pieces {
            let mut rest = *piece;
            loop {
                let step = decoder.decode(rest, head).expect("a good request");
                rest = &rest[step.consumed..];
                if step.event == Event::NeedMore {
                    break;
                }
            }
        }
    }

    fn memory(decoder: &RequestDecoder, head: &RequestHead) -> [(usize, usize); 5] {
        fn of<T>(vec: &Vec<T>) -> (usize, usize) {
            (vec.as_ptr().addr(), vec.capacity())
        }
        [
            of(&head.headers.arena),
            of(&head.headers.fields),
            of(&decoder.trailers.arena),
            of(&decoder.trailers.fields),
            of(decoder.lines.memory()),
        ]
    }

    /// Whole or in pieces, the second request and all after it find the memory of the first.
    #[test]
    fn memory_is_reused() {
        let options = Options { enable_trailers: true, ..Options::default() };
        let mut decoder = RequestDecoder::new(options, Limits::default());
        let mut head = RequestHead::default();
        let pieces: Vec<&[u8]> = REQUEST.chunks(7).collect();
        read(&mut decoder, &mut head, &pieces);
        read(&mut decoder, &mut head, &[REQUEST]);
        let before = memory(&decoder, &head);
        for _ in 0..100 {
            read(&mut decoder, &mut head, &pieces);
            read(&mut decoder, &mut head, &[REQUEST]);
            assert_eq!(memory(&decoder, &head), before);
        }
    }

    /// One large head in pieces does not make an idle connection large.
    #[test]
    fn memory_of_a_large_head_is_given_back() {
        let mut decoder = RequestDecoder::new(Options::default(), Limits::default());
        let mut head = RequestHead::default();
        let filler = "y".repeat(50_000);
        let large = alloc::format!("GET / HTTP/1.1\r\nHost: a\r\nx: {filler}\r\n\r\n");
        let (first, last) = large.as_bytes().split_at(40_000);
        assert!(decoder.lines.memory().capacity() == 0);
        read(&mut decoder, &mut head, &[first]);
        assert!(decoder.lines.memory().capacity() >= 40_000 && decoder.is_in_head());
        read(&mut decoder, &mut head, &[last]);
        assert!(decoder.lines.memory().capacity() <= BUFFER_KEEP_BYTES && decoder.is_idle());
    }
}
