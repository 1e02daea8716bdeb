//! One connection: what it holds, and how input becomes frames.
//!
//! What it leaves to others: what each frame does (`control`, `block`, `data`), how streams end
//! (`life`), and sending (`send`).

use super::abuse::Abuse;
use super::block::FieldBlock;
use super::closed::Closed;
use super::data::DataFrame;
use super::event::{Counters, Event, Step};
use super::flow::{DEFAULT_WINDOW, ReceiveWindow, WINDOW_MAX, Window};
use super::frame::{self, FrameHeader, HEADER_BYTES, PREFACE, STREAM_ID_MAX, kind};
use super::hpack::{Decoder, Encoder};
use super::settings::Settings;
use super::streams::{StreamKey, Streams};
use super::write::HeadWriter;
use super::{ConnectionError, Fault, Options};
use crate::Headers;
use crate::limits::{BUFFER_KEEP_BYTES, HEAD_BYTES_CEILING};
use crate::message::{RequestHead, ResponseHead};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

/// Which side we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Server,
    Client,
}

/// Where a head is read into.
pub(super) enum HeadMemory<'h> {
    Request(&'h mut RequestHead),
    Response(&'h mut ResponseHead),
}

/// What the next bytes of input are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reading {
    /// The client's preface, of which so much was read.
    Preface(usize),
    /// A frame other than DATA. What is there of it is in `kept`, if it was cut.
    Frame,
    Data(DataFrame),
    /// So many bytes that mean nothing.
    Skip(usize),
}

/// Where the windows of a client's streams begin, which may grow to `initial_stream_window_size`: a
/// response that nobody takes is held here, and servers send all that they may.
const CLIENT_WINDOW: u32 = 32 * 1024;

/// One HTTP/2 connection, of a server or a client.
#[derive(Debug)]
pub struct Connection {
    pub(super) role: Role,
    pub(super) options: Options,
    /// The caller's time, as of the last call that told it.
    pub(super) now: Duration,
    pub(super) reading: Reading,
    /// A frame that was cut, header included; empty between frames.
    kept: Vec<u8>,
    is_first_frame: bool,
    /// A field block of which CONTINUATION is due.
    pub(super) block: FieldBlock,
    pub(super) decoder: Decoder,
    pub(super) writer: HeadWriter,
    pub(super) streams: Streams,
    /// Streams that count for `max_concurrent_streams`: those that are not closed.
    pub(super) active: usize,
    /// Streams that have something to send and may, in their turn; stale ones among them.
    pub(super) ready: VecDeque<StreamKey>,
    pub(super) closed: Closed,
    /// Bytes that the caller has for streams.
    pub(super) queued: u64,
    /// Frames that wait to be written: all but HEADERS, CONTINUATION and DATA.
    pub(super) control: Vec<u8>,
    pub(super) send: Window,
    pub(super) receive: ReceiveWindow,
    pub(super) ours: Settings,
    pub(super) theirs: Settings,
    /// When our SETTINGS were written, until they are acknowledged.
    pub(super) unacknowledged_since: Option<Duration>,
    /// The highest stream that the peer has opened.
    pub(super) peer_stream_max: u32,
    /// The next stream that we open.
    pub(super) next_stream: u32,
    /// The last stream that our GOAWAY names, and theirs.
    pub(super) our_goaway: Option<u32>,
    pub(super) their_goaway: Option<u32>,
    /// Streams above the peer's GOAWAY are still to be reported.
    pub(super) are_refusals_due: bool,
    pub(super) abuse: Abuse,
    pub(super) counters: Counters,
    pub(super) trailers: Headers,
    /// The connection is over.
    pub(super) failed: Option<Fault>,
}

impl Connection {
    /// A server's side. SETTINGS are ready to be written.
    #[must_use]
    pub fn server(options: Options, now: Duration) -> Connection {
        Connection::new(Role::Server, options, now)
    }

