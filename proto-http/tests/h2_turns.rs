//! Windows, turns, tags, shutdown in two phases, timeouts: what the caller relies on.
//!
//! What it leaves to others: single frames (`rfc9113`), the other side's view (`h2_crate`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod h2_common;

use h2_common::wire::*;
use h2_common::{Client, EchoServer, request};
use proptest::prelude::*;
use std::time::Duration;
use tidegate_http::h2::{Connection, Ending, ErrorCode, Event, Options, Refusal, Send, StreamKey};
use tidegate_http::{BodyLength, RequestHead, ResponseHead};

fn small_windows() -> Options {
    Options {
        initial_stream_window_size: 100,
        initial_connection_window_size: 65_535,
        ..Options::default()
    }
}

/// A server with `count` requests that are answered with heads only.
fn with_streams(options: Options, count: u32) -> (Connection, Vec<StreamKey>) {
    let mut connection = Connection::server(options, Duration::ZERO);
    let mut input = client_start();
    for stream in 0..count {
        input.extend(headers(2 * stream + 1, GET, true));
    }
    let (mut head, mut streams, mut out) = (RequestHead::default(), Vec::new(), Vec::new());
    let mut rest = &input[..];
    loop {
        let step = connection.decode_request(rest, &mut head, Duration::ZERO).unwrap();
        rest = &rest[step.consumed..];
        match step.event {
            Event::Head { stream, .. } => streams.push(stream),
            Event::NeedMore => break,
            _ => {}
        }
    }
    let response = ResponseHead { status: 200, ..ResponseHead::default() };
    for stream in &streams {
        assert!(connection.send_response(*stream, &response, BodyLength::Chunked, false, &mut out));
    }
    (connection, streams)
}

fn feed(connection: &mut Connection, input: &[u8]) -> Vec<Event> {
    let (mut head, mut events, mut rest) = (RequestHead::default(), Vec::new(), input);
    loop {
        let step = connection.decode_request(rest, &mut head, Duration::ZERO).unwrap();
        rest = &rest[step.consumed..];
        if step.event == Event::NeedMore {
            return events;
        }
        events.push(step.event);
    }
}

#[test]
fn streams_take_turns() {
    let (mut connection, streams) = with_streams(Options::default(), 3);
    for (stream, length) in streams.iter().zip([50_000, 20_000, 10]) {
        connection.queue_data(*stream, length, Ending::End);
    }
    let mut turns = Vec::new();
    let mut out = Vec::new();
    while let Some(Send::Data { stream, length, end_stream, .. }) =
        connection.next_send(9000, &mut out)
    {
        turns.push((stream.id(), length, end_stream));
    }
    let expected = [
        (1, 9000, false),
        (3, 9000, false),
        (5, 10, true),
        (1, 9000, false),
        (3, 9000, false),
        (1, 9000, false),
        (3, 2000, true),
        (1, 9000, false),
    ];
    assert_eq!(turns[..8], expected);
    // The connection's window is 65,535.
    assert_eq!(turns.iter().map(|turn| turn.1).sum::<usize>(), 65_535);
    assert!(!connection.has_output());
    feed(&mut connection, &word(WINDOW_UPDATE, 0, 10_000));
    assert!(connection.has_output());
    let last = Send::Data { stream: streams[0], tag: 0, length: 4475, end_stream: true };
    assert_eq!(connection.next_send(9000, &mut out), Some(last));
    assert_eq!(connection.streams_active(), 0);
}

