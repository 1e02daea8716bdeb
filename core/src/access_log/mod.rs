//! Access logs: a compiled format, lines made on the shard, written by a thread of their own.
//!
//! A shard formats into its own buffer and hands whole buffers over: no lock and no system call per
//! request.
//!
//! What it leaves to others: when a stream is over (`proxy`).

mod address;
mod entry;
pub mod filter;
pub mod format;
mod json;
mod measured;
mod operator;
mod parse;
mod query;
pub mod service;
mod service_stream;
pub mod shard_log;
mod sizes;
mod time;
mod tls;
mod wire;
pub mod writer;

pub use filter::Filter;
pub use format::{DEFAULT_FORMAT, Format, FormatError};
pub use measured::{Measured, Moment, WireCount};
pub use service::{ServiceLog, Services};
pub use shard_log::ShardLog;
pub use time::iso_8601_ms;
pub use writer::LogWriter;

use crate::config::{self, Metadata};
use crate::reply::{LocalReply, ResponseFlags};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidegate_http::{Headers, RequestHead, ResponseHead, Version};
use writer::Sink;

/// What is known of a stream when it is over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// When the request began, in microseconds since 1970.
    pub start_unix_us: u64,
    /// From the first byte of the request to the last of the response, in microseconds.
    pub duration_us: u64,
    /// It is of a connection of `tcp_proxy`: there are no requests.
    pub is_tcp: bool,
    /// The request's head; `None` when none was readable.
    pub request: Option<&'a RequestHead>,
    /// The response's head, local replies included.
    pub response: Option<&'a ResponseHead>,
    /// The response's trailers.
    pub trailers: Option<&'a Headers>,
    /// Status sent downstream, 0 for none.
    pub status: u16,
    /// Response flags.
    pub flags: ResponseFlags,
    /// Response code details.
    pub details: &'a str,
    /// Body bytes received from downstream.
    pub bytes_received: u64,
    /// Body bytes sent downstream.
    pub bytes_sent: u64,
    /// The upstream host, if one was chosen.
    pub upstream_host: Option<SocketAddr>,
    /// What was spoken with it, once there was a connection.
    pub upstream_protocol: Option<Version>,
    /// The upstream cluster, if one was chosen.
    pub upstream_cluster: Option<&'a str>,
    /// From the last byte of the request sent upstream to the first of the response.
    pub upstream_service_ms: Option<u64>,
    /// Why there was no connection to it, where `details` do not say it.
    pub upstream_failure: Option<&'a str>,
    /// How often the request was sent to an upstream, or would have been.
    pub attempts: u32,
    /// The client.
    pub downstream_remote_address: Option<SocketAddr>,
    /// The peer of the connection: another proxy perhaps.
    pub downstream_direct_address: Option<SocketAddr>,
    /// Our end.
    pub downstream_local_address: Option<SocketAddr>,
    /// The route's name.
    pub route_name: Option<&'a str>,
    /// `metadata` of the route.
    pub route_metadata: Option<&'a Metadata>,
    /// `metadata` of the cluster.
    pub cluster_metadata: Option<&'a Metadata>,
    /// `metadata` of the listener.
    pub listener_metadata: Option<&'a Metadata>,
    /// The filter chain's name.
    pub filter_chain_name: Option<&'a str>,
    /// What was measured, if a format asks for it, or a service gets it.
    pub measured: Option<&'a Measured>,
    /// The body of a local reply, while it is written anew.
    pub local_reply_body: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// Why there was no connection to an upstream, if that is so.
    fn upstream_failure(&self) -> Option<&'a str> {
        if self.upstream_failure.is_some() {
            return self.upstream_failure;
        }
        let (_, reason) = self.details.split_once('|')?;
        Some(reason.strip_suffix('}').unwrap_or(reason))
    }

    /// What is known when no request could be read and this is the answer.
    #[must_use]
    pub fn of_reply(reply: &LocalReply, start_unix_us: u64) -> Record<'a> {
        Record {
            start_unix_us,
            status: reply.status,
            flags: reply.flags,
            details: reply.details,
            ..Record::default()
        }
    }
}

/// One access log, shared by the shards.
#[derive(Debug)]
pub struct AccessLogger {
    /// What was asked for.
    pub config: config::AccessLog,
    filter: Option<Filter>,
    destination: Destination,
}