    /// A client's side. Preface and SETTINGS are ready to be written.
    #[must_use]
    pub fn client(options: Options, now: Duration) -> Connection {
        Connection::new(Role::Client, options, now)
    }

    fn new(role: Role, mut options: Options, now: Duration) -> Connection {
        let limits = &mut options.limits;
        limits.head_bytes_max = limits.head_bytes_max.min(HEAD_BYTES_CEILING);
        let table_size = options.hpack_table_size;
        let ours = Settings {
            header_table_size: table_size,
            enable_push: role == Role::Server,
            max_concurrent_streams: match role {
                Role::Server => options.max_concurrent_streams,
                Role::Client => u32::MAX,
            },
            initial_window_size: match role {
                Role::Server => options.initial_stream_window_size.min(WINDOW_MAX),
                Role::Client => options.initial_stream_window_size.min(CLIENT_WINDOW),
            },
            max_header_list_size: options.limits.head_bytes_max as u32,
            enable_connect_protocol: role == Role::Server && options.allow_connect,
            ..Settings::default()
        };
        let mut connection = Connection {
            role,
            options,
            now,
            reading: if role == Role::Server { Reading::Preface(0) } else { Reading::Frame },
            kept: Vec::new(),
            is_first_frame: true,
            block: FieldBlock::default(),
            decoder: Decoder::new(),
            writer: HeadWriter::new(Encoder::new(table_size as usize, options.huffman)),
            streams: Streams::default(),
            active: 0,
            ready: VecDeque::new(),
            closed: Closed::default(),
            queued: 0,
            control: Vec::new(),
            send: Window::new(DEFAULT_WINDOW),
            receive: ReceiveWindow::new(DEFAULT_WINDOW),
            ours,
            theirs: Settings::default(),
            unacknowledged_since: Some(now),
            peer_stream_max: 0,
            next_stream: if role == Role::Server { 2 } else { 1 },
            our_goaway: None,
            their_goaway: None,
            are_refusals_due: false,
            abuse: Abuse::default(),
            counters: Counters::default(),
            trailers: Headers::default(),
            failed: None,
        };
        connection.begin();
        connection
    }

    fn begin(&mut self) {
        if self.role == Role::Client {
            self.control.extend_from_slice(PREFACE);
        }
        self.ours.write(&mut self.control);
        let size = self.options.initial_connection_window_size.min(WINDOW_MAX);
        if let Some(increment) = self.receive.grow(size) {
            frame::write_window_update(0, increment, &mut self.control);
        }
    }

    /// Reads requests: for a server. See the module's page.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol, or was a nuisance: write what is to be written
    /// ([`Connection::write_control`]), then close. The same error comes again with further input.
    pub fn decode_request(
        &mut self,
        input: &[u8],
        head: &mut RequestHead,
        now: Duration,
    ) -> Result<Step, ConnectionError> {
        debug_assert_eq!(self.role, Role::Server);
        self.decode(input, HeadMemory::Request(head), now)
    }

    /// Reads responses: for a client. See the module's page.
    ///
    /// # Errors
    ///
    /// As [`Connection::decode_request`].
    pub fn decode_response(
        &mut self,
        input: &[u8],
        head: &mut ResponseHead,
        now: Duration,
    ) -> Result<Step, ConnectionError> {
        debug_assert_eq!(self.role, Role::Client);
        self.decode(input, HeadMemory::Response(head), now)
    }

    fn decode(
        &mut self,
        input: &[u8],
        mut head: HeadMemory<'_>,
        now: Duration,
    ) -> Result<Step, ConnectionError> {
        self.now = now;
        if let Some(fault) = self.failed {
            return Err(fault.into());
        }
        self.read(input, &mut head).map_err(|fault| self.fail(fault))
    }

    /// Ends the connection: a GOAWAY with the fault's code waits to be written.
    pub(super) fn fail(&mut self, fault: Fault) -> ConnectionError {
        self.counters.connection_errors += 1;
        self.failed = Some(fault);
        self.write_goaway(self.peer_stream_max, fault.code());
        fault.into()
    }

