//! Flow control at a simulated HTTP/2 peer: when it opens its windows, and how it takes those that
//! the proxy opens.
//!
//! What it leaves to others: counting what comes and goes (`http2_peer.rs`, `http2_output.rs`).

use tidegate_io::Instant;

use super::http2_peer::{Peer, PeerStream};
use super::http2_wire::{self as wire, Frame, kind};

impl Peer {
    /// The proxy opens a window.
    pub(super) fn their_grant(&mut self, frame: &Frame) -> Result<(), String> {
        let increment = i64::from(frame.word(0)?);
        let window = match frame.stream {
            0 => &mut self.send_window,
            _ => &mut self.known(frame)?.send_window,
        };
        *window += increment;
        match increment > 0 && *window < 1 << 31 {
            true => Ok(()),
            false => Err(format!("a WINDOW_UPDATE of {increment} makes {window}")),
        }
    }

    /// Windows that are used up are opened again, some time later.
    pub(super) fn plan_grants(&mut self, id: u32, now: Instant) {
        if self.manners.starves {
            return;
        }
        let at = now + self.manners.delay;
        if self.receive_window <= self.manners.connection_window / 2 {
            self.grant_at.get_or_insert(at);
        }
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.receive_window <= self.manners.window / 2
            && !stream.end_received
            && stream.is_open()
        {
            stream.grant_at.get_or_insert(at);
        }
    }

    /// Opens the windows whose time has come.
    pub(super) fn grant(&mut self, now: Instant) {
        let is_due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        if is_due(&mut self.grant_at) {
            let increment = self.manners.connection_window - self.receive_window;
            self.receive_window += increment;
            wire::write_word(&mut self.out, kind::WINDOW_UPDATE, 0, increment as u32);
        }
        for (id, stream) in &mut self.streams {
            let increment = self.manners.window - stream.receive_window;
            if is_due(&mut stream.grant_at) && stream.is_open() && increment > 0 {
                stream.receive_window += increment;
                wire::write_word(&mut self.out, kind::WINDOW_UPDATE, *id, increment as u32);
            }
        }
    }

    /// When it wants to run again although nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        // What waits for the socket has no time of its own.
        let waits = !self.sending && !self.is_closing;
        let of_stream =
            |stream: &PeerStream| [stream.grant_at, stream.wait_until.filter(|_| waits)];
        self.streams.values().flat_map(of_stream).chain([self.grant_at]).flatten().min()
    }
}
