//! HEADERS and CONTINUATION: field blocks, and the messages that they begin or end.
//!
//! A block that is whole in one frame is decoded where it lies; the pieces of others are collected.
//!
//! What it leaves to others: what stands in the fields (`fields`).

use super::closed::End;
use super::connection::{Connection, HeadMemory, Role};
use super::event::Event;
use super::fields::{self, Found, Request, Section};
use super::flow::{ReceiveWindow, WINDOW_MAX, Window};
use super::frame::{FrameHeader, STREAM_ID_MAX, flag, without_padding, word};
use super::state::{Frame, State};
use super::streams::{Receiving, Stream, StreamKey};
use super::{Fault, Options};
use crate::limits::BUFFER_KEEP_BYTES;
use crate::message::{BodyLength, Method, RequestHead};
use alloc::vec::Vec;

/// CONTINUATION frames of one block. A block of the largest size needs four, if they are full.
const CONTINUATIONS_MAX: u32 = 64;

/// A field block that is not complete.
#[derive(Default, Debug)]
pub(super) struct FieldBlock {
    /// Its stream, or 0 when no block is open.
    pub(super) stream: u32,
    end_stream: bool,
    depends_on_itself: bool,
    continuations: u32,
    bytes: Vec<u8>,
}

/// A field block that is complete.
#[derive(Clone, Copy)]
struct Complete<'b> {
    stream: u32,
    end_stream: bool,
    depends_on_itself: bool,
    bytes: &'b [u8],
}

/// What a field block belongs to.
enum Subject {
    /// A new request.
    Request,
    /// A request that came too late, as the client knows from our GOAWAY.
    LateRequest,
    Response(StreamKey),
    Trailers(StreamKey),
    /// Nothing any more; it is decoded for the dynamic table's sake.
    Nothing,
    /// A stream that is closed for the peer.
    Error(Option<StreamKey>, Fault),
}

impl FieldBlock {
    pub(super) fn is_open(&self) -> bool {
        self.stream != 0
    }

    pub(super) fn release_memory(&mut self) {
        if !self.is_open() {
            self.bytes = Vec::new();
        }
    }
}

impl Connection {
    pub(super) fn handle_headers(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        head: &mut HeadMemory<'_>,
    ) -> Result<Option<Event>, Fault> {
        let mut fragment = without_padding(header, payload)?;
        let mut depends_on_itself = false;
        if header.has(flag::PRIORITY) {
            depends_on_itself = word(fragment) & STREAM_ID_MAX == header.stream;
            fragment = fragment.get(5..).ok_or(Fault::FrameSize)?;
        }
        let end_stream = header.has(flag::END_STREAM);
        self.abuse.inbound(fragment.is_empty() && !end_stream, &self.options)?;
        if header.has(flag::END_HEADERS) {
            let stream = header.stream;
            let block = Complete { stream, end_stream, depends_on_itself, bytes: fragment };
            return self.complete_block(block, head);
        }
        self.check_block_size(fragment.len())?;
        self.block.stream = header.stream;
        self.block.end_stream = end_stream;
        self.block.depends_on_itself = depends_on_itself;
        self.block.bytes.extend_from_slice(fragment);
        Ok(None)
    }

    pub(super) fn handle_continuation(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        head: &mut HeadMemory<'_>,
    ) -> Result<Option<Event>, Fault> {
        self.abuse.inbound(payload.is_empty(), &self.options)?;
        self.block.continuations += 1;
        if self.block.continuations > CONTINUATIONS_MAX {
            return Err(Fault::Continuations);
        }
        self.check_block_size(self.block.bytes.len() + payload.len())?;
        self.block.bytes.extend_from_slice(payload);
        if !header.has(flag::END_HEADERS) {
            return Ok(None);
        }
        let mut block = core::mem::take(&mut self.block);
        let event = self.complete_block(
            Complete {
                stream: block.stream,
                end_stream: block.end_stream,
                depends_on_itself: block.depends_on_itself,
                bytes: &block.bytes,
            },
            head,
        );
        if block.bytes.capacity() <= BUFFER_KEEP_BYTES {
            block.bytes.clear();
            self.block.bytes = block.bytes;
        }
        event
    }

