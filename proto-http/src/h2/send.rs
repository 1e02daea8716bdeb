//! What the caller commands: heads, data, resets, the connection's end; and what is written when.
//!
//! Heads and trailers are written at once, into the caller's output. Data stays with the caller:
//! it says how much there is, and is told stream by stream how much it may put behind a frame
//! header that was written for it.
//!
//! What it leaves to others: the caller's bytes.

use super::ErrorCode;
use super::closed::End;
use super::connection::{Connection, Role};
use super::event::Counters;
use super::frame::{self, FrameHeader, HEADER_BYTES, STREAM_ID_MAX, flag, kind};
use super::settings::FRAME_SIZE_MIN;
use super::state::{Frame, State};
use super::streams::{Ending, StreamKey};
use super::{ConnectionError, Fault};
use crate::Headers;
use crate::message::{BodyLength, Method, RequestHead, ResponseHead};
use alloc::vec::Vec;
use core::time::Duration;

/// A control buffer that has grown beyond this is given back when it is written.
const CONTROL_KEEP_BYTES: usize = 1024;

/// Why a stream cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// As many are open as the peer or our options allow.
    TooManyStreams,
    /// The connection is going away, or has used all stream ids: take another one.
    GoingAway,
    /// An upgrade, and the peer has not enabled extended CONNECT.
    NoExtendedConnect,
}

/// What is to be put out for one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Send {
    /// A DATA frame's header was written: so many of the stream's bytes come next.
    Data {
        /// Whose bytes.
        stream: StreamKey,
        /// What the caller called it.
        tag: u64,
        /// How many; 0 only at the end.
        length: usize,
        /// They were the last of this message. The key may be stale.
        end_stream: bool,
    },
    /// Everything before the trailers was written: call [`Connection::send_trailers`].
    Trailers {
        /// Whose trailers.
        stream: StreamKey,
        /// What the caller called it.
        tag: u64,
    },
}

impl Connection {
    /// Writes the frames that wait: answers, window updates, resets. Commands that write do this
    /// first, so only what is left at the end of a turn needs it.
    pub fn write_control(&mut self, out: &mut Vec<u8>) {
        if self.control.is_empty() {
            return;
        }
        out.extend_from_slice(&self.control);
        self.control.clear();
        if self.control.capacity() > CONTROL_KEEP_BYTES {
            self.control = Vec::new();
        }
    }

    /// Whether something waits to be written, and can be: call [`Connection::write_control`] and
    /// [`Connection::next_send`].
    #[must_use]
    pub fn has_output(&self) -> bool {
        let has_data = !self.ready.is_empty() && self.send.available() > 0;
        !self.control.is_empty() || has_data && self.failed.is_none()
    }

    /// All that was written is now being sent; [`Connection::handle_sent`] tells when it has left.
    /// Between the two, and before the first, frames count as outbound.
    pub fn handle_sending(&mut self) {
        self.abuse.sending();
    }

    /// What was being sent has left.
    pub fn handle_sent(&mut self) {
        self.abuse.sent();
    }

    /// How many more streams a client may open.
    #[must_use]
    pub fn streams_available(&self) -> usize {
        let is_over = self.our_goaway.is_some()
            || self.their_goaway.is_some()
            || self.next_stream > STREAM_ID_MAX;
        let max = self.theirs.max_concurrent_streams.min(self.options.max_concurrent_streams);
        if is_over { 0 } else { (max as usize).saturating_sub(self.active) }
    }

    /// Streams that are open.
    #[must_use]
    pub fn streams_active(&self) -> usize {
        self.active
    }

    /// Whether the peer accepts extended CONNECT (RFC 8441).
    #[must_use]
    pub fn is_connect_protocol_enabled(&self) -> bool {
        self.theirs.enable_connect_protocol
    }

    /// Opens a stream with a request. `tag` is how the caller knows the stream again.
    ///
    /// A head with `upgrade` becomes an extended CONNECT; a 2xx answer comes back as 101.
    ///
    /// # Errors
    ///
    /// The connection cannot take it; nothing was written.
    pub fn open(
        &mut self,
        head: &RequestHead,
        body: BodyLength,
        end_stream: bool,
        tag: u64,
        out: &mut Vec<u8>,
    ) -> Result<StreamKey, Refusal> {
        debug_assert_eq!(self.role, Role::Client);
        let is_over = self.our_goaway.is_some() || self.their_goaway.is_some();
        if is_over || self.next_stream > STREAM_ID_MAX {
            return Err(Refusal::GoingAway);
        }
        if self.streams_available() == 0 {
            return Err(Refusal::TooManyStreams);
        }
        if head.upgrade && !self.theirs.enable_connect_protocol {
            return Err(Refusal::NoExtendedConnect);
        }
        let id = self.next_stream;
        self.next_stream += 2;
        self.abuse.opened();
        let mut stream = self.new_stream(id, Frame::SendHeaders { end: end_stream });
        stream.has_sent_head = true;
        stream.is_head = head.method == Method::Head;
        stream.is_extended_connect = head.upgrade;
        stream.is_connect = head.upgrade || head.method == Method::Connect;
        stream.tag = tag;
        let key = self.streams.insert(stream);
        self.write_control(out);
        let start = begin_block(out);
        self.writer.request(head, body, out);
        self.end_block(out, start, id, end_stream);
        Ok(key)
    }

