//! Streams of a connection: which are alive, and the ways in which they end.
//!
//! What it leaves to others: how they begin (`block`, `send`).

use super::Fault;
use super::closed::End;
use super::connection::{Connection, Role};
use super::event::{Cause, Event};
use super::state::{Frame, State};
use super::streams::StreamKey;

impl Connection {
    /// A stream that is not closed.
    pub(super) fn find_live(&self, id: u32) -> Option<StreamKey> {
        let key = self.streams.find(id)?;
        self.streams.get(key).filter(|stream| stream.state != State::Closed)?;
        Some(key)
    }

    /// Whether nobody has opened this stream.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        let is_clients = id % 2 == 1;
        match self.role {
            Role::Server if is_clients => id > self.peer_stream_max,
            Role::Client if is_clients => id >= self.next_stream,
            _ => true,
        }
    }

    /// The stream has come to its end on both sides. It stays until what was received is consumed.
    pub(super) fn complete(&mut self, key: StreamKey) {
        self.active -= 1;
        self.abuse.closed();
        self.closed.push(key.id(), End::Complete);
        self.remove_if_consumed(key);
    }

    pub(super) fn remove_if_consumed(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get(key)
            && stream.state == State::Closed
            && stream.receive.unconsumed() == 0
        {
            self.streams.remove(key);
        }
    }

    /// Forgets a stream: what was received on it and not consumed is given back to the connection.
    pub(super) fn forget(&mut self, key: StreamKey, end: End) -> Option<u64> {
        let stream = self.streams.remove(key)?;
        self.queued -= stream.queued;
        if stream.state != State::Closed {
            let frame = match end {
                End::ResetByPeer => Frame::ReceiveReset,
                End::ResetByUs | End::Complete => Frame::SendReset,
            };
            debug_assert_eq!(stream.state.after(frame), Ok(State::Closed));
            self.active -= 1;
            self.closed.push(key.id(), end);
        }
        self.give_back(stream.receive.unconsumed());
        Some(stream.tag)
    }

    /// The peer made a mistake on a stream: it is reset. The caller hears of it.
    pub(super) fn stream_error(
        &mut self,
        key: StreamKey,
        fault: Fault,
    ) -> Result<Option<Event>, Fault> {
        self.refuse(key.id(), fault)?;
        let Some(tag) = self.forget(key, End::ResetByUs) else { return Ok(None) };
        let cause = Cause::Fault(fault);
        Ok(Some(Event::Reset { stream: key, tag, code: fault.code(), cause }))
    }

    /// Answers a frame with RST_STREAM; counts it as premature, for the peer made us do it.
    pub(super) fn refuse(&mut self, id: u32, fault: Fault) -> Result<(), Fault> {
        self.write_rst_stream(id, fault.code());
        match self.role {
            Role::Server => self.abuse.induced_reset(&self.options),
            Role::Client => Ok(()),
        }
    }

    /// A message that HTTP does not allow: its stream ends, or the connection (RFC 9113 8.1.1,
    /// Envoy's `override_stream_error_on_invalid_http_message`).
    pub(super) fn malformed(
        &mut self,
        key: StreamKey,
        fault: Fault,
    ) -> Result<Option<Event>, Fault> {
        self.counters.rx_messaging_error += 1;
        // As in Envoy, what is wrong with a body never concerns other streams.
        if self.options.stream_error_on_invalid_http_message || fault == Fault::ContentLength {
            self.stream_error(key, fault)
        } else {
            Err(fault)
        }
    }
}
