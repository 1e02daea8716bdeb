//! A client and a server of ours, and a list of operations on both: no panic, no error, and when
//! all is said every stream has ended, with all of its bytes, and every window is whole.
//!
//! Each byte is an operation; the next one its argument.
//!
//! What it leaves to others: peers that break rules (`h2_frames`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::HashMap;
use std::time::Duration;
use tidegate_http::h2::{Connection, Ending, ErrorCode, Event, Options, Send, StreamKey};
use tidegate_http::{BodyLength, RequestHead, ResponseHead};

/// One side, what it wrote, and what it counts of each stream.
struct Side {
    connection: Connection,
    wire: Vec<u8>,
    streams: Vec<StreamKey>,
    sent: HashMap<u32, usize>,
    received: HashMap<u32, usize>,
    unconsumed: Vec<(StreamKey, usize)>,
    ended: Vec<u32>,
    reset: Vec<u32>,
}

impl Side {
    fn new(connection: Connection) -> Side {
        Side {
            connection,
            wire: Vec::new(),
            streams: Vec::new(),
            sent: HashMap::new(),
            received: HashMap::new(),
            unconsumed: Vec::new(),
            ended: Vec::new(),
            reset: Vec::new(),
        }
    }

    fn flush(&mut self, frame_bytes: usize) {
        while let Some(send) = self.connection.next_send(frame_bytes, &mut self.wire) {
            match send {
                Send::Data { stream, length, .. } => {
                    self.wire.resize(self.wire.len() + length, stream.id() as u8);
                    *self.sent.entry(stream.id()).or_default() += length;
                }
                Send::Trailers { stream, .. } => {
                    let trailers = tidegate_http::Headers::default();
                    assert!(self.connection.send_trailers(stream, &trailers, &mut self.wire));
                }
            }
        }
        self.connection.write_control(&mut self.wire);
        self.connection.handle_sending();
        self.connection.handle_sent();
    }

    fn consume(&mut self) {
        for (stream, bytes) in self.unconsumed.drain(..) {
            self.connection.consumed(stream, bytes);
        }
    }

    /// Takes what the other side wrote, in pieces.
    fn receive(&mut self, wire: &[u8], piece_bytes: usize, is_server: bool) {
        let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
        for piece in wire.chunks(piece_bytes.max(1)) {
            let mut rest = piece;
            loop {
                let step = if is_server {
                    self.connection.decode_request(rest, &mut request, Duration::ZERO)
                } else {
                    self.connection.decode_response(rest, &mut response, Duration::ZERO)
                };
                let step = step.expect("no side breaks a rule");
                if step.event == Event::NeedMore {
                    break;
                }
                self.note(step.event, is_server);
                rest = &rest[step.consumed..];
            }
        }
    }

    fn note(&mut self, event: Event, is_server: bool) {
        match event {
            Event::Head { stream, end_stream, .. } => {
                if is_server {
                    self.streams.push(stream);
                    let head = ResponseHead { status: 200, ..ResponseHead::default() };
                    let out = &mut self.wire;
                    let body = BodyLength::Chunked;
                    assert!(self.connection.send_response(stream, &head, body, false, out));
                }
                if end_stream {
                    self.ended.push(stream.id());
                }
            }
            Event::Data { stream, range, end_stream, .. } => {
                *self.received.entry(stream.id()).or_default() += range.len();
                self.unconsumed.push((stream, range.len()));
                if end_stream {
                    self.ended.push(stream.id());
                }
            }
            Event::Trailers { stream, .. } => self.ended.push(stream.id()),
            Event::Reset { stream, .. } => self.reset.push(stream.id()),
            _ => {}
        }
    }

    fn queue(&mut self, which: u8, bytes: usize, then: Ending, open: &mut Vec<StreamKey>) {
        if open.is_empty() {
            return;
        }
        let stream = open[usize::from(which) % open.len()];
        self.connection.queue_data(stream, bytes, then);
        if then != Ending::Open {
            open.retain(|other| *other != stream);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let options = Options {
        initial_stream_window_size: 1000,
        initial_connection_window_size: 70_000,
        max_inbound_window_update_frames_per_data_frame_sent: 1000,
        max_outbound_control_frames: 10_000,
        ..Options::default()
    };
    let mut client = Side::new(Connection::client(options, Duration::ZERO));
    let mut server = Side::new(Connection::server(options, Duration::ZERO));
    let (mut client_open, mut server_open) = (Vec::new(), Vec::new());
    let mut known = 0;
    let mut step = |client: &mut Side, server: &mut Side, open: &mut Vec<StreamKey>, size| {
        client.flush(size);
        let wire = std::mem::take(&mut client.wire);
        server.receive(&wire, size, true);
        open.extend(&server.streams[known..]);
        known = server.streams.len();
        server.flush(size);
        let answer = std::mem::take(&mut server.wire);
        client.receive(&answer, size, false);
        !wire.is_empty() || !answer.is_empty()
    };
    let mut head = RequestHead::default();
    head.method_name = head.headers.store(b"POST");
    head.set_path(b"/");
    head.set_authority(b"a");
    for pair in input.chunks_exact(2).take(200) {
        let (which, bytes) = (pair[1], usize::from(pair[1]) * 10);
        match pair[0] % 9 {
            0 => {
                let out = &mut client.wire;
                let opened = client.connection.open(&head, BodyLength::Chunked, false, 0, out);
                if let Ok(stream) = opened {
                    client.streams.push(stream);
                    client_open.push(stream);
                }
            }
            1 => client.queue(which, bytes, Ending::Open, &mut client_open),
            2 => client.queue(which, bytes, Ending::End, &mut client_open),
            3 => server.queue(which, bytes, Ending::Open, &mut server_open),
            4 => server.queue(which, bytes, Ending::Trailers, &mut server_open),
            5 => client.consume(),
            6 => server.consume(),
            7 if !client.streams.is_empty() => {
                let at = usize::from(which) % client.streams.len();
                let stream = client.streams.swap_remove(at);
                client_open.retain(|other| *other != stream);
                client.reset.push(stream.id());
                client.connection.reset(stream, ErrorCode::CANCEL);
            }
            _ => {
                step(&mut client, &mut server, &mut server_open, 1 + bytes * 8);
            }
        }
    }
    // All is said, consumed and carried over.
    for stream in client_open {
        client.connection.queue_data(stream, 0, Ending::End);
    }
    let mut is_busy = true;
    while is_busy || !server_open.is_empty() {
        for stream in server_open.drain(..) {
            server.connection.queue_data(stream, 0, Ending::End);
        }
        client.consume();
        server.consume();
        is_busy = step(&mut client, &mut server, &mut server_open, 20_000);
    }
    assert_eq!((client.connection.streams_active(), server.connection.streams_active()), (0, 0));
    for id in client.ended.iter().filter(|id| !client.reset.contains(id)) {
        assert_eq!(client.received.get(id), server.sent.get(id));
        assert_eq!(server.received.get(id), client.sent.get(id));
    }
});
