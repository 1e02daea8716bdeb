//! What a connection of HTTP/2 and the streams on it hold beyond the codec's own state, on either
//! side.
//!
//! What it leaves to others: frames and windows (`tidegate_http::h2`), what a stream's events mean
//! (`http2_downstream`, `http2_upstream`).

use super::deadline::earliest;
use super::keepalive::{self, Keepalive, Step};
use super::stream::Stream;
use crate::access_log::WireCount;
use crate::sabotage::Sabotage;
use crate::shard::slots::Slots;
use crate::shard::{StreamKey, limits};
use crate::stats::{Http2Stat, Scope, ShardStats};
use std::collections::VecDeque;
use std::time::Duration;
use tidegate_http::Headers;
use tidegate_http::h2::{self, Connection, ConnectionError, Counters, Ending, Fault, Send};
use tidegate_io::{Buffer, Instant, Output};

/// A connection of HTTP/2.
#[derive(Debug)]
pub struct Http2 {
    pub(super) connection: Connection,
    pub(super) drain: Drain,
    pub(super) keepalive: Option<Keepalive>,
    /// Streams whose response was over with its head, until they end: the codec may have forgotten
    /// them.
    pub(super) headed: Vec<StreamKey>,
    /// What is in the stats.
    counted: Counted,
    /// The memory that an idle connection does not need was given back.
    is_trimmed: bool,
}

/// What of a connection is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Counted {
    counters: Counters,
    streams: usize,
    queued: u64,
}

/// The codec's time.
pub(super) fn codec_time(now: Instant) -> Duration {
    Duration::from_nanos(now.0)
}

/// A message on its way out, and its trailers.
pub(super) type Outgoing<'s> = (Option<&'s mut Http2Stream>, Option<&'s Headers>);

/// Bytes of a stream that went into the output: whose, and whether they were its last.
pub type Moved = (StreamKey, bool);

fn difference(now: u64, before: u64) -> u64 {
    now.wrapping_sub(before)
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expired {
    Codec(ConnectionError),
    /// The peer does not answer any more.
    Dead,
}

/// The counter of what an error ended, if it is a flood.
pub(super) fn flood_stat(fault: Fault) -> Option<Http2Stat> {
    Some(match fault {
        Fault::OutboundFrames => Http2Stat::OutboundFlood,
        Fault::OutboundControlFrames | Fault::SettingsFrames => Http2Stat::OutboundControlFlood,
        Fault::Continuations => Http2Stat::HeaderOverflow,
        Fault::EmptyFrames => Http2Stat::InboundEmptyFramesFlood,
        Fault::PriorityFrames => Http2Stat::InboundPriorityFramesFlood,
        Fault::WindowUpdateFrames => Http2Stat::InboundWindowUpdateFramesFlood,
        _ => return None,
    })
}

/// How far a connection is on its way to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Drain {
    No,
    /// The peer was told, and is waited for so long to have read it.
    Announced {
        until: Instant,
    },
    /// No further stream is taken.
    Final,
}

impl Http2 {
    pub(super) fn new(connection: Connection, keepalive: Option<Keepalive>) -> Box<Http2> {
        Box::new(Http2 {
            connection,
            drain: Drain::No,
            keepalive,
            headed: Vec::new(),
            counted: Counted::default(),
            is_trimmed: true,
        })
    }

    /// Puts into `output` what streams have and windows allow, and says whose that was.
    pub(super) fn fill(
        &mut self,
        streams: &mut Slots<Stream>,
        outgoing: fn(&mut Stream) -> Outgoing<'_>,
        output: &mut Output,
        now: Instant,
        moved: &mut Vec<Moved>,
    ) {
        let connection = &mut self.connection;
        while output.len() < limits::OUTPUT_BYTES_HIGH {
            match connection.next_send(usize::MAX, output.tail()) {
                None => break,
                Some(Send::Data { tag, length, end_stream, .. }) => {
                    let key = StreamKey::from_bits(tag);
                    let stream = streams.get_mut(key);
                    debug_assert!(stream.is_some(), "a stream that is gone has bytes to send");
                    if let Some(stream) = stream {
                        stream.active = now;
                        if let (Some(http2), _) = outgoing(stream) {
                            http2.take(length, output);
                            http2.wire.sent += (h2::FRAME_HEADER_BYTES + length) as u64;
                        }
                    }
                    moved.push((key, end_stream));
                }
                Some(Send::Trailers { stream: name, tag }) => {
                    let key = StreamKey::from_bits(tag);
                    let none = Headers::default();
                    let (http2, trailers) =
                        streams.get_mut(key).map_or((None, None), |stream| outgoing(stream));
                    let before = output.len();
                    let trailers = trailers.filter(|_| !Sabotage::DropTrailers.strikes());
                    connection.send_trailers(name, trailers.unwrap_or(&none), output.tail());
                    if let Some(http2) = http2 {
                        http2.wire.sent += (output.len() - before) as u64;
                    }
                    moved.push((key, true));
                }
            }
        }
        connection.write_control(output.tail());
    }

    /// When the codec, the keepalive or an idle connection's memory want something.
    pub(super) fn wakes_at(&self, idle_since: Instant) -> Option<Instant> {
        let codec = self.connection.deadline().map(|at| Instant(at.as_nanos() as u64));
        let keepalive = self.keepalive.as_ref().and_then(Keepalive::deadline);
        let trim = (!self.is_trimmed && self.connection.streams_active() == 0)
            .then(|| idle_since + limits::HTTP2_TRIM_AFTER);
        earliest(trim, earliest(codec, keepalive))
    }