    fn read(&mut self, input: &[u8], head: &mut HeadMemory<'_>) -> Result<Step, Fault> {
        let mut at = 0;
        loop {
            if let Some(event) = self.next_refusal() {
                return Ok(Step { consumed: at, event });
            }
            let (consumed, event) = match self.reading {
                Reading::Preface(matched) => (self.read_preface(&input[at..], matched)?, None),
                Reading::Frame => self.read_frame(&input[at..], head)?,
                Reading::Data(data) => self.read_data(input, at, data)?,
                Reading::Skip(left) => (self.skip(&input[at..], left), None),
            };
            at += consumed;
            if let Some(event) = event {
                return Ok(Step { consumed: at, event });
            }
            let is_stuck = match self.reading {
                Reading::Data(data) => data.needs_input(),
                Reading::Skip(left) => left > 0,
                _ => true,
            };
            if at == input.len() && is_stuck && !self.are_refusals_due {
                return Ok(Step { consumed: at, event: Event::NeedMore });
            }
        }
    }

    fn read_preface(&mut self, input: &[u8], matched: usize) -> Result<usize, Fault> {
        let length = input.len().min(PREFACE.len() - matched);
        if input[..length] != PREFACE[matched..matched + length] {
            return Err(Fault::Preface);
        }
        let matched = matched + length;
        let is_complete = matched == PREFACE.len();
        self.reading = if is_complete { Reading::Frame } else { Reading::Preface(matched) };
        Ok(length)
    }

    fn skip(&mut self, input: &[u8], left: usize) -> usize {
        let length = input.len().min(left);
        let left = left - length;
        self.reading = if left == 0 { Reading::Frame } else { Reading::Skip(left) };
        length
    }

    /// Reads a frame, or keeps what is there of it.
    fn read_frame(
        &mut self,
        input: &[u8],
        head: &mut HeadMemory<'_>,
    ) -> Result<(usize, Option<Event>), Fault> {
        if !self.kept.is_empty() {
            return self.read_kept_frame(input, head);
        }
        let Some((header, rest)) = input.split_first_chunk::<HEADER_BYTES>() else {
            self.kept.extend_from_slice(input);
            return Ok((input.len(), None));
        };
        let header = FrameHeader::parse(header);
        self.check_header(header)?;
        if self.is_read_in_pieces(header) {
            let event = self.begin_pieces(header)?;
            return Ok((HEADER_BYTES, event));
        }
        let Some(payload) = rest.get(..header.length) else {
            self.kept.extend_from_slice(input);
            return Ok((input.len(), None));
        };
        let event = self.handle_frame(header, payload, head)?;
        Ok((HEADER_BYTES + header.length, event))
    }

    #[cold]
    fn read_kept_frame(
        &mut self,
        input: &[u8],
        head: &mut HeadMemory<'_>,
    ) -> Result<(usize, Option<Event>), Fault> {
        let mut consumed = 0;
        if self.kept.len() < HEADER_BYTES {
            consumed = self.keep(input, HEADER_BYTES);
        }
        let Some(header) = self.kept.first_chunk::<HEADER_BYTES>() else {
            return Ok((consumed, None));
        };
        let header = FrameHeader::parse(header);
        if self.kept.len() == HEADER_BYTES {
            self.check_header(header)?;
            if self.is_read_in_pieces(header) {
                self.kept.clear();
                let event = self.begin_pieces(header)?;
                return Ok((consumed, event));
            }
        }
        consumed += self.keep(&input[consumed..], HEADER_BYTES + header.length);
        if self.kept.len() < HEADER_BYTES + header.length {
            return Ok((consumed, None));
        }
        let mut frame = core::mem::take(&mut self.kept);
        let event = self.handle_frame(header, &frame[HEADER_BYTES..], head)?;
        frame.clear();
        if frame.capacity() <= BUFFER_KEEP_BYTES {
            self.kept = frame;
        }
        Ok((consumed, event))
    }

