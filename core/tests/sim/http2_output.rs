//! What a simulated HTTP/2 peer sends: steps on each stream, as far as windows allow, cut as no
//! two codecs would.
//!
//! What it leaves to others: which steps, and what comes back (`http2_peer.rs`).

use std::time::Duration;

use tidegate_io::Instant;

use super::bytes::{Side, body};
use super::http2_peer::Peer;
use super::http2_wire::{self as wire, END_HEADERS, END_STREAM, Fields, PADDED, kind};
use super::plan::Id;
use super::tls_sockets::PeerIo;

/// One step on a stream.
#[derive(Clone, Debug)]
pub enum Out {
    Wait(Duration),
    Head(Fields, bool),
    /// These bytes of a body.
    Data {
        id: Id,
        side: Side,
        range: std::ops::Range<usize>,
        end: bool,
    },
    Trailers(Fields),
    Reset(u32),
    /// The end of the connection: no step of any stream follows.
    Close,
    Abort,
    /// Bytes that are no frames.
    Raw(Vec<u8>),
    /// It takes no further stream.
    GoAway,
    /// The connection ends after a while without a word, if nothing is on it.
    SilentClose(Duration),
}

/// No more is written ahead of the socket.
const AHEAD_MAX: usize = 32 * 1024;

impl Peer {
    pub fn queue(&mut self, id: u32, steps: impl IntoIterator<Item = Out>) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.can_send()) {
            stream.outgoing.extend(steps);
        }
    }

    /// Forgets what was still to be sent on a stream.
    pub fn unqueue(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.outgoing.clear();
        }
    }

    /// Whether the head of a response was written.
    pub fn has_answered(&self, id: u32) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.head_sent || stream.gone)
    }

    /// Everything is written and sent.
    pub fn is_flushed(&self) -> bool {
        !self.sending
            && self.out.is_empty()
            && self.streams.values().all(|stream| stream.outgoing.is_empty())
    }

    /// Writes what can be written, and sends it.
    pub fn pump(&mut self, io: &mut PeerIo, now: Instant) {
        if self.closed {
            return;
        }
        self.forget_closed();
        self.grant(now);
        while !self.is_closing && self.out.len() < AHEAD_MAX && !self.sending {
            let ids: Vec<u32> = self.streams.keys().copied().collect();
            let first = self.random.index(ids.len());
            let mut is_stuck = true;
            for at in 0..ids.len() {
                let id = ids[(first + at) % ids.len()];
                is_stuck &= !self.step(id, now, io);
            }
            if is_stuck {
                break;
            }
        }
        if !self.sending && !self.out.is_empty() && !self.closed {
            let mut output = io.output();
            output.tail().append(&mut self.out);
            self.sending = true;
            io.send(self.socket, output);
        } else if self.is_closing && !self.sending {
            self.end(io, false);
        }
    }

    /// Takes the next step of a stream, if it can be taken now.
    fn step(&mut self, id: u32, now: Instant, io: &mut PeerIo) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let Some(step) = stream.outgoing.front() else { return false };
        match step {
            Out::Wait(duration) => {
                let until = *stream.wait_until.get_or_insert(now + *duration);
                if until > now {
                    return false;
                }
                stream.wait_until = None;
            }
            Out::Data { .. } => return self.step_data(id),
            Out::Head(fields, end) => {
                let (fields, end) = (fields.clone(), *end);
                stream.head_sent |= fields.status() >= 200;
                self.write_section(id, &fields, end);
            }
            Out::Trailers(fields) => {
                let fields = fields.clone();
                self.write_section(id, &fields, true);
            }
            Out::Reset(code) => {
                let code = *code;
                self.reset(id, code);
                return true;
            }
            Out::Close => (self.is_closing, self.is_doomed) = (true, true),
            Out::Abort => {
                self.is_doomed = true;
                self.end(io, true);
            }
            Out::Raw(bytes) => {
                self.out.extend_from_slice(bytes);
                self.is_doomed = true;
            }
            Out::GoAway if self.goaway_sent.is_none() => self.go_away(self.highest(), 0),
            Out::GoAway => {}
            Out::SilentClose(after) => self.silent_close = Some(*after),
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.outgoing.pop_front();
        }
        true
    }

    /// Writes one frame of a body.
    fn step_data(&mut self, id: u32) -> bool {
        let frame_max = self.manners.data_max.min(self.their_frame_max);
        let (pads, random) = (self.manners.pads && self.random.chance(100), &mut self.random);
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let Some(Out::Data { id: body_id, side, range, end }) = stream.outgoing.front_mut() else {
            return false;
        };
        let window = stream.send_window.min(self.send_window).max(0) as usize;
        let left = range.len();
        let count = match left {
            0 => 0,
            _ => random.size(left.min(frame_max)).max(left.min(frame_max) / 4).min(window),
        };
        // Padding counts, too (RFC 9113 6.9.1).
        let room = (window - count).min(wire::FRAME_MAX - count);
        let padding = if pads { random.index(20).min(room) } else { 0 };
        if count == 0 && left > 0 {
            return false;
        }
        let bytes = body(*body_id, *side, range.start..range.start + count);
        range.start += count;
        let is_last = count == left;
        let end = *end && is_last;
        let mut payload = bytes;
        let mut flags = if end { END_STREAM } else { 0 };
        if padding > 0 && count > 0 {
            payload.insert(0, padding as u8 - 1);
            payload.extend(std::iter::repeat_n(0, padding - 1));
            flags |= PADDED;
        }
        if is_last {
            stream.outgoing.pop_front();
        }
        stream.sent += count;
        stream.end_sent |= end;
        stream.send_window -= payload.len() as i64;
        self.send_window -= payload.len() as i64;
        if !payload.is_empty() || end {
            wire::write(&mut self.out, kind::DATA, flags, id, &payload);
        }
        true
    }

    /// Writes a head or trailers, now and then in several frames.
    pub(super) fn write_section(&mut self, id: u32, fields: &Fields, end: bool) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.end_sent |= end;
        let block = fields.encode(&mut self.encoder);
        let flags = if end { END_STREAM } else { 0 };
        if !self.random.chance(100) {
            return wire::write(&mut self.out, kind::HEADERS, flags | END_HEADERS, id, &block);
        }
        let (first, second) = block.split_at(self.random.index(block.len()).max(1));
        wire::write(&mut self.out, kind::HEADERS, flags, id, first);
        wire::write(&mut self.out, kind::CONTINUATION, END_HEADERS, id, second);
    }

    /// Ends the connection when what was written is sent.
    pub fn close_after_output(&mut self) {
        self.is_closing = true;
    }

    /// Ends the connection, once.
    pub fn end(&mut self, io: &mut PeerIo, abort: bool) {
        if !std::mem::replace(&mut self.closed, true) {
            match abort {
                true => io.abort(self.socket),
                false => io.close(self.socket),
            }
        }
    }
}