    /// Does what is due by now, but for ending an idle connection. An error is the codec's: its
    /// GOAWAY waits; [`Expired::Dead`] needs none.
    pub(super) fn wake(&mut self, idle_since: Instant, now: Instant) -> Result<(), Expired> {
        self.connection.handle_timeout(codec_time(now)).map_err(Expired::Codec)?;
        let is_idle = self.connection.streams_active() == 0;
        if is_idle && !self.is_trimmed && idle_since + limits::HTTP2_TRIM_AFTER <= now {
            self.connection.release_memory();
            self.is_trimmed = true;
        }
        match self.keepalive.as_mut().map(|keepalive| keepalive.step(now)) {
            Some(Step::Ping) => self.connection.ping(keepalive::PING),
            Some(Step::Dead) => return Err(Expired::Dead),
            Some(Step::Nothing) | None => {}
        }
        Ok(())
    }

    /// Something came.
    pub(super) fn received(&mut self, now: Instant) {
        self.is_trimmed = false;
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.received(now);
        }
    }

    /// Adds to the stats what happened since.
    pub(super) fn count(&mut self, stats: &ShardStats, scope: Scope) {
        let connection = &self.connection;
        let now = Counted {
            counters: *connection.counters(),
            streams: connection.streams_active(),
            queued: connection.queued_bytes(),
        };
        self.count_to(now, stats, scope);
    }

    /// The connection is gone.
    pub(super) fn end_count(&mut self, stats: &ShardStats, scope: Scope) {
        let counters = *self.connection.counters();
        self.count_to(Counted { counters, ..Counted::default() }, stats, scope);
    }

    fn count_to(&mut self, now: Counted, stats: &ShardStats, scope: Scope) {
        let before = std::mem::replace(&mut self.counted, now);
        if now == before {
            return;
        }
        // Gauges go down, too: in the arithmetic of their cells.
        stats.add(
            scope,
            Http2Stat::StreamsActive,
            difference(now.streams as u64, before.streams as u64),
        );
        stats.add(scope, Http2Stat::PendingSendBytes, difference(now.queued, before.queued));
        let (now, before) = (now.counters, before.counters);
        if now == before {
            return;
        }
        for (stat, now, before) in [
            (Http2Stat::HeaderOverflow, now.header_overflow, before.header_overflow),
            (Http2Stat::RxMessagingError, now.rx_messaging_error, before.rx_messaging_error),
            (Http2Stat::RxReset, now.rx_reset, before.rx_reset),
            (Http2Stat::TxReset, now.tx_reset, before.tx_reset),
            (Http2Stat::Trailers, now.trailers, before.trailers),
            (
                Http2Stat::StreamRefusedErrors,
                now.stream_refused_errors,
                before.stream_refused_errors,
            ),
            (Http2Stat::GoawaySent, now.goaway_sent, before.goaway_sent),
        ] {
            stats.add(scope, stat, (now - before).into());
        }
    }

    /// The streams on it.
    pub(super) fn streams(&self) -> impl Iterator<Item = StreamKey> + '_ {
        let is_forgotten = |key: &StreamKey| self.connection.tags().all(|tag| tag != key.to_bits());
        let forgotten = self.headed.iter().copied().filter(is_forgotten);
        self.connection.tags().map(StreamKey::from_bits).chain(forgotten)
    }
}

/// A message that goes out on a connection of HTTP/2, and the window of the one that comes back.
#[derive(Debug, Default)]
pub struct Http2Stream {
    /// Its name there; none while it waits for a connection.
    pub(super) key: Option<h2::StreamKey>,
    /// Body bytes that wait for their turn and for the peer's window.
    queue: VecDeque<Buffer>,
    /// How many they are.
    pub(super) queued: usize,
    /// What comes after them.
    pub(super) ending: Ending,
    /// Everything is in the connection's output.
    pub(super) is_sent: bool,
    /// What came for a tunnel before it was accepted.
    pub(super) early: Vec<u8>,
    /// What is received is not passed on for now, and the peer not told to send more.
    pub(super) paused: bool,
    /// Received bytes of which the peer was not told that they are gone.
    pub(super) unconsumed: usize,
    /// Bytes of frames with its head, body and trailers, both ways.
    pub(super) wire: WireCount,
}

impl Http2Stream {
    /// A message without its body; `queue` is empty, and its memory is used.
    pub(super) fn new(key: Option<h2::StreamKey>, queue: VecDeque<Buffer>) -> Http2Stream {
        debug_assert!(queue.is_empty());
        Http2Stream { key, queue, ..Http2Stream::default() }
    }

    /// Adds body bytes, of which the peer's windows let out so many now. Who waits for a window
    /// must not hold the buffers that its next WINDOW_UPDATE needs: what does not fit is a copy.
    pub(super) fn push(&mut self, data: Buffer, window: usize) {
        if !data.is_empty() {
            self.queued += data.len();
            let waits = self.queued > window;
            self.queue.push_back(if waits { Buffer::copy_from(&data) } else { data });
        }
    }

    /// Moves so many of its body's bytes to the output.
    pub(super) fn take(&mut self, mut length: usize, output: &mut Output) {
        debug_assert!(length <= self.queued);
        self.queued -= length;
        while length > 0
            && let Some(front) = self.queue.front_mut()
        {
            if front.len() > length {
                output.push(front.slice(0..length));
                let repeated = usize::from(Sabotage::RepeatCutByte.strikes());
                *front = front.slice(length - repeated..front.len() - repeated);
                return;
            }
            length -= front.len();
            if let Some(whole) = self.queue.pop_front() {
                output.push(whole);
            }
        }
    }

    /// Its memory, to be used again, if there is some and it is not much.
    pub(super) fn into_queue(mut self) -> Option<VecDeque<Buffer>> {
        self.queue.clear();
        (1..=limits::SPARE_QUEUE_LENGTH_MAX).contains(&self.queue.capacity()).then_some(self.queue)
    }
}
