//! HTTP/2 by prior knowledge: a connection carries several places, each a stream at a time.
//!
//! Connections (`Link`) and places (`Slot`) are apart here. A place that has taken a request up and
//! found no room on its connection - it is not open yet, or the peer allows fewer streams - waits,
//! and is looked at again when that may have changed.
//!
//! What it leaves to others: when requests are due, and what is recorded.

use std::time::Duration;

use tidegate_http::BodyLength;
use tidegate_http::h2::{self, Cause, Connection, Ending, ErrorCode, Refusal, StreamKey};
use tidegate_io::{Buffer, Io, Outcome, Output, Socket, Token};

use super::Worker;
use crate::engine::interval::Fault;
use crate::engine::slot::State;

/// Marks the tokens of links.
const LINK: u64 = 1 << 31;
/// Bytes that are put into one send, more or less.
const SEND_BYTES: usize = 256 * 1024;
const FRAME_BYTES: usize = 16 * 1024;

/// One connection.
pub(super) struct Link {
    state: State,
    socket: Option<Socket>,
    generation: u32,
    codec: Connection,
    output: Option<Output>,
    sending: bool,
    dirty: bool,
    /// Places that have a request and no stream.
    waiting: usize,
}

impl Link {
    pub(super) fn new() -> Link {
        Link {
            state: State::Empty,
            socket: None,
            generation: 0,
            codec: codec(0),
            output: None,
            sending: false,
            dirty: false,
            waiting: 0,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Idle
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.state == State::Connecting
    }

    fn token(&self, number: usize) -> Token {
        Token(u64::from(self.generation) << 32 | LINK | number as u64)
    }
}

fn codec(now: u64) -> Connection {
    let options = h2::Options {
        max_concurrent_streams: u32::MAX >> 1,
        stream_error_on_invalid_http_message: true,
        ..h2::Options::default()
    };
    Connection::client(options, Duration::from_nanos(now))
}

impl<I: Io> Worker<I> {
    /// The link that a token names, unless it is stale.
    pub(super) fn link_of(&self, token: Token) -> Option<usize> {
        let (index, generation) = (token.0 as u32 as u64, (token.0 >> 32) as u32);
        let number = (index & LINK != 0).then_some((index & !LINK) as usize)?;
        self.links.get(number).is_some_and(|link| link.generation == generation).then_some(number)
    }

    pub(super) fn open_link(&mut self, number: usize, now: u64) {
        let link = &mut self.links[number];
        link.state = State::Connecting;
        link.codec = codec(now);
        let token = link.token(number);
        match self.connect_from_next(token) {
            Ok(socket) => self.links[number].socket = Some(socket),
            Err(_) => self.lose_link(number, Fault::Connect, now),
        }
    }

    /// A place has taken a request up.
    pub(super) fn start_stream(&mut self, index: usize, now: u64) {
        let number = index / self.streams;
        let link = &mut self.links[number];
        link.waiting += 1;
        match link.state {
            State::Empty => self.open_link(number, now),
            State::Connecting => {}
            State::Idle | State::Busy => {
                self.open_stream(index);
            }
        }
    }

    /// Whether the connection took the request that waits at this place.
    fn open_stream(&mut self, index: usize) -> bool {
        let number = index / self.streams;
        let (slot, link) = (&mut self.slots[index], &mut self.links[number]);
        let target = &self.plan.targets[slot.request.target as usize];
        let (length, is_bodiless) = match target.body_bytes {
            0 => (BodyLength::None, true),
            bytes => (BodyLength::Exact(bytes as u64), false),
        };
        let output = link.output.get_or_insert_with(|| self.io.output());
        let tag = index as u64;
        match link.codec.open(&target.head, length, is_bodiless, tag, output.tail()) {
            Ok(key) => {
                if !is_bodiless {
                    link.codec.queue_data(key, target.body_bytes, Ending::End);
                }
                slot.stream = Some(key);
                slot.state = State::Busy;
                link.waiting -= 1;
                self.touch(number);
                true
            }
            // It waits for another stream's end, or for another connection.
            Err(Refusal::TooManyStreams | Refusal::GoingAway | Refusal::NoExtendedConnect) => false,
        }
    }

