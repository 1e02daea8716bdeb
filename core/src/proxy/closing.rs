//! How a downstream connection ends: after its last answer, with its client, or because it has to.
//!
//! What it leaves to others: why (`downstream`, `response`, `timeouts`).

use super::downstream::{Codec, Life};
use super::local_reply::on_connection;
use crate::access_log::Record;
use crate::reply::{LocalReply, ResponseFlags};
use crate::sabotage::Sabotage;
use crate::shard::{DownstreamKey, Shard, StreamKey};
use crate::snapshot::Closing;
use crate::stats::{HttpStat, ListenerStat};
use tidegate_http::{Fault, HttpError, RequestHead, Version, h2};
use tidegate_io::{Errno, Io};

impl<I: Io> Shard<I> {
    /// Whether the response that begins now is the connection's last. A connection of HTTP/2 that
    /// is to end is told so by itself.
    pub(crate) fn is_last_response(&mut self, stream_key: StreamKey) -> bool {
        let is_last = self.is_connection_over(stream_key);
        let Some(stream) = self.streams.get(stream_key) else { return true };
        match stream.downstream_http2 {
            Some(_) if is_last => {
                let key = stream.downstream;
                self.start_drain(key);
                false
            }
            Some(_) => false,
            None => is_last,
        }
    }

    fn is_connection_over(&mut self, stream_key: StreamKey) -> bool {
        let Some(stream) = self.streams.get(stream_key) else { return true };
        self.follow_listener(stream.downstream);
        let Some(stream) = self.streams.get(stream_key) else { return true };
        let Some(downstream) = self.downstreams.get(stream.downstream) else { return true };
        let config = downstream.config();
        let http = downstream.listener.http.stats;
        let is_http2 = stream.downstream_http2.is_some();
        let unread_body = !is_http2
            && !stream.request_complete
            && stream.request_body != tidegate_http::BodyLength::None
            && stream.upstream().is_none();
        // A client that asked for another protocol may already speak it.
        let upgrade = stream.request.upgrade && !is_http2;
        let close = stream.request.close && !is_http2 || upgrade || unread_body;
        if is_http2 && downstream.is_draining() {
            return false;
        }
        if close || downstream.aged || downstream.life != Life::Open {
            return true;
        }
        if config.max_requests_per_connection.is_some_and(|max| downstream.requests >= max) {
            self.stats.inc(http, HttpStat::DownstreamCxMaxRequestsReached);
            return true;
        }
        let closing = match self.adopted.snapshot().closing {
            Closing::None => false,
            Closing::Inbound => downstream.listener.config.inbound,
            Closing::All => true,
        };
        if self.draining_since.is_some() || downstream.listener_gone || closing {
            self.stats.inc(http, HttpStat::DownstreamCxDrainClose);
            return true;
        }
        false
    }

    /// `refused` is the head that is refused, as far as it is known.
    pub(crate) fn request_malformed(
        &mut self,
        key: DownstreamKey,
        error: HttpError,
        refused: Option<&RequestHead>,
    ) {
        let Some(downstream) = self.downstreams.get(key) else { return };
        let http = downstream.listener.http.stats;
        match error.fault {
            Fault::TargetByte => {
                self.stats.inc(http, HttpStat::DownstreamRqFailedPathNormalization);
            }
            Fault::HostMissing => {}
            _ => self.stats.inc(http, HttpStat::DownstreamCxProtocolError),
        }
        match downstream.stream {
            // The body is broken: the upstream must not take what it got for a whole request.
            Some(stream) => {
                self.reset_upstream(stream);
                self.local_reply(stream, LocalReply::malformed(&error));
            }
            None => {
                let reply = LocalReply::malformed(&error);
                // To Envoy such a head is a request whose client has reset it.
                if reply.flags.contains(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR) {
                    self.stats.inc(http, HttpStat::DownstreamRqRxReset);
                }
                self.reply_without_stream(key, &reply, refused);
            }
        }
    }

