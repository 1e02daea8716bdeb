//! Reading responses.
//!
//! ```text
//!   Idle --expect--> Head --1xx--> Head (InterimHead)
//!    ^                |--101, or 2xx to CONNECT--> Tunnel
//!    |                `--final--> Body --complete--> Ending --End--> Idle, or Closed (close)
//!    `-----------------------------------------------------'
//! ```
//!
//! What it leaves to others: pairing requests with connections, and reuse.

use super::body::{Body, BodyStep, TrailerSink};
use super::bytes::list;
use super::framing::Facts;
use super::head;
use super::lines::{Fed, LineBuffer, Section};
use super::{Event, Options, Step};
use crate::error::Fault;
use crate::{
    BodyLength, Headers, HttpError, Limits, Method, Name, RequestHead, ResponseHead, Version,
};
use alloc::vec::Vec;

/// Protocols that one 101 may name.
const PROTOCOLS_MAX: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Head,
    Body,
    /// The body is complete; [`Event::End`] is due.
    Ending,
    Tunnel,
    Closed,
    Failed(HttpError),
}

/// Reads responses from one upstream connection.
#[derive(Debug)]
pub struct ResponseDecoder {
    options: Options,
    limits: Limits,
    state: State,
    /// The method of the announced request, as far as framing depends on it.
    method: Method,
    /// The protocols that the announced request offered, each followed by a comma; empty: none.
    offered: Vec<u8>,
    interim_responses: usize,
    closes: bool,
    lines: LineBuffer,
    body: Body,
    trailers: Headers,
}

impl ResponseDecoder {
    /// A decoder before its first response.
    #[must_use]
    pub fn new(options: Options, limits: Limits) -> ResponseDecoder {
        ResponseDecoder {
            options,
            limits,
            state: State::Idle,
            method: Method::Get,
            offered: Vec::new(),
            interim_responses: 0,
            closes: false,
            lines: LineBuffer::new(Section::Response, false, &limits),
            body: Body::Complete,
            trailers: Headers::default(),
        }
    }

    /// Announces the request whose response comes next: HEAD and CONNECT change how it is framed,
    /// and 101 is only accepted when `request` still has the `upgrade` field that it was sent with.
    /// To be called while [`ResponseDecoder::is_idle`]; otherwise without effect.
    pub fn expect(&mut self, request: &RequestHead) {
        if self.state != State::Idle {
            return;
        }
        self.state = State::Head;
        self.method = request.method;
        self.interim_responses = 0;
        self.offered.clear();
        if request.upgrade {
            for value in request.headers.get_all(Name::Upgrade) {
                self.offered.extend_from_slice(value);
                self.offered.push(b',');
            }
        }
    }