    fn touch(&mut self, number: usize) {
        let link = &mut self.links[number];
        if !link.dirty {
            link.dirty = true;
            self.dirty.push(number as u32);
        }
    }

    pub(super) fn apply_link(&mut self, number: usize, outcome: Outcome, now: u64) {
        match outcome {
            Outcome::Connected(Ok(())) => {
                self.interval.counts.connects += 1;
                let link = &mut self.links[number];
                link.state = State::Idle;
                if let Some(socket) = link.socket {
                    self.io.recv(socket);
                }
                for index in self.places(number) {
                    self.slots[index].failed_connects = 0;
                }
                self.take_waiting(number);
                self.touch(number);
            }
            Outcome::Connected(Err(_)) => self.lose_link(number, Fault::Connect, now),
            Outcome::Received(buffer) => self.receive_frames(number, &buffer, now),
            Outcome::Sent(Ok(())) => {
                self.links[number].sending = false;
                self.links[number].codec.handle_sent();
                self.touch(number);
            }
            Outcome::Eof | Outcome::RecvFailed(_) | Outcome::Sent(Err(_)) => {
                self.lose_link(number, Fault::Broken, now);
            }
            _ => {}
        }
    }

    fn places(&self, number: usize) -> std::ops::Range<usize> {
        number * self.streams..(number + 1) * self.streams
    }

    /// Opens streams for places that wait.
    fn take_waiting(&mut self, number: usize) {
        for index in self.places(number) {
            if self.links[number].waiting == 0 {
                return;
            }
            let slot = &self.slots[index];
            if slot.carries && slot.stream.is_none() && !self.open_stream(index) {
                return;
            }
        }
    }

    fn receive_frames(&mut self, number: usize, buffer: &Buffer, now: u64) {
        self.interval.counts.wire_in += buffer.len() as u64;
        let time = Duration::from_nanos(now);
        let mut at = 0;
        loop {
            let codec = &mut self.links[number].codec;
            let Ok(step) = codec.decode_response(&buffer[at..], &mut self.head, time) else {
                return self.lose_link(number, Fault::Protocol, now);
            };
            at += step.consumed;
            if step.event == h2::Event::NeedMore {
                break;
            }
            self.handle(number, &step.event, now);
        }
        if self.links[number].waiting > 0 {
            self.take_waiting(number);
        }
        if self.links[number].codec.is_finished() {
            return self.renew_link(number, now);
        }
        self.touch(number);
    }

    fn handle(&mut self, number: usize, event: &h2::Event, now: u64) {
        match event {
            h2::Event::Head { stream, tag, end_stream } => {
                let Some(index) = self.place(*tag, *stream) else { return };
                self.slots[index].status = self.head.status;
                if *end_stream {
                    // Of gRPC: an answer that is trailers only.
                    let status = self.head.headers.get_name(b"grpc-status");
                    let is_good = !self.plan.grpc || status == Some(b"0");
                    self.end_stream(index, is_good, now);
                }
            }
            h2::Event::Data { stream, tag, range, end_stream } => {
                self.links[number].codec.consumed(*stream, range.len());
                let Some(index) = self.place(*tag, *stream) else { return };
                self.slots[index].body_in += range.len() as u64;
                if *end_stream {
                    self.end_stream(index, !self.plan.grpc, now);
                }
            }
            h2::Event::Trailers { stream, tag } => {
                let Some(index) = self.place(*tag, *stream) else { return };
                let status = self.links[number].codec.trailers().get_name(b"grpc-status");
                let is_good = !self.plan.grpc || status == Some(b"0");
                self.end_stream(index, is_good, now);
            }
            h2::Event::Reset { stream, tag, code, cause } => {
                let Some(index) = self.place(*tag, *stream) else { return };
                if *cause == Cause::Unprocessed || *code == ErrorCode::REFUSED_STREAM {
                    // Nothing was done with it: it is sent again, and its time goes on.
                    self.slots[index].stream = None;
                    self.slots[index].body_out = 0;
                    self.links[number].waiting += 1;
                } else {
                    self.lose_stream(index, Fault::Broken, now);
                }
            }
            _ => {}
        }
    }