    /// Nothing larger than a head may be is collected (CVE-2024-27316 and its kin).
    fn check_block_size(&self, bytes: usize) -> Result<(), Fault> {
        let max = self.options.limits.head_bytes_max;
        if bytes > max { Err(Fault::Continuations) } else { Ok(()) }
    }

    fn complete_block(
        &mut self,
        block: Complete<'_>,
        head: &mut HeadMemory<'_>,
    ) -> Result<Option<Event>, Fault> {
        match (self.subject(block.stream)?, head) {
            (Subject::Request, HeadMemory::Request(head)) => self.take_request(block, head),
            (Subject::Response(key), HeadMemory::Response(head)) => {
                let found = fields::read(
                    block.bytes,
                    &mut self.decoder,
                    Section::Response,
                    &self.options.limits,
                    &mut head.headers,
                )?;
                if found.is_too_large {
                    return self.too_large(key);
                }
                let request = self.streams.get(key).map_or(Request::Other, request_of);
                if found.is_malformed || found.response(head, block.end_stream, request).is_err() {
                    return self.malformed(key, Fault::Message);
                }
                self.take_response(key, head.status, head.body, block.end_stream)
            }
            (Subject::Trailers(key), _) => self.take_trailers(key, block),
            (Subject::Error(key, fault), _) => {
                self.read_section(block)?;
                match key {
                    Some(key) => self.stream_error(key, fault),
                    None => self.refuse(block.stream, fault).map(|()| None),
                }
            }
            (Subject::LateRequest, _) => {
                // What follows on it is ignored (RFC 9113 6.8).
                self.peer_stream_max = block.stream;
                self.closed.push(block.stream, End::ResetByUs);
                self.read_section(block).map(|_| None)
            }
            (Subject::Nothing | Subject::Request | Subject::Response(_), _) => {
                self.read_section(block).map(|_| None)
            }
        }
    }

    /// What this stream's next field block is.
    fn subject(&self, id: u32) -> Result<Subject, Fault> {
        if let Some(key) = self.find_live(id)
            && let Some(stream) = self.streams.get(key)
        {
            if stream.state.after(Frame::ReceiveHeaders { end: false }).is_err() {
                return Ok(Subject::Error(Some(key), Fault::StreamClosed));
            }
            return Ok(match stream.receiving {
                Receiving::Head => Subject::Response(key),
                Receiving::Body => Subject::Trailers(key),
            });
        }
        match self.role {
            _ if id.is_multiple_of(2) => Err(Fault::StreamId),
            Role::Server if id > self.peer_stream_max => match self.our_goaway {
                Some(last) if id > last => Ok(Subject::LateRequest),
                _ => Ok(Subject::Request),
            },
            Role::Client if self.is_idle(id) => Err(Fault::IdleStream),
            _ => match self.closed.find(id) {
                Some(End::ResetByUs) => Ok(Subject::Nothing),
                Some(End::ResetByPeer) => Ok(Subject::Error(None, Fault::StreamClosed)),
                Some(End::Complete) => Err(Fault::StreamClosed),
                None => Err(Fault::StreamId),
            },
        }
    }

    /// Reads a section into the memory of trailers.
    fn read_section(&mut self, block: Complete<'_>) -> Result<Found, Fault> {
        fields::read(
            block.bytes,
            &mut self.decoder,
            Section::Trailers,
            &self.options.limits,
            &mut self.trailers,
        )
    }

    fn take_request(
        &mut self,
        block: Complete<'_>,
        head: &mut RequestHead,
    ) -> Result<Option<Event>, Fault> {
        self.peer_stream_max = block.stream;
        self.abuse.opened();
        let found = fields::read(
            block.bytes,
            &mut self.decoder,
            Section::Request,
            &self.options.limits,
            &mut head.headers,
        )?;
        let is_malformed =
            found.is_malformed || found.request(head, block.end_stream, &self.options).is_err();
        let fault = if self.active >= self.options.max_concurrent_streams as usize {
            self.counters.stream_refused_errors += 1;
            Fault::TooManyStreams
        } else if found.is_too_large {
            self.counters.header_overflow += 1;
            Fault::HeadTooLarge
        } else if is_malformed {
            self.counters.rx_messaging_error += 1;
            if !self.options.stream_error_on_invalid_http_message {
                return Err(Fault::Message);
            }
            Fault::Message
        } else if block.depends_on_itself {
            Fault::SelfDependency
        } else {
            return Ok(Some(self.open_request(block, head)));
        };
        self.closed.push(block.stream, End::ResetByUs);
        self.refuse(block.stream, fault)?;
        Ok((fault != Fault::TooManyStreams).then_some(Event::Refused { fault }))
    }