    /// Reads no further request; closes when everything is sent.
    pub(crate) fn close_after_output(&mut self, key: DownstreamKey) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        if downstream.life == Life::Open {
            downstream.life = Life::Closing;
            downstream.idle_since = self.now.instant;
        }
        self.touch_downstream(key);
    }

    pub(crate) fn downstream_eof(&mut self, key: DownstreamKey) {
        self.end_decision(key);
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.eof = true;
        let tunnel = downstream
            .stream
            .filter(|key| self.streams.get(*key).is_some_and(|stream| stream.tunnel));
        match (downstream.life, tunnel) {
            // What is held comes first: requests are answered, and a tunnel's bytes go out.
            (Life::Open, _) if !downstream.held.is_empty() => self.touch_downstream(key),
            (Life::Open, Some(stream)) => self.tunnel_finished_downstream(stream),
            (Life::Closing, _) => {}
            _ => self.downstream_gone(key),
        }
    }

    pub(crate) fn downstream_failed(&mut self, key: DownstreamKey, _errno: Errno) {
        self.downstream_gone(key);
    }

    /// The client is gone: so is its request.
    pub(crate) fn downstream_gone(&mut self, key: DownstreamKey) {
        self.end_answered(key);
        let Some(downstream) = self.downstreams.get(key) else { return };
        let http = downstream.listener.http.stats;
        if matches!(downstream.life, Life::Lingering { .. }) {
            // We have closed it before.
            self.close_downstream(key);
            return;
        }
        self.stats.inc(http, HttpStat::DownstreamCxDestroyRemote);
        let half_a_head =
            downstream.stream.is_none() && downstream.life == Life::Open && downstream.is_in_head();
        if half_a_head {
            self.give_up_head(key);
        }
        let Some(downstream) = self.downstreams.get(key) else { return };
        let streams: Vec<_> = downstream.streams().collect();
        if !streams.is_empty() {
            self.stats.inc(http, HttpStat::DownstreamCxDestroyActiveRq);
            self.stats.inc(http, HttpStat::DownstreamCxDestroyRemoteActiveRq);
        }
        for stream_key in streams {
            self.stats.inc(http, HttpStat::DownstreamRqRxReset);
            if let Some(stream) = self.streams.get_mut(stream_key) {
                stream.flags.insert(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
                stream.details = "downstream_remote_disconnect";
            }
        }
        self.close_downstream(key);
    }

    /// The client went away within a request's head: to Envoy that was a request.
    fn give_up_head(&mut self, key: DownstreamKey) {
        let record = Record {
            flags: ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION,
            details: "downstream_remote_disconnect",
            ..Record::default()
        };
        self.log_unanswered(key, record, HttpStat::DownstreamRqHttp1Total);
    }

    /// A request of HTTP/2 was refused for its head.
    pub(super) fn log_refused(&mut self, key: DownstreamKey, fault: h2::Fault) {
        let request = RequestHead { version: Version::Http2, ..RequestHead::default() };
        let record = Record {
            flags: ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR,
            details: fault.details(),
            request: Some(&request),
            ..Record::default()
        };
        self.log_unanswered(key, record, HttpStat::DownstreamRqHttp2Total);
    }

    /// Counts and logs a request of which there is no stream, and which gets no answer.
    fn log_unanswered(&mut self, key: DownstreamKey, record: Record<'_>, version: HttpStat) {
        let ends = self.ends(key);
        let Some(downstream) = self.downstreams.get(key) else { return };
        let listener = downstream.listener.clone();
        let http = &listener.http;
        for stat in [HttpStat::DownstreamRqTotal, version, HttpStat::DownstreamRqRxReset] {
            self.stats.inc(http.stats, stat);
        }
        let record = Record { start_unix_us: self.now.unix_us, ..record };
        let record = on_connection(record, &listener, ends);
        self.logs.record(&http.access_log, &record);
    }

    /// Everything is sent. Closes at once when the client has nothing more to say; else says FIN
    /// and waits a little: what a client sends to a closed socket, a further request for one, makes
    /// the kernel answer with a reset, and that can take the response away from the client before
    /// it has read it (RFC 9112 9.6).
    pub(crate) fn linger(&mut self, key: DownstreamKey) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let stream = downstream.stream.and_then(|key| self.streams.get(key));
        let may_talk = stream.is_some() || !downstream.held.is_empty() || !downstream.is_closed();
        let delay = downstream.config().delayed_close_timeout;
        self.stats.inc(downstream.listener.http.stats, HttpStat::DownstreamCxDestroyLocal);
        match delay {
            Some(delay) if may_talk && !downstream.eof => {
                let until = self.now.instant + delay;
                downstream.life = Life::Lingering { until, dropped: 0 };
                downstream.held.clear();
                self.io.shutdown_write(downstream.socket);
                if downstream.paused {
                    downstream.paused = false;
                    self.io.recv(downstream.socket);
                }
                self.arm_downstream(key);
            }
            _ => self.close_downstream(key),
        }
    }

    /// Closes the connection now. Streams under way end with it.
    pub(crate) fn close_downstream(&mut self, key: DownstreamKey) {
        self.end_answered(key);
        let Some(downstream) = self.downstreams.get(key) else { return };
        for stream in downstream.streams().collect::<Vec<_>>() {
            self.reset_upstream(stream);
            self.finish_stream(stream);
        }
        let Some(mut downstream) = self.downstreams.remove(key) else { return };
        downstream.alarm.cancel(&mut self.timers);
        if !Sabotage::ForgetSocket.strikes() {
            self.io.close(downstream.socket);
        }
        let listener = &downstream.listener;
        let http = listener.http.stats;
        let age_ms = (self.now.instant - downstream.accepted).as_millis() as u64;
        self.stats.dec(http, HttpStat::DownstreamCxActive);
        match &mut downstream.codec {
            Codec::Undecided => {}
            Codec::Http1(_) => self.stats.dec(http, HttpStat::DownstreamCxHttp1Active),
            Codec::Http2(http2) => {
                http2.end_count(&self.stats, listener.http.http2_stats);
                self.stats.dec(http, HttpStat::DownstreamCxHttp2Active);
            }
        }
        self.stats.inc(http, HttpStat::DownstreamCxDestroy);
        self.stats.record(http, HttpStat::DownstreamCxLengthMs, age_ms);
        self.stats.dec(listener.stats, ListenerStat::DownstreamCxActive);
        self.stats.inc(listener.stats, ListenerStat::DownstreamCxDestroy);
        self.stats.record(listener.stats, ListenerStat::DownstreamCxLengthMs, age_ms);
    }

    /// Ends a response that cannot be completed: the client must not take what it got for whole.
    pub(crate) fn abort_downstream(&mut self, key: DownstreamKey) {
        let Some(downstream) = self.downstreams.get(key) else { return };
        let socket = downstream.socket;
        self.count_broken_response(key);
        self.io.abort(socket);
        self.close_downstream(key);
    }

    /// The same for a response whose framing tells the client that it is not whole. What was sent
    /// before arrives, and then FIN: a reset could destroy it, and an earlier response with it.
    pub(crate) fn break_off(&mut self, stream_key: StreamKey) {
        let Some(stream) = self.streams.get(stream_key) else { return };
        let key = stream.downstream;
        self.count_broken_response(key);
        self.finish_stream(stream_key);
        if let Some(downstream) = self.downstreams.get_mut(key) {
            downstream.stream = None;
            downstream.idle_since = self.now.instant;
        }
        self.close_after_output(key);
        self.arm_downstream(key);
    }

    fn count_broken_response(&mut self, key: DownstreamKey) {
        let Some(downstream) = self.downstreams.get(key) else { return };
        let http = downstream.listener.http.stats;
        for stat in [
            HttpStat::DownstreamRqTxReset,
            HttpStat::DownstreamCxDestroyLocal,
            HttpStat::DownstreamCxDestroyLocalActiveRq,
            HttpStat::DownstreamCxDestroyActiveRq,
        ] {
            self.stats.inc(http, stat);
        }
    }
}