    /// Writes a response head, interim or final. Answers whether the stream could take it: it is
    /// open, and no final head was sent. 101 to an extended CONNECT is sent as 200.
    pub fn send_response(
        &mut self,
        key: StreamKey,
        head: &ResponseHead,
        body: BodyLength,
        end_stream: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        if stream.has_sent_head || !stream.state.can_send() {
            return false;
        }
        let is_accepted_upgrade = head.status == 101 && stream.is_extended_connect;
        let status = if is_accepted_upgrade { 200 } else { head.status };
        let is_interim = status < 200;
        debug_assert!(status != 101 && !(is_interim && end_stream));
        stream.has_sent_head = !is_interim;
        self.write_control(out);
        let start = begin_block(out);
        self.writer.response(head, status, body, out);
        self.end_block(out, start, key.id(), end_stream);
        self.sent(key, Frame::SendHeaders { end: end_stream });
        true
    }

    /// Writes trailers, which end the stream: when [`Send::Trailers`] asks for them, or when no
    /// data is queued. Answers whether the stream could take them.
    pub fn send_trailers(&mut self, key: StreamKey, trailers: &Headers, out: &mut Vec<u8>) -> bool {
        let Some(stream) = self.streams.get(key) else { return false };
        if !stream.has_sent_head || !stream.state.can_send() || stream.queued > 0 {
            return false;
        }
        self.write_control(out);
        let start = begin_block(out);
        self.writer.trailers(trailers, out);
        self.end_block(out, start, key.id(), true);
        self.sent(key, Frame::SendHeaders { end: true });
        true
    }

