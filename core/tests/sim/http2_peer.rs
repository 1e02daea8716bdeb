//! One end of a simulated HTTP/2 connection: streams, windows and settings, with manners from a
//! plan and a strict eye on what the proxy writes.
//!
//! What it leaves to others: what is asked and answered (`http2_client.rs`, `http2_origin.rs`), and
//! sending (`http2_output.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidegate_http::h2::hpack::{Decoder, Encoder};
use tidegate_io::sim::Random;
use tidegate_io::{Instant, Socket};

use super::http2_output::Out;
use super::http2_plan::Manners;
use super::http2_wire::{self as wire, ACK, END_STREAM, Fields, Frame, Frames, PADDED};
use super::http2_wire::{END_HEADERS, kind, setting};

const DEFAULT_WINDOW: i64 = 65_535;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Client,
    Server,
}

/// What came.
#[derive(Debug)]
pub enum Event {
    Interim {
        stream: u32,
        fields: Fields,
    },
    Head {
        stream: u32,
        fields: Fields,
        end: bool,
    },
    Data {
        stream: u32,
        bytes: Vec<u8>,
        end: bool,
    },
    Trailers {
        stream: u32,
        fields: Fields,
    },
    Reset {
        stream: u32,
        code: u32,
    },
    GoAway {
        last: u32,
        code: u32,
    },
    /// A request above the last stream that our GOAWAY named.
    Late {
        fields: Fields,
    },
}

/// A connection.
#[derive(Debug)]
pub struct Peer {
    pub socket: Socket,
    pub(super) role: Role,
    pub(super) manners: Manners,
    pub(super) random: Random,
    frames: Frames,
    decoder: Decoder,
    pub(super) encoder: Encoder,
    /// Written, and not given to the socket.
    pub(super) out: Vec<u8>,
    pub sending: bool,
    pub(super) streams: BTreeMap<u32, PeerStream>,
    /// Those that are over.
    closed_streams: BTreeMap<u32, PeerStream>,
    pub(super) send_window: i64,
    pub(super) receive_window: i64,
    /// When the connection's window is opened again.
    pub(super) grant_at: Option<Instant>,
    pub(super) their_initial_window: i64,
    pub their_max_concurrent: Option<u32>,
    pub(super) their_frame_max: usize,
    pub(super) their_connect: bool,
    /// Our settings that are not acknowledged, each with our next stream of that time.
    unacknowledged: VecDeque<(Vec<(u16, u32)>, u32)>,
    /// The initial window that the proxy has acknowledged, and the newest.
    acknowledged_window: i64,
    newest_window: i64,
    max_concurrent: Option<u32>,
    block: Option<(u32, u8, Vec<u8>)>,
    pub(super) next_stream: u32,
    highest: u32,
    pub goaway_sent: Option<u32>,
    pub goaway_received: Option<u32>,
    /// Its GOAWAY was read: the proxy opens no stream any more.
    is_goaway_read: bool,
    pub closed: bool,
    pub(super) is_closing: bool,
    /// It has done what ends the connection with all that is on it.
    pub is_doomed: bool,
    /// It ends after this time if nothing is on it.
    pub silent_close: Option<Duration>,
}

/// A stream.
#[derive(Debug, Default)]
pub(super) struct PeerStream {
    pub(super) send_window: i64,
    pub(super) receive_window: i64,
    pub(super) grant_at: Option<Instant>,
    pub(super) outgoing: VecDeque<Out>,
    pub(super) wait_until: Option<Instant>,
    pub(super) head_sent: bool,
    pub(super) end_sent: bool,
    has_head: bool,
    pub(super) end_received: bool,
    reset_received: bool,
    /// We have reset it, or never wanted it.
    pub(super) gone: bool,
    /// Body bytes that were written.
    pub(super) sent: usize,
}

impl PeerStream {
    pub(super) fn is_open(&self) -> bool {
        !(self.gone || self.reset_received || self.end_sent && self.end_received)
    }

    pub(super) fn can_send(&self) -> bool {
        !(self.gone || self.reset_received || self.end_sent)
    }
}

const GOAWAY_PING: &[u8; 8] = b"read it?";