    fn open_request(&mut self, block: Complete<'_>, head: &RequestHead) -> Event {
        let end_stream = block.end_stream;
        let mut stream = self.new_stream(block.stream, Frame::ReceiveHeaders { end: end_stream });
        stream.receiving = Receiving::Body;
        stream.is_head = head.method == Method::Head;
        stream.is_connect = head.body == BodyLength::Tunnel;
        stream.is_extended_connect = stream.is_connect && head.upgrade;
        stream.content_left = match head.body {
            BodyLength::Exact(length) => Some(length),
            BodyLength::None => Some(0),
            _ => None,
        };
        let stream = self.streams.insert(stream);
        Event::Head { stream, tag: 0, end_stream }
    }

    /// A stream that begins with this frame.
    pub(super) fn new_stream(&mut self, id: u32, frame: Frame) -> Stream {
        self.active += 1;
        // An idle stream takes any HEADERS.
        let state = State::Idle.after(frame).unwrap_or(State::Closed);
        let send = Window::new(self.theirs.initial_window_size);
        let max = self.options.initial_stream_window_size.min(WINDOW_MAX);
        let receive = ReceiveWindow::growing(self.ours.initial_window_size, max);
        Stream { opened: self.now, ..Stream::new(id, state, send, receive) }
    }

    fn take_response(
        &mut self,
        key: StreamKey,
        status: u16,
        body: BodyLength,
        end_stream: bool,
    ) -> Result<Option<Event>, Fault> {
        let Options { limits, .. } = self.options;
        let Some(stream) = self.streams.get_mut(key) else { return Ok(None) };
        let tag = stream.tag;
        if status < 200 && body != BodyLength::Tunnel {
            stream.interim_responses += 1;
            if usize::from(stream.interim_responses) > limits.interim_responses_max {
                return self.stream_error(key, Fault::InterimResponses);
            }
            return Ok(Some(Event::InterimHead { stream: key, tag }));
        }
        stream.receiving = Receiving::Body;
        stream.content_left = match body {
            BodyLength::Exact(length) => Some(length),
            BodyLength::None => Some(0),
            _ => None,
        };
        self.received(key, Frame::ReceiveHeaders { end: end_stream });
        Ok(Some(Event::Head { stream: key, tag, end_stream }))
    }

    fn take_trailers(
        &mut self,
        key: StreamKey,
        block: Complete<'_>,
    ) -> Result<Option<Event>, Fault> {
        let found = self.read_section(block)?;
        if found.is_too_large {
            return self.too_large(key);
        }
        let stream = self.streams.get(key);
        // RFC 9113 8.1: only trailers that end the stream; 8.5: none in a tunnel.
        if !block.end_stream || found.is_malformed || stream.is_none_or(|s| s.is_connect) {
            return self.malformed(key, Fault::Trailers);
        }
        if stream.is_some_and(|stream| !matches!(stream.content_left, None | Some(0))) {
            return self.malformed(key, Fault::ContentLength);
        }
        self.counters.trailers += 1;
        let tag = stream.map_or(0, |stream| stream.tag);
        self.received(key, Frame::ReceiveHeaders { end: true });
        Ok(Some(Event::Trailers { stream: key, tag }))
    }

    fn too_large(&mut self, key: StreamKey) -> Result<Option<Event>, Fault> {
        self.counters.header_overflow += 1;
        self.stream_error(key, Fault::HeadTooLarge)
    }

    /// A frame that was found good: the stream moves on.
    pub(super) fn received(&mut self, key: StreamKey, frame: Frame) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Ok(state) = stream.state.after(frame) else { return };
        stream.state = state;
        if state == State::Closed {
            self.complete(key);
        }
    }
}

fn request_of(stream: &Stream) -> Request {
    match stream {
        Stream { is_head: true, .. } => Request::Head,
        Stream { is_extended_connect: true, .. } => Request::ExtendedConnect,
        Stream { is_connect: true, .. } => Request::Connect,
        _ => Request::Other,
    }
}
