//! Connections whose filter chain is not known before the client has sent something
//! (`envoy.filters.listener.tls_inspector`).
//!
//! What it leaves to others: reading hellos (`transport`), choosing a chain (`snapshot`), and what
//! a connection does that has one (`listeners`).

use super::slots::Key;
use super::{ListenerKey, Owner, Shard, limits};
use crate::config::TlsInspector;
use crate::proxy::{Alarm, earliest};
use crate::snapshot::ListenerEntry;
use crate::stats::{ListenerStat, TlsInspectorStat};
use crate::transport::{ClientHello, HelloReader};
use std::rc::Rc;
use std::sync::Arc;
use tidegate_io::{Buffer, Errno, Instant, Io, Outcome, Socket};

pub(crate) type InspectedKey = Key<Inspected>;

/// A connection that is inspected.
#[derive(Debug)]
pub struct Inspected {
    socket: Socket,
    /// Where it was accepted, and what that listener was then.
    listener: ListenerKey,
    entry: Rc<Arc<ListenerEntry>>,
    hello: HelloReader,
    /// What it has sent so far, and how that has ended.
    input: Vec<u8>,
    end: Option<Result<(), Errno>>,
    /// The answer is there: the rest of the turn's input is taken first.
    decided: bool,
    accepted: Instant,
    alarm: Alarm,
}

/// What is known of a connection beside its addresses.
pub(super) struct Inspection {
    pub is_tls: bool,
    pub server_name: String,
    pub protocols: Vec<Vec<u8>>,
    pub input: Option<Buffer>,
    pub end: Option<Result<(), Errno>>,
}

impl Inspection {
    /// Of a connection that has not been inspected.
    pub const NONE: Inspection = Inspection {
        is_tls: false,
        server_name: String::new(),
        protocols: Vec::new(),
        input: None,
        end: None,
    };
}

impl Inspected {
    fn deadline(&self, draining_since: Option<Instant>) -> Option<Instant> {
        let timeout = self.entry.config.listener_filters_timeout;
        let drain = draining_since.map(|since| since.max(self.accepted) + limits::DRAIN_IDLE);
        earliest(timeout.map(|timeout| self.accepted + timeout), drain)
    }
}

impl<I: Io> Shard<I> {
    /// Waits for a hello, or for what is none.
    pub(super) fn inspect(&mut self, listener: ListenerKey, socket: Socket) {
        let Some(entry) = self.listeners.get(listener).map(|it| it.entry.clone()) else { return };
        self.stats.inc(entry.stats, ListenerStat::DownstreamPreCxActive);
        let key = self.inspected.insert(Inspected {
            socket,
            listener,
            entry,
            hello: HelloReader::default(),
            input: Vec::new(),
            end: None,
            decided: false,
            accepted: self.now.instant,
            alarm: Alarm::default(),
        });
        self.io.set_token(socket, Owner::Inspected(key).token());
        self.io.recv(socket);
        self.arm_inspected(key);
    }

    pub(super) fn arm_inspected(&mut self, key: InspectedKey) {
        let Some(inspected) = self.inspected.get_mut(key) else { return };
        let deadline = inspected.deadline(self.draining_since);
        inspected.alarm.arm(deadline, Owner::Inspected(key).token(), &mut self.timers);
    }

    pub(super) fn inspected_completion(&mut self, key: InspectedKey, outcome: Outcome) {
        let Some(inspected) = self.inspected.get_mut(key) else { return };
        let stat = match outcome {
            Outcome::Received(buffer) => return self.inspected_received(key, &buffer),
            Outcome::RecvFailed(errno) if inspected.decided => {
                inspected.end = Some(Err(errno));
                return;
            }
            _ if inspected.decided => {
                inspected.end = Some(Ok(()));
                return;
            }
            Outcome::Eof => ListenerStat::DownstreamListenerFilterRemoteClose,
            _ => ListenerStat::DownstreamListenerFilterError,
        };
        self.stats.inc(inspected.entry.stats, stat);
        self.end_inspection(key);
    }