#[test]
fn a_stream_without_window_does_not_hold_up_others() {
    let (mut connection, streams) = with_streams(Options::default(), 2);
    feed(&mut connection, &setting(4, 0));
    feed(&mut connection, &word(WINDOW_UPDATE, 3, 5));
    connection.queue_data(streams[0], 10, Ending::Open);
    connection.queue_data(streams[1], 10, Ending::Trailers);
    let mut out = Vec::new();
    let send = connection.next_send(9000, &mut out);
    assert_eq!(send, Some(Send::Data { stream: streams[1], tag: 0, length: 5, end_stream: false }));
    assert_eq!(connection.next_send(9000, &mut out), None);
    feed(&mut connection, &setting(4, 5));
    let send = connection.next_send(9000, &mut out);
    assert_eq!(send, Some(Send::Data { stream: streams[0], tag: 0, length: 5, end_stream: false }));
    let send = connection.next_send(9000, &mut out);
    assert_eq!(send, Some(Send::Data { stream: streams[1], tag: 0, length: 5, end_stream: false }));
    assert_eq!(
        connection.next_send(9000, &mut out),
        Some(Send::Trailers { stream: streams[1], tag: 0 })
    );
    assert_eq!((connection.queued(streams[0]), connection.queued(streams[1])), (5, 0));
}

#[test]
fn windows_open_when_data_is_consumed() {
    let mut connection = Connection::server(small_windows(), Duration::ZERO);
    let mut out = Vec::new();
    connection.write_control(&mut out);
    let input = [client_start(), headers(1, POST, false), data(1, &[0; 100], false)].concat();
    let events = feed(&mut connection, &input);
    let Some(Event::Data { stream, .. }) = events.last() else { panic!("{events:?}") };
    let written = |connection: &mut Connection| {
        let mut out = Vec::new();
        connection.write_control(&mut out);
        describe(&out)
    };
    assert_eq!(written(&mut connection), [""; 0]);
    connection.consumed(*stream, 49);
    assert_eq!(written(&mut connection), [""; 0]);
    connection.consumed(*stream, 1);
    assert_eq!(written(&mut connection), ["WINDOW_UPDATE 1 50"]);
    // Padding is nobody's to consume.
    feed(&mut connection, &frame(DATA, PADDED | END_STREAM, 1, &[&[48, 1][..], &[0; 48]].concat()));
    connection.consumed(*stream, 1000);
    assert_eq!(written(&mut connection), [""; 0], "the peer has ended its side");
}

#[test]
fn what_a_reset_stream_holds_is_given_back_to_the_connection() {
    let options = Options {
        initial_stream_window_size: 65_535,
        initial_connection_window_size: 65_535,
        ..Options::default()
    };
    let mut connection = Connection::server(options, Duration::ZERO);
    feed(&mut connection, &[client_start(), headers(1, POST, false)].concat());
    let body = [&data(1, &[0; 16_384], false)[..], &data(1, &[0; 16_384], false)].concat();
    let events = feed(&mut connection, &body);
    let Some(Event::Data { stream, .. }) = events.last() else { panic!("{events:?}") };
    let mut out = Vec::new();
    connection.write_control(&mut out);
    out.clear();
    connection.reset(*stream, ErrorCode::CANCEL);
    connection.write_control(&mut out);
    assert_eq!(describe(&out), ["RST_STREAM 1 8", "WINDOW_UPDATE 0 32768"]);
    // What is still under way is ignored, and given back.
    assert_eq!(feed(&mut connection, &body), []);
    out.clear();
    connection.write_control(&mut out);
    assert_eq!(describe(&out), ["WINDOW_UPDATE 0 32768"]);
}

#[test]
fn shutdown_in_two_phases() {
    let (mut connection, streams) = with_streams(Options::default(), 1);
    let mut out = Vec::new();
    connection.announce_end();
    assert_eq!(feed(&mut connection, &headers(3, GET, true)).len(), 1, "it was under way");
    connection.go_away(ErrorCode::NO_ERROR);
    // What comes on a stream above the last one is ignored, its body too.
    let late = [headers(5, POST, false), data(5, b"x", false), data(5, b"x", true)].concat();
    assert_eq!(feed(&mut connection, &late), []);
    connection.release_memory();
    connection.write_control(&mut out);
    let lines = describe(&out);
    assert_eq!(lines, ["GOAWAY 2147483647 0", "GOAWAY 3 0"]);
    assert!(!connection.is_finished());
    connection.queue_data(streams[0], 0, Ending::End);
    assert!(connection.next_send(1, &mut out).is_some());
    assert!(!connection.is_finished());
    feed(&mut connection, &word(RST_STREAM, 3, 8));
    assert!(connection.is_finished());
}

