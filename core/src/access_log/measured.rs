//! What is known of a stream only where a format asks for it: bytes on the wire, moments, and our
//! end of the upstream connection.
//!
//! What it leaves to others: measuring (`proxy::measure`).

use crate::snapshot::Host;
use crate::transport::ConnectionFacts;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What was measured of a stream.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// With the client.
    pub downstream: WireCount,
    /// With the upstream of the last attempt.
    pub upstream: WireCount,
    /// Field lines of the request's head as it was written last.
    pub head: u64,
    /// Our end of that connection.
    pub upstream_local_address: Option<SocketAddr>,
    /// What the handshake with the client came to, if there was one.
    pub downstream_tls: Option<Arc<ConnectionFacts>>,
    /// The same with the upstream of the last attempt.
    pub upstream_tls: Option<Arc<ConnectionFacts>>,
    /// The host of the last attempt.
    pub host: Option<Arc<Host>>,
    /// Since the stream began, by [`Moment`].
    pub moments: [Option<Duration>; Moment::NAMES.len()],
}

/// Bytes of one stream on one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WireCount {
    /// All bytes received.
    pub received: u64,
    /// All bytes sent.
    pub sent: u64,
    /// Those of field lines among them.
    pub header_received: u64,
    /// The same.
    pub header_sent: u64,
}

/// Which connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wire {
    Downstream,
    Upstream,
}

/// A moment in the life of a stream, as `%COMMON_DURATION%` names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// `DS_RX_BEG`: the request's head was complete.
    DsRxBeg,
    /// `DS_RX_END`: the request was complete.
    DsRxEnd,
    /// `US_TX_BEG`: it began to go out.
    UsTxBeg,
    /// `US_TX_END`: all of it was on its way.
    UsTxEnd,
    /// `US_RX_BEG`: the response's head was complete.
    UsRxBeg,
    /// `US_RX_END`: the response was complete.
    UsRxEnd,
    /// `DS_TX_BEG`: it began to go out.
    DsTxBeg,
    /// `DS_TX_END`: all of it was on its way.
    DsTxEnd,
}

impl Moment {
    const NAMES: [(&str, Moment); 8] = [
        ("DS_RX_BEG", Moment::DsRxBeg),
        ("DS_RX_END", Moment::DsRxEnd),
        ("US_TX_BEG", Moment::UsTxBeg),
        ("US_TX_END", Moment::UsTxEnd),
        ("US_RX_BEG", Moment::UsRxBeg),
        ("US_RX_END", Moment::UsRxEnd),
        ("DS_TX_BEG", Moment::DsTxBeg),
        ("DS_TX_END", Moment::DsTxEnd),
    ];

    pub(super) fn of(name: &str) -> Option<Moment> {
        Moment::NAMES.iter().find(|(known, _)| *known == name).map(|(_, moment)| *moment)
    }
}

impl Measured {
    /// Takes note of a moment, `since` the stream began.
    pub fn note(&mut self, moment: Moment, since: Duration) {
        self.moments[moment as usize] = Some(since);
    }

    pub(super) fn between(&self, from: Moment, to: Moment) -> Option<Duration> {
        self.moments[to as usize]?.checked_sub(self.moments[from as usize]?)
    }
}