    fn inspected_received(&mut self, key: InspectedKey, bytes: &[u8]) {
        let Some(inspected) = self.inspected.get_mut(key) else { return };
        inspected.input.extend_from_slice(bytes);
        if inspected.decided {
            return;
        }
        let config = inspected.entry.config.tls_inspector.unwrap_or_default();
        let bytes_max = config.max_client_hello_size as usize;
        let room = (bytes_max + bytes.len()).saturating_sub(inspected.input.len());
        let read = inspected.hello.read(&bytes[..bytes.len().min(room)]);
        if read != ClientHello::NeedMore || inspected.input.len() >= bytes_max {
            inspected.decided = true;
            self.decided.push((key, read, config));
        }
    }

    /// Goes on with those that are inspected. All that had come for them is taken.
    pub(super) fn end_inspections(&mut self) {
        while let Some((key, read, config)) = self.decided.pop() {
            self.inspection_read(key, read, config);
        }
    }

    fn inspection_read(&mut self, key: InspectedKey, read: ClientHello, config: TlsInspector) {
        use TlsInspectorStat as Stat;
        let Some(inspected) = self.inspected.get(key) else { return };
        let stats = inspected.entry.inspector_stats;
        let length = inspected.input.len() as u64;
        let count = |stat| stats.map_or((), |scope| self.stats.inc(scope, stat));
        if let Some(scope) = stats {
            self.stats.record(scope, Stat::BytesProcessed, length);
        }
        let mut inspection = Inspection::NONE;
        match read {
            ClientHello::NeedMore => {
                count(Stat::ClientHelloTooLarge);
                return self.end_inspection(key);
            }
            ClientHello::NotTls if config.close_connection_on_client_hello_parsing_errors => {
                count(Stat::TlsNotFound);
                return self.end_inspection(key);
            }
            ClientHello::NotTls => count(Stat::TlsNotFound),
            ClientHello::Tls { server_name, protocols } => {
                count(Stat::TlsFound);
                count(if server_name.is_empty() { Stat::SniNotFound } else { Stat::SniFound });
                count(if protocols.is_empty() { Stat::AlpnNotFound } else { Stat::AlpnFound });
                inspection = Inspection { is_tls: true, server_name, protocols, ..inspection };
            }
        }
        self.admit_inspected(key, inspection);
    }

    /// Gives the connection its chain.
    fn admit_inspected(&mut self, key: InspectedKey, inspection: Inspection) {
        let Some(mut inspected) = self.inspected.remove(key) else { return };
        inspected.alarm.cancel(&mut self.timers);
        self.stats.dec(inspected.entry.stats, ListenerStat::DownstreamPreCxActive);
        let input = std::mem::take(&mut inspected.input);
        let input = (!input.is_empty()).then(|| Buffer::copy_from(&input));
        let inspection = Inspection { input, end: inspected.end, ..inspection };
        // What the listener is by now, unless it is gone.
        let listener = self.listeners.get(inspected.listener).map(|it| it.entry.clone());
        let entry = listener.unwrap_or(inspected.entry);
        self.choose_chain(inspected.listener, &entry, inspected.socket, inspection);
    }

    fn end_inspection(&mut self, key: InspectedKey) {
        let Some(mut inspected) = self.inspected.remove(key) else { return };
        inspected.alarm.cancel(&mut self.timers);
        self.stats.dec(inspected.entry.stats, ListenerStat::DownstreamPreCxActive);
        self.io.close(inspected.socket);
    }

    pub(super) fn inspected_timer(&mut self, key: InspectedKey) {
        let now = self.now.instant;
        let Some(inspected) = self.inspected.get_mut(key) else { return };
        inspected.alarm.fired();
        if inspected.deadline(self.draining_since).is_none_or(|at| at > now) {
            return self.arm_inspected(key);
        }
        let config = &inspected.entry.config;
        let timeout = config.listener_filters_timeout;
        if timeout.is_none_or(|timeout| inspected.accepted + timeout > now) {
            // It has said nothing, and the process drains.
            return self.end_inspection(key);
        }
        self.stats.inc(inspected.entry.stats, ListenerStat::DownstreamPreCxTimeout);
        match config.continue_on_listener_filters_timeout {
            true => self.admit_inspected(key, Inspection::NONE),
            false => self.end_inspection(key),
        }
    }
}
