//! Reading a downstream connection of HTTP/1: one request after the other, and what came before its
//! time.
//!
//! What it leaves to others: what becomes of a request (`downstream`).

use super::downstream::{Codec, Life};
use super::refused_head::refused_head;
use crate::sabotage::Sabotage;
use crate::shard::{DownstreamKey, Shard, StreamKey, limits};
use tidegate_http::h1::Event;
use tidegate_http::{Headers, HttpError, RequestHead};
use tidegate_io::{Buffer, Io};

impl<I: Io> Shard<I> {
    pub(super) fn http1_received(&mut self, key: DownstreamKey, buffer: Buffer) {
        let Some(downstream) = self.downstreams.get(key) else { return };
        if !downstream.held.is_empty() {
            self.hold(key, &buffer);
        } else if let Some(rest) = self.read_downstream(key, buffer) {
            self.hold(key, &rest);
        }
    }

    /// Keeps input for later, and reads no more when that is enough.
    ///
    /// What is kept is a copy: a client that sends requests faster than they are answered must not
    /// hold receive buffers, for the answers that would set them free need buffers too.
    fn hold(&mut self, key: DownstreamKey, input: &[u8]) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.held.push_back(Buffer::copy_from(input));
        let held: usize = downstream.held.iter().map(|buffer| buffer.len()).sum();
        let enough =
            held > limits::HELD_BYTES_MAX || downstream.held.len() > limits::HELD_BUFFERS_MAX;
        if enough && !downstream.paused {
            downstream.paused = true;
            self.io.pause(downstream.socket);
        }
    }

    /// Reads on in what was held, when its time has come.
    pub(super) fn read_held(&mut self, key: DownstreamKey) {
        while let Some(downstream) = self.downstreams.get_mut(key) {
            if downstream.life != Life::Open || !self.wants_input(key) {
                return;
            }
            let Some(downstream) = self.downstreams.get_mut(key) else { return };
            let Some(buffer) = downstream.held.pop_front() else { break };
            if let Some(rest) = self.read_downstream(key, buffer)
                && let Some(downstream) = self.downstreams.get_mut(key)
            {
                // Before what is held: it came before it.
                if Sabotage::ReverseHeld.strikes() {
                    downstream.held.push_back(rest);
                } else {
                    downstream.held.push_front(rest);
                }
            }
        }
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        if downstream.life != Life::Open {
            return;
        }
        if downstream.eof {
            // Everything that came before the FIN is read now.
            let tunnel = downstream
                .stream
                .filter(|key| self.streams.get(*key).is_some_and(|stream| stream.tunnel));
            match tunnel {
                Some(stream) => self.tunnel_finished_downstream(stream),
                // The rest of a request under way will not come.
                None => self.downstream_gone(key),
            }
        } else if downstream.stream.is_none() && downstream.paused {
            downstream.paused = false;
            self.io.recv(downstream.socket);
        }
    }

    /// Whether the next bytes can be dealt with now: not while a complete request waits for its
    /// response.
    fn wants_input(&self, key: DownstreamKey) -> bool {
        let Some(downstream) = self.downstreams.get(key) else { return false };
        let Some(stream) = downstream.stream.and_then(|key| self.streams.get(key)) else {
            return true;
        };
        stream.tunnel || !stream.request_complete
    }

    /// Decodes a buffer to its end, or as far as the requests in it can be begun; returns the rest.
    fn read_downstream(&mut self, key: DownstreamKey, buffer: Buffer) -> Option<Buffer> {
        let mut at = 0;
        let mut head = None;
        loop {
            if !self.wants_input(key) {
                break;
            }
            let Some(downstream) = self.downstreams.get_mut(key) else { break };
            if downstream.life != Life::Open {
                at = buffer.len();
                break;
            }
            let stream = downstream.stream;
            if let Some(stream) = stream
                && self.streams.get(stream).is_some_and(|stream| stream.tunnel)
            {
                self.tunnel_upstream(stream, buffer.slice(at..buffer.len()));
                at = buffer.len();
                break;
            }
            let Codec::Http1(decoder) = &mut downstream.codec else { break };
            let was_in_head = decoder.is_in_head();
            let memory = head.get_or_insert_with(|| self.request_heads.pop().unwrap_or_default());
            let step = match decoder.decode(&buffer[at..], memory) {
                Ok(step) => step,
                Err(error) => {
                    let memory = head.take().unwrap_or_default();
                    self.refuse_input(key, error, &buffer[at..], memory);
                    at = buffer.len();
                    break;
                }
            };
            downstream.request_bytes += step.consumed as u64;
            match step.event {
                Event::NeedMore => {
                    at += step.consumed;
                    if !was_in_head && decoder.is_in_head() {
                        self.head_begins(key);
                    }
                    break;
                }
                Event::Head => self.begin_request(key, head.take().unwrap_or_default()),
                Event::Data(range) => {
                    let data = buffer.slice(at + range.start..at + range.end);
                    if let Some(stream) = stream {
                        self.request_data(stream, data);
                    }
                }
                Event::Trailers => {
                    let trailers = decoder.trailers().cloned().map(Box::new);
                    self.keep_trailers(stream, trailers);
                }
                Event::InterimHead | Event::Tunnel => {}
                Event::End => {
                    if let Some(stream) = stream {
                        self.request_end(stream);
                    }
                }
            }
            at += step.consumed;
        }
        if let Some(memory) = head {
            self.reclaim_request(memory);
        }
        (at < buffer.len()).then(|| buffer.slice(at..buffer.len()))
    }

    fn begin_request(&mut self, key: DownstreamKey, mut request: RequestHead) {
        if self.admit_names(key, None, &mut request.headers) {
            self.open_stream(key, request, None);
        } else {
            self.reclaim_request(request);
        }
    }

    /// From now on the rest of the head is waited for.
    fn head_begins(&mut self, key: DownstreamKey) {
        if let Some(downstream) = self.downstreams.get_mut(key) {
            downstream.idle_since = self.now.instant;
        }
        self.arm_downstream(key);
    }

    fn keep_trailers(&mut self, stream: Option<StreamKey>, trailers: Option<Box<Headers>>) {
        if let Some(stream) = stream.and_then(|key| self.streams.get_mut(key)) {
            stream.request_trailers = trailers;
        }
    }

    /// The input is not HTTP. `memory` is used to find out what it asks for.
    fn refuse_input(
        &mut self,
        key: DownstreamKey,
        error: HttpError,
        input: &[u8],
        mut memory: RequestHead,
    ) {
        if let Some(downstream) = self.downstreams.get_mut(key) {
            downstream.request_bytes += input.len() as u64;
        }
        let refused = refused_head(error.fault, input, &mut memory);
        self.request_malformed(key, error, refused.then_some(&memory));
        self.reclaim_request(memory);
    }
}