#[test]
fn goaway_tells_which_requests_can_be_sent_again() {
    let mut client = Client::new(Options::default());
    let mut out = Vec::new();
    for _ in 0..3 {
        client.send(&request("GET", "/", &Vec::new()), b"", &Vec::new(), &mut out);
    }
    client.turn(&[server_start(), goaway(1, 0)].concat());
    let reset = |id| {
        let (_, answer) = client.answers.iter().find(|(key, _)| key.id() == id).unwrap();
        answer.reset.clone()
    };
    assert_eq!(
        (reset(1), reset(3), reset(5)),
        (None, Some("7 true".into()), Some("7 true".into()))
    );
    let head = request("GET", "/", &Vec::new());
    let refusal = client.connection.open(&head, BodyLength::None, true, 7, &mut out);
    assert_eq!(refusal, Err(Refusal::GoingAway));
    client.turn(&headers(1, &[(":status", "200")], true));
    assert!(client.is_done() && client.connection.is_finished());
}

#[test]
fn the_peers_limit_on_streams() {
    let mut client = Client::new(Options::default());
    client.turn(&[setting(3, 1), frame(SETTINGS, ACK, 0, &[])].concat());
    let (head, mut out) = (request("GET", "/", &Vec::new()), Vec::new());
    assert_eq!(client.connection.streams_available(), 1);
    client.send(&head, b"", &Vec::new(), &mut out);
    let refusal = client.connection.open(&head, BodyLength::None, true, 7, &mut out);
    assert_eq!(refusal, Err(Refusal::TooManyStreams));
    client.turn(&headers(1, &[(":status", "200")], true));
    assert_eq!(client.connection.streams_available(), 1);
}

#[test]
fn settings_must_be_acknowledged() {
    let mut connection = Connection::client(Options::default(), Duration::from_secs(5));
    assert_eq!(connection.deadline(), Some(Duration::from_secs(15)));
    assert!(connection.handle_timeout(Duration::from_secs(14)).is_ok());
    let error = connection.handle_timeout(Duration::from_secs(15)).unwrap_err();
    assert_eq!((error.code(), connection.deadline()), (ErrorCode::SETTINGS_TIMEOUT, None));
    let mut connection = Connection::server(Options::default(), Duration::ZERO);
    feed(&mut connection, &client_start());
    assert_eq!(connection.deadline(), None);
}

#[test]
fn an_idle_connection_needs_little() {
    let size = std::mem::size_of::<Connection>();
    assert!(size <= 1280, "a connection has {size} bytes");
}

#[test]
fn pings_and_tags() {
    let (mut connection, streams) = with_streams(Options::default(), 1);
    connection.set_tag(streams[0], 99);
    assert_eq!(connection.tag(streams[0]), Some(99));
    connection.ping(*b"tidegate");
    let events = feed(&mut connection, &frame(PING, ACK, 0, b"tidegate"));
    assert_eq!(events, [Event::Pong { opaque: *b"tidegate" }]);
    let events = feed(&mut connection, &word(RST_STREAM, 1, 8));
    assert!(matches!(events[..], [Event::Reset { tag: 99, code: ErrorCode::CANCEL, .. }]));
    assert_eq!(connection.tag(streams[0]), None);
}