impl Peer {
    pub fn new(socket: Socket, role: Role, manners: Manners, random: Random) -> Peer {
        let mut peer = Peer {
            socket,
            role,
            random,
            frames: Frames::new(role == Role::Server),
            decoder: Decoder::new(),
            encoder: Encoder::new(4096, manners.huffman),
            out: Vec::new(),
            sending: false,
            streams: BTreeMap::new(),
            closed_streams: BTreeMap::new(),
            send_window: DEFAULT_WINDOW,
            receive_window: DEFAULT_WINDOW,
            grant_at: None,
            their_initial_window: DEFAULT_WINDOW,
            their_max_concurrent: None,
            their_frame_max: wire::FRAME_MAX,
            their_connect: false,
            unacknowledged: VecDeque::new(),
            acknowledged_window: DEFAULT_WINDOW,
            newest_window: DEFAULT_WINDOW,
            max_concurrent: None,
            block: None,
            next_stream: 1,
            highest: 0,
            goaway_sent: None,
            goaway_received: None,
            is_goaway_read: false,
            closed: false,
            is_closing: false,
            is_doomed: false,
            silent_close: None,
            manners,
        };
        if role == Role::Client {
            peer.out.extend_from_slice(wire::PREFACE);
        }
        let settings = peer.manners.settings();
        peer.settings(settings);
        peer
    }

    pub fn settings(&mut self, settings: Vec<(u16, u32)>) {
        wire::write_settings(&mut self.out, &settings);
        for (id, value) in &settings {
            if *id == setting::INITIAL_WINDOW_SIZE {
                self.newest_window = i64::from(*value);
            }
        }
        self.unacknowledged.push_back((settings, self.next_stream));
    }

    pub fn received(&mut self, bytes: &[u8]) {
        self.frames.push(bytes);
    }

    pub fn is_open(&self, stream: u32) -> bool {
        self.streams.get(&stream).is_some_and(PeerStream::is_open)
    }

    pub fn open_streams(&self) -> usize {
        self.streams.values().filter(|stream| stream.is_open()).count()
    }

    /// The highest stream that the other side has opened.
    pub fn highest(&self) -> u32 {
        self.highest
    }

    /// Body bytes that were written to a stream.
    pub fn sent(&self, stream: u32) -> usize {
        self.streams.get(&stream).map_or(0, |stream| stream.sent)
    }

