//! Bytes of a relay, both ways, with back-pressure: who is too far ahead is not read from.
//!
//! What it leaves to others: what it means that an end is gone (`closing`).

use super::{Flow, Way};
use crate::shard::{RelayKey, Shard, limits};
use crate::stats::{ClusterStat, TcpStat};
use tidegate_io::{Buffer, Io, Outcome, Output};

impl Flow {
    fn is_ahead(&self) -> bool {
        self.output.as_ref().map_or(0, Output::len) >= limits::RELAY_BYTES_HIGH
    }

    fn is_empty(&self) -> bool {
        !self.sending && self.output.as_ref().is_none_or(Output::is_empty)
    }
}

impl<I: Io> Shard<I> {
    pub(crate) fn relay_downstream(&mut self, key: RelayKey, outcome: Outcome) {
        match outcome {
            Outcome::Received(buffer) => self.relay_received(key, Way::Up, buffer),
            Outcome::Eof => self.relay_ended(key, Way::Up),
            Outcome::Sent(Ok(())) => self.relay_sent(key, Way::Down),
            Outcome::Connected(result) => self.relay_secured(key, result),
            Outcome::RecvFailed(_) | Outcome::Sent(Err(_)) => self.relay_client_gone(key),
            outcome => debug_assert!(false, "a relay's client completed with {outcome:?}"),
        }
    }

    pub(crate) fn relay_upstream(&mut self, key: RelayKey, outcome: Outcome) {
        match outcome {
            Outcome::Received(buffer) => self.relay_received(key, Way::Down, buffer),
            Outcome::Eof => self.relay_ended(key, Way::Down),
            Outcome::Sent(Ok(())) => self.relay_sent(key, Way::Up),
            Outcome::Connected(Ok(())) => self.relay_connected(key),
            Outcome::Connected(Err(errno)) => self.relay_refused(key, errno),
            Outcome::RecvFailed(errno) | Outcome::Sent(Err(errno)) => {
                self.relay_host_gone(key, errno);
            }
            outcome => debug_assert!(false, "a relay's host completed with {outcome:?}"),
        }
    }

    pub(super) fn relay_received(&mut self, key: RelayKey, way: Way, buffer: Buffer) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        let bytes = buffer.len() as u64;
        relay.active = self.now.instant;
        let is_connected = match (way, &relay.upstream) {
            (Way::Up, upstream) => {
                self.stats.add(relay.chain.tcp.stats, TcpStat::DownstreamCxRxBytesTotal, bytes);
                upstream.as_ref().is_some_and(|upstream| upstream.connected)
            }
            (Way::Down, Some(upstream)) => {
                let stats = upstream.cluster.stats;
                self.stats.add(stats, ClusterStat::UpstreamCxRxBytesTotal, bytes);
                true
            }
            (Way::Down, None) => return,
        };
        let flow = relay.flow(way);
        flow.received += bytes;
        let output = flow.output.get_or_insert_with(|| self.io.output());
        match is_connected {
            true => output.push(buffer),
            // A copy: who waits for a connection must not hold the buffers that would free one.
            false => output.tail().extend_from_slice(&buffer),
        }
        if flow.is_ahead() && !std::mem::replace(&mut flow.paused, true) {
            self.pause_relay(key, way);
        }
        self.touch_relay(key);
    }

    fn pause_relay(&mut self, key: RelayKey, way: Way) {
        let Some(relay) = self.relays.get(key) else { return };
        if let (Some(from), _) = relay.sockets(way) {
            self.io.pause(from);
        }
        match (way, &relay.upstream) {
            (Way::Down, Some(upstream)) => {
                let stat = ClusterStat::UpstreamFlowControlPausedReadingTotal;
                self.stats.inc(upstream.cluster.stats, stat);
            }
            _ => {
                let stat = TcpStat::DownstreamFlowControlPausedReadingTotal;
                self.stats.inc(relay.chain.tcp.stats, stat);
            }
        }
    }

    fn resume_relay(&mut self, key: RelayKey, way: Way) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.flow(way).paused = false;
        if let (Some(from), _) = relay.sockets(way) {
            self.io.recv(from);
        }
        match (way, &relay.upstream) {
            (Way::Down, Some(upstream)) => {
                let stat = ClusterStat::UpstreamFlowControlResumedReadingTotal;
                self.stats.inc(upstream.cluster.stats, stat);
            }
            _ => {
                let stat = TcpStat::DownstreamFlowControlResumedReadingTotal;
                self.stats.inc(relay.chain.tcp.stats, stat);
            }
        }
    }

    /// FIN came from where bytes of this way come from.
    pub(super) fn relay_ended(&mut self, key: RelayKey, way: Way) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.flow(way).ended = true;
        relay.active = self.now.instant;
        relay.client_last = way == Way::Up;
        let closes = way == Way::Up && relay.down.ended && !relay.up.is_empty();
        if closes && !std::mem::replace(&mut relay.flushing, true) {
            let stats = relay.chain.tcp.stats;
            self.stats.inc(stats, TcpStat::UpstreamFlushTotal);
            self.stats.inc(stats, TcpStat::UpstreamFlushActive);
        }
        self.touch_relay(key);
    }

    fn relay_sent(&mut self, key: RelayKey, way: Way) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.flow(way).sending = false;
        relay.active = self.now.instant;
        self.touch_relay(key);
    }

    /// Sends what waits, passes FINs on, reads on, and ends what is over.
    pub(crate) fn settle_relay(&mut self, key: RelayKey) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.touched = false;
        for way in [Way::Up, Way::Down] {
            self.settle_way(key, way);
        }
        if self.relays.get(key).is_some_and(|relay| relay.up.finished && relay.down.finished) {
            self.finish_relay(key);
        }
    }

    fn settle_way(&mut self, key: RelayKey, way: Way) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        let (_, Some(to)) = relay.sockets(way) else { return };
        // Nothing can be sent to a client before its handshake is over.
        if way == Way::Down && relay.handshake_until.is_some() {
            return;
        }
        let flow = relay.flow(way);
        if !flow.sending
            && let Some(output) = flow.output.take_if(|output| !output.is_empty())
        {
            let bytes = output.len() as u64;
            flow.sent += bytes;
            flow.sending = true;
            self.io.send(to, output);
            match (way, &relay.upstream) {
                (Way::Up, Some(upstream)) => {
                    let stats = upstream.cluster.stats;
                    self.stats.add(stats, ClusterStat::UpstreamCxTxBytesTotal, bytes);
                }
                _ => {
                    let stats = relay.chain.tcp.stats;
                    self.stats.add(stats, TcpStat::DownstreamCxTxBytesTotal, bytes);
                }
            }
        }
        let flow = relay.flow(way);
        if flow.paused && !flow.is_ahead() {
            self.resume_relay(key, way);
        } else if flow.ended && flow.is_empty() && !std::mem::replace(&mut flow.finished, true) {
            self.io.shutdown_write(to);
        }
    }
}