/// Where it goes, and as what.
#[derive(Debug)]
enum Destination {
    /// Lines of this format, to a file.
    Lines { format: Format, sink: Arc<Sink>, writer: LogWriter },
    /// Entries, to a gRPC service.
    Service(ServiceLog),
}

impl AccessLogger {
    /// Opens the log, written by the process's [`LogWriter`].
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, or there is no thread left to write it. `InvalidInput` when
    /// the format is wrong, which validation has refused before.
    pub fn new(config: config::AccessLog) -> io::Result<AccessLogger> {
        AccessLogger::with_writer(config, LogWriter::of_process()?)
    }

    /// Opens the log, written by this writer.
    ///
    /// # Errors
    ///
    /// As [`AccessLogger::new`].
    pub fn with_writer(config: config::AccessLog, writer: LogWriter) -> io::Result<AccessLogger> {
        let format = config
            .format
            .as_ref()
            .map_or_else(|| Format::parse(DEFAULT_FORMAT), |format| format.compile(false));
        let format = format.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let sink = Arc::new(Sink::open(config.sink.clone())?);
        let filter = config.filter.as_ref().map(Filter::new);
        Ok(AccessLogger {
            config,
            filter,
            destination: Destination::Lines { format, sink, writer },
        })
    }

    /// Begins the log of a gRPC service.
    ///
    /// # Errors
    ///
    /// When there is no thread left to send it.
    pub fn with_service(
        config: config::AccessLog,
        service: config::GrpcAccessLog,
        services: &Services,
    ) -> io::Result<AccessLogger> {
        let filter = config.filter.as_ref().map(Filter::new);
        let destination = Destination::Service(ServiceLog::start(service, services)?);
        Ok(AccessLogger { config, filter, destination })
    }

    /// Whether its lines have what is [`Measured`].
    #[must_use]
    pub fn measures(&self) -> bool {
        match &self.destination {
            Destination::Lines { format, .. } => format.measures(),
            Destination::Service(_) => true,
        }
    }

    /// Whether a stream gets a line here.
    #[must_use]
    pub fn wants(&self, record: &Record<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.passes(record))
    }

    /// Has the file opened anew, by its name, before the next line: after it was moved away.
    pub fn reopen(&self) {
        if let Destination::Lines { sink, writer, .. } = &self.destination {
            writer.reopen(sink);
        }
    }

    /// Waits until everything that shards handed over is written, but not longer than `timeout`.
    /// Says whether it is.
    #[must_use]
    pub fn sync(&self, timeout: Duration) -> bool {
        match &self.destination {
            Destination::Lines { writer, .. } => writer.sync(timeout),
            Destination::Service(service) => service.sync(timeout),
        }
    }

    /// Lines that were dropped because the writer could not keep up.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.sink().map_or(0, |sink| sink.dropped.load(Ordering::Relaxed))
    }

    /// Lines that could not be written, in whole or in part: a full disk, a closed pipe.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.sink().map_or(0, |sink| sink.failed.load(Ordering::Relaxed))
    }

    /// Entries that a gRPC service was sent, and that were dropped.
    #[must_use]
    pub fn entries(&self) -> (u64, u64) {
        match &self.destination {
            Destination::Lines { .. } => (0, 0),
            Destination::Service(service) => service.counts(),
        }
    }

    fn sink(&self) -> Option<&Arc<Sink>> {
        match &self.destination {
            Destination::Lines { sink, .. } => Some(sink),
            Destination::Service(_) => None,
        }
    }
}

/// Appends a number, with zeros in front up to `width` digits.
fn write_number(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    while number > 0 {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    first = first.min(digits.len().saturating_sub(width));
    out.extend_from_slice(&digits[first..]);
}

/// By byte, whether [`write_escaped`] escapes it.
const ESCAPED: [bool; 256] = {
    let mut escaped = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let printable = 0x20 <= byte && byte <= 0x7e;
        escaped[byte] = !printable || byte == b'"' as usize || byte == b'\\' as usize;
        byte += 1;
    }
    escaped
};

/// Appends text of a peer's: what could begin a line, end a quoted text or steer a terminal as
/// `\xHH`.
fn write_escaped(out: &mut Vec<u8>, mut text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    while let Some(place) = text.iter().position(|byte| ESCAPED[usize::from(*byte)]) {
        let byte = text[place];
        out.extend_from_slice(&text[..place]);
        let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
        out.extend_from_slice(&[b'\\', b'x', high, low]);
        text = &text[place + 1..];
    }
    out.extend_from_slice(text);
}