    /// The next thing that came.
    pub fn next(&mut self, now: Instant) -> Result<Option<Event>, String> {
        while !self.closed
            && let Some(frame) = self.frames.next()?
        {
            if let Some(event) = self.take(frame, now)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn take(&mut self, mut frame: Frame, now: Instant) -> Result<Option<Event>, String> {
        if self.block.is_some() != (frame.kind == kind::CONTINUATION) {
            return Err(format!("a field block is cut by, or begins with {frame:?}"));
        }
        if frame.has(PADDED) && matches!(frame.kind, kind::DATA | kind::HEADERS) {
            return Err(format!("padding, which nobody needs: {frame:?}"));
        }
        match frame.kind {
            kind::DATA => self.data(frame, now),
            kind::HEADERS | kind::CONTINUATION => {
                let (stream, flags, mut block) =
                    self.block.take().unwrap_or((frame.stream, frame.flags, Vec::new()));
                block.append(&mut frame.payload);
                if stream != frame.stream {
                    return Err(format!("{frame:?} within the block of {stream}"));
                }
                if !frame.has(END_HEADERS) {
                    self.block = Some((stream, flags, block));
                    return Ok(None);
                }
                self.section(stream, flags & END_STREAM != 0, &block, now)
            }
            kind::RST_STREAM => {
                let code = frame.word(0)?;
                let stream = self.known(&frame)?;
                let was_open = stream.is_open();
                stream.reset_received = true;
                stream.outgoing.clear();
                Ok(was_open.then_some(Event::Reset { stream: frame.stream, code }))
            }
            kind::SETTINGS if frame.has(ACK) => self.acknowledged(now).map(|()| None),
            kind::SETTINGS => self.their_settings(&frame).map(|()| None),
            kind::PING => {
                if !frame.has(ACK) {
                    wire::write(&mut self.out, kind::PING, ACK, 0, &frame.payload);
                }
                self.is_goaway_read |= frame.has(ACK) && frame.payload == GOAWAY_PING;
                Ok(None)
            }
            kind::GOAWAY => {
                let (last, code) = (frame.word(0)?, frame.word(4)?);
                if self.goaway_received.is_some_and(|before| last > before) {
                    return Err(format!("a GOAWAY whose last stream goes up to {last}"));
                }
                self.goaway_received = Some(last);
                Ok(Some(Event::GoAway { last, code }))
            }
            kind::WINDOW_UPDATE => self.their_grant(&frame).map(|()| None),
            _ => Err(format!("an unexpected {frame:?}")),
        }
    }

    fn find(&mut self, id: u32) -> Option<&mut PeerStream> {
        self.streams.get_mut(&id).or_else(|| self.closed_streams.get_mut(&id))
    }

    /// Puts those that are over aside.
    pub(super) fn forget_closed(&mut self) {
        let is_over = |stream: &PeerStream| !stream.is_open() && stream.outgoing.is_empty();
        let ids = |streams: &BTreeMap<u32, PeerStream>| -> Vec<u32> {
            streams.iter().filter(|(_, stream)| is_over(stream)).map(|(id, _)| *id).collect()
        };
        for id in ids(&self.streams) {
            self.closed_streams.extend(self.streams.remove(&id).map(|stream| (id, stream)));
        }
    }

    /// The stream of a frame that needs one which was opened.
    pub(super) fn known(&mut self, frame: &Frame) -> Result<&mut PeerStream, String> {
        let stream = self.find(frame.stream);
        stream.ok_or_else(|| format!("{frame:?} for a stream that nobody opened"))
    }

    fn their_settings(&mut self, frame: &Frame) -> Result<(), String> {
        for entry in frame.payload.chunks(6) {
            let [a, b, value @ ..] = entry else { return Err(format!("settings {frame:?}")) };
            let value = value.try_into().map(u32::from_be_bytes).map_err(|_| "settings are cut")?;
            match u16::from_be_bytes([*a, *b]) {
                setting::INITIAL_WINDOW_SIZE => {
                    let difference = i64::from(value) - self.their_initial_window;
                    self.their_initial_window = i64::from(value);
                    self.streams.values_mut().for_each(|it| it.send_window += difference);
                }
                setting::MAX_CONCURRENT_STREAMS => self.their_max_concurrent = Some(value),
                setting::MAX_FRAME_SIZE => self.their_frame_max = value as usize,
                setting::HEADER_TABLE_SIZE => self.encoder.set_allowed_size(value as usize),
                setting::ENABLE_CONNECT_PROTOCOL => self.their_connect = value == 1,
                _ => {}
            }
        }
        wire::write(&mut self.out, kind::SETTINGS, ACK, 0, &[]);
        Ok(())
    }

    fn acknowledged(&mut self, now: Instant) -> Result<(), String> {
        let (settings, next_stream) =
            self.unacknowledged.pop_front().ok_or("an acknowledgement of nothing")?;
        for (id, value) in settings {
            match id {
                setting::INITIAL_WINDOW_SIZE => {
                    let difference = i64::from(value) - self.acknowledged_window;
                    self.acknowledged_window = i64::from(value);
                    // Streams that we opened since then began with the new one.
                    let is_older = |stream: u32| self.role == Role::Server || stream < next_stream;
                    let older = self.streams.iter_mut().filter(|(stream, _)| is_older(**stream));
                    older.for_each(|(_, stream)| stream.receive_window += difference);
                }
                setting::MAX_CONCURRENT_STREAMS => self.max_concurrent = Some(value),
                setting::HEADER_TABLE_SIZE => self.decoder.set_allowed_size(value as usize),
                _ => {}
            }
        }
        // Windows may be smaller now than what is worth waiting for.
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        ids.into_iter().for_each(|id| self.plan_grants(id, now));
        Ok(())
    }

    fn data(&mut self, frame: Frame, now: Instant) -> Result<Option<Event>, String> {
        let (length, end) = (frame.payload.len() as i64, frame.has(END_STREAM));
        let (id, bytes) = (frame.stream, frame.payload);
        self.receive_window -= length;
        let connection_window = self.receive_window;
        let stream = self.find(id);
        let stream = stream.ok_or_else(|| format!("DATA for {id}, which nobody opened"))?;
        stream.receive_window -= length;
        let windows = (stream.receive_window, connection_window);
        // Of a stream that is gone, settings are not followed.
        if length > 0 && (windows.0 < 0 && !stream.gone || windows.1 < 0) {
            return Err(format!(
                "{length} bytes for {id} beyond its windows: {windows:?} are left of {stream:?}"
            ));
        }
        if stream.end_received || stream.reset_received || !stream.has_head && !stream.gone {
            return Err(format!("DATA out of place: stream {id} is {stream:?}"));
        }
        stream.end_received = end;
        let is_wanted = !stream.gone;
        self.plan_grants(id, now);
        Ok(is_wanted.then_some(Event::Data { stream: id, bytes, end }))
    }

    fn section(
        &mut self,
        id: u32,
        end: bool,
        block: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, String> {
        let is_new = self.find(id).is_none();
        if is_new && self.role == Role::Server {
            return self.request(id, end, block, now);
        }
        let stream = self.find(id);
        let stream = stream.ok_or_else(|| format!("HEADERS for {id}, which nobody opened"))?;
        if stream.end_received || stream.reset_received {
            return Err(format!("HEADERS out of place: stream {id} is {stream:?}"));
        }
        let is_trailers = stream.has_head;
        let (pseudo, optional): (&[&str], &[&str]) = match (stream.gone, is_trailers) {
            // Nobody has followed how far its response is.
            (true, _) => (&[], &[":status"]),
            (false, true) => (&[], &[]),
            (false, false) => (&[":status"], &[]),
        };
        let fields = Fields::decode(&mut self.decoder, block, pseudo, optional)?;
        let Some(stream) = self.find(id).filter(|stream| !stream.gone) else { return Ok(None) };
        if is_trailers {
            stream.end_received = true;
            return match end {
                true => Ok(Some(Event::Trailers { stream: id, fields })),
                false => Err(format!("trailers of {id} that do not end it: {fields:?}")),
            };
        }
        if fields.status() < 200 {
            return match end {
                true => Err(format!("an interim response that ends {id}")),
                false => Ok(Some(Event::Interim { stream: id, fields })),
            };
        }
        (stream.has_head, stream.end_received) = (true, end);
        Ok(Some(Event::Head { stream: id, fields, end }))
    }

    /// A request opens a stream.
    fn request(
        &mut self,
        id: u32,
        end: bool,
        block: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, String> {
        let pseudo = [":method", ":scheme", ":path", ":authority"];
        let fields = Fields::decode(&mut self.decoder, block, &pseudo, &[":protocol"])?;
        if id.is_multiple_of(2) || id <= self.highest {
            return Err(format!("stream {id} is opened after {}", self.highest));
        }
        let open = self.open_streams();
        if self.is_goaway_read {
            return Err(format!("stream {id} is opened after GOAWAY was read"));
        }
        self.highest = id;
        let gone = self.goaway_sent.is_some_and(|last| id > last);
        let stream = PeerStream {
            send_window: self.their_initial_window,
            receive_window: self.acknowledged_window,
            has_head: true,
            end_received: end,
            gone,
            ..PeerStream::default()
        };
        self.streams.insert(id, stream);
        self.plan_grants(id, now);
        if gone {
            return Ok(Some(Event::Late { fields }));
        }
        match self.max_concurrent.is_some_and(|max| open >= max as usize) {
            true => Err(format!("stream {id} is one too many beside {open}")),
            false => Ok(Some(Event::Head { stream: id, fields, end })),
        }
    }

    /// Opens a stream as a client.
    pub fn open(&mut self, fields: &Fields, end: bool, now: Instant) -> u32 {
        let id = self.next_stream;
        self.next_stream += 2;
        let stream = PeerStream {
            send_window: self.their_initial_window,
            receive_window: self.newest_window,
            ..PeerStream::default()
        };
        self.streams.insert(id, stream);
        self.plan_grants(id, now);
        self.write_section(id, fields, end);
        id
    }

    /// Resets a stream that is open.
    pub fn reset(&mut self, id: u32, code: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.outgoing.clear();
        if !stream.is_open() {
            return;
        }
        stream.gone = true;
        wire::write_word(&mut self.out, kind::RST_STREAM, id, code);
    }

    /// Says that streams above `last` were not looked at, and that it takes no more.
    pub fn go_away(&mut self, last: u32, code: u32) {
        self.goaway_sent = Some(last);
        let above = self.streams.range_mut(last + 1..).map(|(_, stream)| stream);
        above.filter(|_| self.role == Role::Server).for_each(|stream| {
            stream.gone = true;
            stream.outgoing.clear();
        });
        wire::write_goaway(&mut self.out, last, code);
        wire::write(&mut self.out, kind::PING, 0, 0, GOAWAY_PING);
    }
}