    /// Takes one step, as [`super::RequestDecoder::decode`].
    ///
    /// # Errors
    ///
    /// As there; also for bytes without an announced request. After a response with `close`,
    /// further bytes are ignored.
    pub fn decode(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<Step, HttpError> {
        let step = match self.state {
            State::Idle if input.is_empty() => Ok(Step::new(0, Event::NeedMore)),
            State::Idle => Err(Fault::Unannounced),
            State::Head => self.decode_head(input, head),
            State::Body => self.decode_body(input),
            State::Ending => {
                self.finish();
                Ok(Step::new(0, Event::End))
            }
            State::Tunnel => Ok(Step::new(0, Event::Tunnel)),
            State::Closed => Ok(Step::new(input.len(), Event::NeedMore)),
            State::Failed(error) => return Err(error),
        };
        step.map_err(|fault| self.fail(fault))
    }

    /// The peer finished sending. [`Event::End`] when that ends an until-close body or a tunnel,
    /// [`Event::NeedMore`] when no byte of a final response had come.
    ///
    /// # Errors
    ///
    /// [`Fault::CutOff`] when a message was cut off.
    pub fn eof(&mut self) -> Result<Event, HttpError> {
        match self.state {
            State::Body if matches!(self.body, Body::UntilClose) => {
                self.state = State::Closed;
                Ok(Event::End)
            }
            State::Head if !self.lines.is_empty() => Err(self.fail(Fault::CutOff)),
            State::Body => Err(self.fail(Fault::CutOff)),
            State::Ending | State::Tunnel => {
                self.state = State::Closed;
                Ok(Event::End)
            }
            State::Idle | State::Head | State::Closed => {
                self.state = State::Closed;
                Ok(Event::NeedMore)
            }
            State::Failed(error) => Err(error),
        }
    }

    /// Whether no response is expected and none has begun: the connection may be reused.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Bytes that the body still has, when its length is known: its owner may pass on so many
    /// without showing them.
    #[must_use]
    pub fn exact_body_left(&self) -> Option<u64> {
        match (self.state, &self.body) {
            (State::Body, Body::Exact(left)) => Some(*left),
            _ => None,
        }
    }

    /// Takes note that `bytes` of the body were passed on without being shown.
    ///
    /// # Panics
    ///
    /// When they are more than [`ResponseDecoder::exact_body_left`].
    pub fn skip_body(&mut self, bytes: u64) {
        let left = self.exact_body_left().and_then(|left| left.checked_sub(bytes));
        assert!(left.is_some() || bytes == 0, "more was passed on than the body has");
        match left {
            Some(0) => self.body = Body::Complete,
            Some(left) => self.body = Body::Exact(left),
            None => {}
        }
    }

    /// The trailers of the response that just ended.
    #[must_use]
    pub fn trailers(&self) -> Option<&Headers> {
        (!self.trailers.is_empty()).then_some(&self.trailers)
    }

    #[cold]
    fn fail(&mut self, fault: Fault) -> HttpError {
        let error = HttpError::from(fault);
        self.state = State::Failed(error);
        error
    }

    fn decode_head(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<Step, Fault> {
        if input.is_empty() {
            return Ok(Step::new(0, Event::NeedMore));
        }
        if self.lines.is_empty() {
            let window = &input[..input.len().min(self.lines.taken_max())];
            let fields_max = self.limits.fields_max;
            let parsed = head::parse_response(window, &self.options, fields_max, head);
            if let Ok(Some((length, facts))) = parsed {
                return self.begin(length, head, facts);
            }
        }
        self.decode_kept_head(input, head)
    }

    /// The long way: line by line, with what came before.
    #[cold]
    fn decode_kept_head(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<Step, Fault> {
        let Fed::Complete(length) = self.lines.feed(input)? else {
            return Ok(Step::new(input.len(), Event::NeedMore));
        };
        let (kept, fields_max) = (self.lines.bytes(), self.limits.fields_max);
        let (_, facts) =
            head::parse_response(kept, &self.options, fields_max, head)?.ok_or(Fault::StartLine)?;
        self.lines.restart(Section::Response);
        self.begin(length, head, facts)
    }

    /// RFC 9112 6.3: decides the framing and prepares for what follows a head of `length` bytes.
    fn begin(
        &mut self,
        length: usize,
        head: &mut ResponseHead,
        mut facts: Facts,
    ) -> Result<Step, Fault> {
        if self.method == Method::Connect && (200..300).contains(&head.status) {
            // RFC 9110 9.3.6: framing fields of a successful answer to CONNECT are ignored.
            head.content_length = None;
            head.body = BodyLength::Tunnel;
            self.state = State::Tunnel;
            return Ok(Step::new(length, Event::Head));
        }
        let is_http_10 = head.version == Version::Http10;
        facts.check_framing(is_http_10, self.options.allow_chunked_length)?;
        head.content_length = facts.content_length;
        let has_no_framing = head.status < 200 || head.status == 204;
        if has_no_framing {
            // RFC 9110 8.6, RFC 9112 6.1: neither may be sent. A length is dropped: it frames
            // nothing.
            if facts.is_chunked {
                return Err(Fault::TransferEncodingNotAllowed);
            }
            head.content_length = None;
        }
        if head.status == 101 {
            return self.switch_protocols(length, head);
        }
        if head.status < 200 {
            self.interim_responses += 1;
            if self.interim_responses > self.limits.interim_responses_max {
                return Err(Fault::TooManyInterimResponses);
            }
            head.body = BodyLength::None;
            return Ok(Step::new(length, Event::InterimHead));
        }
        head.body = match facts.content_length {
            _ if self.method == Method::Head || head.status == 304 || has_no_framing => {
                BodyLength::None
            }
            _ if facts.is_chunked => BodyLength::Chunked,
            Some(0) => BodyLength::None,
            Some(length) => BodyLength::Exact(length),
            None => BodyLength::UntilClose,
        };
        head.close =
            facts.closes(head.version == Version::Http10) || head.body == BodyLength::UntilClose;
        self.closes = head.close;
        self.trailers.clear();
        self.state = if head.body == BodyLength::None { State::Ending } else { State::Body };
        self.body = Body::new(head.body, self.limits.chunk_extension_bytes_max);
        Ok(Step::new(length, Event::Head))
    }

    /// RFC 9110 7.8: only to a protocol that was offered.
    fn switch_protocols(&mut self, length: usize, head: &mut ResponseHead) -> Result<Step, Fault> {
        let is_offered = |protocol: &[u8]| {
            !protocol.is_empty() && list(&self.offered).any(|o| o.eq_ignore_ascii_case(protocol))
        };
        let mut protocols = head.headers.get_all(Name::Upgrade).flat_map(list);
        // Two long lists would be a long search; there is one protocol, or one on top of another.
        let is_offered =
            protocols.by_ref().take(PROTOCOLS_MAX).all(is_offered) && protocols.next().is_none();
        if !head.upgrade || !is_offered {
            return Err(Fault::SwitchingProtocols);
        }
        head.body = BodyLength::Tunnel;
        self.state = State::Tunnel;
        Ok(Step::new(length, Event::Head))
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
                self.finish();
                Event::End
            }
        };
        Ok(Step::new(consumed, event))
    }

    fn finish(&mut self) {
        self.lines.restart(Section::Response);
        self.state = if self.closes { State::Closed } else { State::Idle };
    }
}