/// What a server says to an input that is cut like this; data joined.
fn transcript(pieces: &[&[u8]]) -> Vec<String> {
    let mut connection = Connection::server(Options::default(), Duration::ZERO);
    let (mut head, mut lines) = (RequestHead::default(), Vec::<String>::new());
    let mut data: Option<(StreamKey, Vec<u8>)> = None;
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let step = match connection.decode_request(rest, &mut head, Duration::ZERO) {
                Ok(step) => step,
                Err(error) => {
                    // How much was passed on before a fault depends on the pieces.
                    lines.push(error.to_string());
                    return lines;
                }
            };
            match &step.event {
                Event::NeedMore => break,
                Event::Data { stream, range, end_stream, .. } => {
                    let bytes = &rest[range.clone()];
                    connection.consumed(*stream, bytes.len());
                    let (_, all) = data.get_or_insert_with(|| (*stream, Vec::new()));
                    all.extend_from_slice(bytes);
                    if *end_stream {
                        lines.push(format!("{:?} end", data.take()));
                    }
                }
                Event::Head { .. } => lines.push(format!(
                    "{:?} {} {} {:?}",
                    step.event,
                    head.method_name().escape_ascii(),
                    head.path().escape_ascii(),
                    h2_common::fields_of(&head.headers)
                )),
                Event::Reset { .. } => {
                    data = None;
                    lines.push(format!("{:?}", step.event));
                }
                event => lines.push(format!("{:?} {event:?}", data.take())),
            }
            rest = &rest[step.consumed..];
        }
    }
    lines.push(format!("{data:?}"));
    let mut out = Vec::new();
    connection.write_control(&mut out);
    lines.push(format!("{:?}", describe(&out)));
    lines
}

fn wire() -> Vec<u8> {
    let long = "x".repeat(300);
    let fields = [POST, &[("a", &long), ("cookie", "b"), ("cookie", "c")]].concat();
    let whole = block(&fields);
    [
        client_start(),
        headers(1, GET, true),
        frame(PING, 0, 0, b"12345678"),
        frame(HEADERS, 0, 3, &whole[..20]),
        frame(CONTINUATION, 0, 3, &whole[20..21]),
        frame(CONTINUATION, END_HEADERS, 3, &whole[21..]),
        frame(DATA, PADDED, 3, b"\x03abc\0\0\0"),
        frame(0x99, 0, 77, b"unknown"),
        data(3, &[b'y'; 60], false),
        frame(DATA, PADDED, 3, b"\x00z"),
        word(WINDOW_UPDATE, 3, 5),
        setting(4, 7),
        headers(3, &[("x", "y")], true),
        headers(5, POST, false),
        data(5, b"", true),
        headers(7, POST, false),
        word(RST_STREAM, 7, 8),
        goaway(0, 0),
        data(99, b"fault", false),
    ]
    .concat()
}

#[test]
fn every_two_pieces_and_byte_by_byte() {
    let wire = wire();
    let whole = transcript(&[&wire]);
    assert!(whole.last().unwrap().contains("IdleStream"), "{whole:#?}");
    for at in 0..wire.len() {
        assert_eq!(transcript(&[&wire[..at], &wire[at..]]), whole, "cut at {at}");
        // Also without the fault at the end, and ended anywhere: no panic.
        transcript(&[&wire[..at]]);
    }
    assert_eq!(transcript(&wire.chunks(1).collect::<Vec<_>>()), whole);
}

proptest! {
    /// Faults too are the same however they are cut.
    #[test]
    fn mutated_input_in_random_pieces(
        mutations in prop::collection::vec((58usize..700, any::<u8>()), 0..4),
        sizes in prop::collection::vec(1usize..50, 1..40),
    ) {
        let mut wire = wire();
        for (at, byte) in mutations {
            if let Some(place) = wire.get_mut(at) {
                *place = byte;
            }
        }
        let (mut pieces, mut rest, mut sizes) = (Vec::new(), &wire[..], sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            pieces.push(piece);
            rest = after;
        }
        prop_assert_eq!(transcript(&pieces), transcript(&[&wire]));
    }
}

#[test]
fn an_echo_of_everything() {
    let mut server = EchoServer::new(Options::default());
    let out = server.turn(&wire());
    let lines = describe(&out);
    assert_eq!(lines.last().map(String::as_str), Some("GOAWAY 7 1"), "{lines:?}");
}