    /// The place of a stream, unless it has gone on to another one.
    fn place(&self, tag: u64, stream: StreamKey) -> Option<usize> {
        let index = usize::try_from(tag).ok()?;
        (self.slots.get(index)?.stream == Some(stream)).then_some(index)
    }

    fn end_stream(&mut self, index: usize, is_good: bool, now: u64) {
        let slot = &mut self.slots[index];
        let (request, answer) = (slot.request, (slot.status, slot.body_in));
        slot.state = State::Idle;
        if let Some(stream) = slot.stream.take() {
            let codec = &mut self.links[index / self.streams].codec;
            if codec.queued(stream) > 0 {
                codec.reset(stream, ErrorCode::NO_ERROR);
            }
        }
        self.release(index, now);
        self.record(request, now, if is_good { Ok(answer) } else { Err(Fault::Grpc) });
    }

    /// A request comes to nothing; its connection stays.
    pub(super) fn lose_stream(&mut self, index: usize, fault: Fault, now: u64) {
        let number = index / self.streams;
        let slot = &mut self.slots[index];
        let request = slot.request;
        slot.state = State::Idle;
        match slot.stream.take() {
            Some(stream) => {
                self.links[number].codec.reset(stream, ErrorCode::CANCEL);
                self.touch(number);
            }
            None => self.links[number].waiting -= 1,
        }
        self.release(index, now);
        self.record(request, now, Err(fault));
    }

    /// The connection is of no use any more, and what it carries comes to nothing.
    fn lose_link(&mut self, number: usize, fault: Fault, now: u64) {
        self.drop_link(number);
        for index in self.places(number) {
            let slot = &mut self.slots[index];
            slot.failed_connects += u32::from(fault == Fault::Connect);
            if slot.carries {
                self.lose_stream(index, fault, now);
            }
        }
    }

    /// The peer has said GOAWAY, and all that it had taken has ended: what waits goes on.
    fn renew_link(&mut self, number: usize, now: u64) {
        self.drop_link(number);
        if self.links[number].waiting > 0 {
            self.open_link(number, now);
        }
    }

    fn drop_link(&mut self, number: usize) {
        let link = &mut self.links[number];
        link.generation = link.generation.wrapping_add(1);
        link.state = State::Empty;
        link.sending = false;
        link.output = None;
        if let Some(socket) = link.socket.take() {
            self.io.close(socket);
        }
    }

    /// Sends what gathered.
    pub(super) fn flush_links(&mut self) {
        while let Some(number) = self.dirty.pop() {
            let number = number as usize;
            let link = &mut self.links[number];
            link.dirty = false;
            let (State::Idle, false, Some(socket)) = (link.state, link.sending, link.socket) else {
                continue;
            };
            let mut output = link.output.take().unwrap_or_else(|| self.io.output());
            while output.len() < SEND_BYTES {
                let Some(send) = link.codec.next_send(FRAME_BYTES, output.tail()) else { break };
                let h2::Send::Data { tag, length, .. } = send else { continue };
                let slot = &mut self.slots[tag as usize];
                let target = &self.plan.targets[slot.request.target as usize];
                let body = &target.wire[target.wire.len() - target.body_bytes..];
                output.tail().extend_from_slice(&body[slot.body_out..slot.body_out + length]);
                slot.body_out += length;
            }
            link.codec.write_control(output.tail());
            if !output.is_empty() {
                link.codec.handle_sending();
                link.sending = true;
                self.io.send(socket, output);
            }
        }
    }
}
