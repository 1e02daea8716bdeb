//! Frames that carry no part of a message: SETTINGS, PING, GOAWAY, RST_STREAM, WINDOW_UPDATE and
//! PRIORITY, as they arrive and as we write them.
//!
//! What it leaves to others: what the caller commands (`send`).

use super::closed::End;
use super::connection::{Connection, Role};
use super::event::{Cause, Event};
use super::frame::{self, FrameHeader, STREAM_ID_MAX, flag, word};
use super::settings::Settings;
use super::state::Frame;
use super::{ErrorCode, Fault};

impl Connection {
    pub(super) fn handle_settings(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event>, Fault> {
        if header.has(flag::ACK) {
            // An acknowledgement of nothing.
            self.unacknowledged_since.take().ok_or(Fault::SettingValue)?;
            self.decoder.set_allowed_size(self.ours.header_table_size as usize);
            return Ok(None);
        }
        self.abuse.settings()?;
        let before = self.theirs.initial_window_size;
        self.theirs.read(payload, self.role == Role::Client)?;
        let difference = i64::from(self.theirs.initial_window_size) - i64::from(before);
        if difference != 0 {
            self.shift_windows(difference)?;
        }
        for size in Settings::table_sizes(payload) {
            self.writer.encoder.set_allowed_size(size as usize);
        }
        frame::write_settings_ack(&mut self.control);
        self.abuse.control_frame_written();
        Ok(Some(Event::Settings))
    }

    /// RFC 9113 6.9.2
    fn shift_windows(&mut self, difference: i64) -> Result<(), Fault> {
        for (key, stream) in self.streams.iter_mut() {
            stream.send.shift(difference)?;
            if stream.queued > 0 && stream.send.available() > 0 && !stream.is_ready {
                stream.is_ready = true;
                self.ready.push_back(key);
            }
        }
        Ok(())
    }

    pub(super) fn handle_ping(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event>, Fault> {
        let opaque = payload.first_chunk::<8>().copied().ok_or(Fault::FrameSize)?;
        if header.has(flag::ACK) {
            return Ok(Some(Event::Pong { opaque }));
        }
        frame::write_ping(opaque, true, &mut self.control);
        self.abuse.control_frame_written();
        Ok(None)
    }

    pub(super) fn handle_goaway(&mut self, payload: &[u8]) -> Result<Option<Event>, Fault> {
        let last_stream = word(payload) & STREAM_ID_MAX;
        let code = ErrorCode(word(&payload[4..]));
        // RFC 9113 6.8: it never goes up.
        if self.their_goaway.is_some_and(|before| last_stream > before) {
            return Err(Fault::GoAwayId);
        }
        self.their_goaway = Some(last_stream);
        self.are_refusals_due = self.role == Role::Client;
        Ok(Some(Event::GoAway { last_stream, code }))
    }

    /// The next of our streams that the peer's GOAWAY leaves out.
    pub(super) fn next_refusal(&mut self) -> Option<Event> {
        if !self.are_refusals_due {
            return None;
        }
        let last = self.their_goaway?;
        let key = self.streams.iter_mut().map(|(key, _)| key).find(|key| key.id() > last);
        let Some(stream) = key else {
            self.are_refusals_due = false;
            return None;
        };
        let tag = self.forget(stream, End::ResetByUs)?;
        let code = ErrorCode::REFUSED_STREAM;
        Some(Event::Reset { stream, tag, code, cause: Cause::Unprocessed })
    }

    pub(super) fn handle_rst_stream(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event>, Fault> {
        if self.is_idle(header.stream) {
            return Err(Fault::IdleStream);
        }
        let Some(key) = self.find_live(header.stream) else { return Ok(None) };
        self.counters.rx_reset += 1;
        let code = ErrorCode(word(payload));
        if code == ErrorCode::REFUSED_STREAM {
            self.counters.stream_refused_errors += 1;
        }
        if self.role == Role::Server {
            // If that ends the connection, the stream is still among those that end with it.
            let opened = self.streams.get(key).map_or(self.now, |stream| stream.opened);
            self.abuse.reset_after(self.now.saturating_sub(opened), &self.options)?;
        }
        let Some(tag) = self.forget(key, End::ResetByPeer) else { return Ok(None) };
        Ok(Some(Event::Reset { stream: key, tag, code, cause: Cause::Peer }))
    }

    pub(super) fn handle_window_update(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event>, Fault> {
        self.abuse.window_update(&self.options)?;
        let increment = word(payload) & STREAM_ID_MAX;
        if header.stream == 0 {
            if increment == 0 {
                return Err(Fault::WindowIncrement);
            }
            self.send.increase(increment)?;
            return Ok(None);
        }
        if self.is_idle(header.stream) {
            return Err(Fault::IdleStream);
        }
        let Some(key) = self.find_live(header.stream) else { return Ok(None) };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(None) };
        debug_assert!(stream.state.after(Frame::ReceiveWindowUpdate).is_ok());
        if increment == 0 {
            return self.stream_error(key, Fault::WindowIncrement);
        }
        if let Err(fault) = stream.send.increase(increment) {
            return self.stream_error(key, fault);
        }
        self.make_ready(key);
        Ok(None)
    }

    /// Parsed and ignored (RFC 9113 5.3.2), but counted.
    pub(super) fn handle_priority(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event>, Fault> {
        self.abuse.priority(&self.options)?;
        if word(payload) & STREAM_ID_MAX != header.stream {
            return Ok(None);
        }
        match self.find_live(header.stream) {
            Some(key) => self.stream_error(key, Fault::SelfDependency),
            None => Err(Fault::SelfDependency),
        }
    }

    /// Gives bytes back to the connection's window, that no stream accounts for any more.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.receive.consume(bytes);
        if let Some(increment) = self.receive.update() {
            frame::write_window_update(0, increment, &mut self.control);
            self.abuse.frame_written();
        }
    }

    pub(super) fn write_rst_stream(&mut self, id: u32, code: ErrorCode) {
        self.counters.tx_reset += 1;
        frame::write_rst_stream(id, code, &mut self.control);
        self.abuse.control_frame_written();
    }

    pub(super) fn write_goaway(&mut self, last_stream: u32, code: ErrorCode) {
        self.counters.goaway_sent += 1;
        let last_stream = self.our_goaway.map_or(last_stream, |before| before.min(last_stream));
        self.our_goaway = Some(last_stream);
        frame::write_goaway(last_stream, code, &mut self.control);
        self.abuse.control_frame_written();
    }
}