    /// Takes input until so much is kept.
    fn keep(&mut self, input: &[u8], length: usize) -> usize {
        let taken = input.len().min(length - self.kept.len());
        self.kept.extend_from_slice(&input[..taken]);
        taken
    }

    /// What can be told of a frame from its header.
    fn check_header(&self, header: FrameHeader) -> Result<(), Fault> {
        if self.is_first_frame && (header.kind != kind::SETTINGS || header.has(frame::flag::ACK)) {
            return Err(Fault::FirstFrame);
        }
        if header.length > self.ours.max_frame_size as usize {
            return Err(Fault::FrameSize);
        }
        let is_continuation = header.kind == kind::CONTINUATION;
        if is_continuation != self.block.is_open()
            || is_continuation && header.stream != self.block.stream
        {
            return Err(Fault::FieldBlock);
        }
        header.check()
    }

    /// DATA is passed on as it comes, and what is unknown is ignored (RFC 9113 5.5).
    fn is_read_in_pieces(&self, header: FrameHeader) -> bool {
        header.kind == kind::DATA || header.kind > kind::CONTINUATION
    }

    fn begin_pieces(&mut self, header: FrameHeader) -> Result<Option<Event>, Fault> {
        if header.kind == kind::DATA {
            return self.begin_data(header);
        }
        self.reading = Reading::Skip(header.length);
        Ok(None)
    }

    fn handle_frame(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        head: &mut HeadMemory<'_>,
    ) -> Result<Option<Event>, Fault> {
        self.is_first_frame = false;
        let event = match header.kind {
            kind::HEADERS => self.handle_headers(header, payload, head),
            kind::CONTINUATION => self.handle_continuation(header, payload, head),
            kind::PRIORITY => self.handle_priority(header, payload),
            kind::RST_STREAM => self.handle_rst_stream(header, payload),
            kind::SETTINGS => self.handle_settings(header, payload),
            kind::PUSH_PROMISE => Err(Fault::PushPromise),
            kind::PING => self.handle_ping(header, payload),
            kind::GOAWAY => self.handle_goaway(payload),
            kind::WINDOW_UPDATE => self.handle_window_update(header, payload),
            _ => Ok(None),
        }?;
        // What an event tells must not be lost: the next frame will do.
        if event.is_none() {
            self.abuse.check_outbound(&self.options)?;
        }
        Ok(event)
    }

    /// Gives back what an idle connection does not need: for one that has been idle for a while.
    /// Dynamic tables stay, or the peer's next block would not be understood.
    pub fn release_memory(&mut self) {
        self.streams.release_memory();
        if self.active == 0 {
            self.ready = VecDeque::new();
        }
        if self.kept.is_empty() {
            self.kept = Vec::new();
        }
        if self.control.is_empty() {
            self.control = Vec::new();
        }
        self.block.release_memory();
        self.trailers = Headers::default();
    }

    /// Whether the connection has nothing left to do: it is going away and no stream is open.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let is_going =
            self.our_goaway.is_some_and(|last| last < STREAM_ID_MAX) || self.is_refused_more();
        self.failed.is_some() || is_going && self.active == 0
    }

    /// Whether the peer's SETTINGS have come.
    #[must_use]
    pub fn has_settings(&self) -> bool {
        !self.is_first_frame
    }

    /// Whether the server that we are a client of has said GOAWAY. A client's GOAWAY says nothing
    /// of its own requests.
    fn is_refused_more(&self) -> bool {
        self.role == Role::Client && self.their_goaway.is_some()
    }

    /// Whether the peer's input within a frame or a field block is not complete.
    #[must_use]
    pub fn is_in_frame(&self) -> bool {
        !self.kept.is_empty() || self.block.is_open() || !matches!(self.reading, Reading::Frame)
    }
}