    /// The caller has so many bytes more for this stream, and this comes after them.
    pub fn queue_data(&mut self, key: StreamKey, bytes: usize, then: Ending) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if !stream.state.can_send() {
            return;
        }
        debug_assert!(stream.has_sent_head && stream.ending == Ending::Open);
        stream.queued += bytes as u64;
        self.queued += bytes as u64;
        stream.ending = then;
        self.make_ready(key);
    }

    /// Bytes that the caller holds for this stream.
    #[must_use]
    pub fn queued(&self, key: StreamKey) -> u64 {
        self.streams.get(key).map_or(0, |stream| stream.queued)
    }

    /// Bytes that may be sent on this stream now, as far as the peer's windows say.
    #[must_use]
    pub fn send_window(&self, key: StreamKey) -> usize {
        let of_stream = self.streams.get(key).map_or(0, |stream| stream.send.available());
        of_stream.min(self.send.available())
    }

    /// Bytes that the caller holds for all streams.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.queued
    }

    /// The next stream's turn: writes the header of a DATA frame of at most `bytes_max`, as far as
    /// the windows allow. Streams take turns, a frame each.
    pub fn next_send(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> Option<Send> {
        if self.failed.is_some() {
            return None;
        }
        // Streams that wait for the connection's window stay in their places.
        for _ in 0..self.ready.len() {
            let key = self.ready.pop_front()?;
            let Some(stream) = self.streams.get_mut(key) else { continue };
            stream.is_ready = false;
            if stream.queued == 0 && stream.ending == Ending::Trailers {
                return Some(Send::Trailers { stream: key, tag: stream.tag });
            }
            let frame_max = self.theirs.max_frame_size.min(FRAME_SIZE_MIN) as usize;
            let queued = usize::try_from(stream.queued).unwrap_or(usize::MAX);
            let allowed = stream.send.available().min(frame_max).min(bytes_max);
            let length = queued.min(allowed).min(self.send.available());
            let is_last = length == queued && stream.ending == Ending::End;
            if length > 0 || is_last {
                let tag = stream.tag;
                self.send_data(key, length, is_last, out);
                return Some(Send::Data { stream: key, tag, length, end_stream: is_last });
            }
            if queued > 0 && stream.send.available() > 0 {
                stream.is_ready = true;
                self.ready.push_back(key);
            }
        }
        None
    }

    fn send_data(&mut self, key: StreamKey, length: usize, end_stream: bool, out: &mut Vec<u8>) {
        self.write_control(out);
        let flags = if end_stream { flag::END_STREAM } else { 0 };
        FrameHeader { length, kind: kind::DATA, flags, stream: key.id() }.write(out);
        self.abuse.data_sent();
        self.abuse.frame_written();
        // Neither fails: the length is within both windows.
        let is_within = self.send.take(length).is_ok();
        if let Some(stream) = self.streams.get_mut(key) {
            debug_assert!(is_within && stream.send.available() >= length);
            let _ = stream.send.take(length);
            stream.queued -= length as u64;
            self.queued -= length as u64;
        }
        self.sent(key, Frame::SendData { end: end_stream });
        self.make_ready(key);
    }

    /// Puts a stream into the queue if it has something to send and its own window lets it.
    pub(super) fn make_ready(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let has_work = match stream.queued {
            0 => stream.ending != Ending::Open,
            _ => stream.send.available() > 0,
        };
        if stream.is_ready || !has_work || !stream.state.can_send() {
            return;
        }
        stream.is_ready = true;
        // A peer that resets what it opens, while we cannot send, must not make the queue grow.
        if self.ready.len() > 2 * self.streams.count() + 16 {
            let streams = &self.streams;
            self.ready.retain(|key| streams.get(*key).is_some());
        }
        self.ready.push_back(key);
    }

    /// So many bytes of [`super::Event::Data`] have gone on: the peer may send more.
    pub fn consumed(&mut self, key: StreamKey, bytes: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let bytes = bytes.min(stream.receive.unconsumed());
        stream.receive.consume(bytes);
        let can_receive = matches!(stream.state, State::Open | State::HalfClosedLocal);
        if can_receive && let Some(increment) = stream.receive.update() {
            frame::write_window_update(key.id(), increment, &mut self.control);
            self.abuse.frame_written();
        }
        self.give_back(bytes);
        self.remove_if_consumed(key);
    }

    /// Ends a stream, and forgets what was received on it. A stream that has come to its end is
    /// only forgotten. Whether the peer is told.
    pub fn reset(&mut self, key: StreamKey, code: ErrorCode) -> bool {
        let Some(stream) = self.streams.get(key) else { return false };
        let is_open = stream.state != State::Closed;
        if is_open {
            self.write_rst_stream(key.id(), code);
            self.abuse.closed();
        }
        self.forget(key, End::ResetByUs);
        is_open
    }

    /// Writes a PING; its answer is [`super::Event::Pong`].
    pub fn ping(&mut self, opaque: [u8; 8]) {
        frame::write_ping(opaque, false, &mut self.control);
        self.abuse.control_frame_written();
    }

    /// Says that the connection will end, and lets requests that are under way still come (RFC 9113
    /// 6.8). [`Connection::go_away`] follows, about a round trip later.
    pub fn announce_end(&mut self) {
        if self.our_goaway.is_none() {
            self.write_goaway(STREAM_ID_MAX, ErrorCode::NO_ERROR);
        }
    }

    /// Takes no further stream. When the open ones have ended [`Connection::is_finished`].
    pub fn go_away(&mut self, code: ErrorCode) {
        if self.our_goaway.is_none_or(|last| last == STREAM_ID_MAX) {
            self.write_goaway(self.peer_stream_max, code);
        }
    }

    /// When [`Connection::handle_timeout`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.unacknowledged_since.map(|since| since + self.options.settings_timeout)
    }

    /// Time has passed.
    ///
    /// # Errors
    ///
    /// The peer has not acknowledged our SETTINGS in time.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), ConnectionError> {
        self.now = now;
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.unacknowledged_since = None;
            return Err(self.fail(Fault::SettingsTimeout));
        }
        Ok(())
    }

    /// Calls a stream by the caller's word.
    pub fn set_tag(&mut self, key: StreamKey, tag: u64) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.tag = tag;
        }
    }

    /// What the caller called a stream; `None` if it is gone.
    #[must_use]
    pub fn tag(&self, key: StreamKey) -> Option<u64> {
        self.streams.get(key).map(|stream| stream.tag)
    }

    /// What the caller calls its streams, in no order; those that have ended and of which received
    /// bytes are not consumed among them.
    pub fn tags(&self) -> impl Iterator<Item = u64> {
        self.streams.iter().map(|stream| stream.tag)
    }

    /// The fields of the latest [`super::Event::Trailers`], until the next call of `decode`.
    #[must_use]
    pub fn trailers(&self) -> &Headers {
        &self.trailers
    }

    /// Exchanges the memory of trailers for that of the latest [`super::Event::Trailers`].
    pub fn swap_trailers(&mut self, trailers: &mut Headers) {
        core::mem::swap(&mut self.trailers, trailers);
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn end_block(&mut self, out: &mut Vec<u8>, start: usize, id: u32, end_stream: bool) {
        let length_max = self.theirs.max_frame_size as usize;
        frame::frame_block(out, start, id, end_stream, length_max);
        self.abuse.frame_written();
    }

    /// A frame was written: the stream moves on.
    fn sent(&mut self, key: StreamKey, frame: Frame) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let after = stream.state.after(frame);
        debug_assert!(after.is_ok(), "{frame:?} in {:?}", stream.state);
        let Ok(state) = after else { return };
        stream.state = state;
        if state == State::Closed {
            self.complete(key);
        }
    }
}

/// Leaves room for a frame header.
fn begin_block(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    start
}
