//! RFC 9113 rule by rule, for a server and a client: which frames answer which.
//!
//! What it leaves to others: exchanges that go well (`h2_crate`), floods (`h2_abuse`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod h2_common;

use h2_common::wire::*;
use h2_common::{Answer, Client, EchoServer, request};
use tidegate_http::h2::Options;

fn quiet() -> Options {
    Options {
        stream_error_on_invalid_http_message: true,
        initial_connection_window_size: 65_535,
        initial_stream_window_size: 65_535,
        ..Options::default()
    }
}

/// What a server answers to these frames behind a good start.
fn answer_with(options: Options, frames: &[Vec<u8>]) -> Vec<String> {
    let mut server = EchoServer::new(options);
    let mut out = server.turn(&client_start());
    out.extend(server.turn(&frames.concat()));
    describe(&out)
}

fn answer(frames: &[Vec<u8>]) -> Vec<String> {
    answer_with(quiet(), frames)
}

#[test]
fn the_preface_and_the_first_frame() {
    for (input, last) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "GOAWAY 0 1"),
        (
            [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(PING, 0, 0, &[0; 8])].concat(),
            "GOAWAY 0 1",
        ),
        (
            [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, ACK, 0, &[])].concat(),
            "GOAWAY 0 1",
        ),
    ] {
        let out = EchoServer::new(quiet()).turn(&input);
        assert_eq!(describe(&out), [last]);
    }
    let mut client = Client::new(quiet());
    let out = client.turn(&[frame(PING, 0, 0, &[0; 8])].concat());
    assert_eq!(describe(&out), ["GOAWAY 0 1"]);
}

#[test]
fn what_ends_the_connection() {
    let get = |stream| headers(stream, GET, true);
    let open = headers(1, POST, false);
    let cases: &[(&str, Vec<Vec<u8>>, &str)] = &[
        ("a frame of 16385", vec![frame(DATA, 0, 1, &[0; 16_385])], "GOAWAY 0 6"),
        ("DATA on stream 0", vec![data(0, b"x", false)], "GOAWAY 0 1"),
        ("HEADERS on stream 0", vec![get(0)], "GOAWAY 0 1"),
        ("HEADERS on an even stream", vec![get(2)], "GOAWAY 0 1"),
        ("HEADERS on a lower stream", vec![get(5), get(3)], "GOAWAY 5 1"),
        ("HEADERS on a complete stream", vec![get(1), get(1)], "GOAWAY 1 5"),
        ("DATA on a complete stream", vec![get(1), data(1, b"x", true)], "GOAWAY 1 5"),
        ("DATA on an idle stream", vec![data(1, b"x", true)], "GOAWAY 0 1"),
        ("RST_STREAM on an idle stream", vec![word(RST_STREAM, 1, 8)], "GOAWAY 0 1"),
        ("WINDOW_UPDATE on an idle stream", vec![word(WINDOW_UPDATE, 1, 8)], "GOAWAY 0 1"),
        ("RST_STREAM on stream 0", vec![word(RST_STREAM, 0, 8)], "GOAWAY 0 1"),
        ("RST_STREAM of 3", vec![open.clone(), frame(RST_STREAM, 0, 1, &[0; 3])], "GOAWAY 1 6"),
        ("PRIORITY of 4", vec![frame(PRIORITY, 0, 1, &[0; 4])], "GOAWAY 0 6"),
        ("PING of 7", vec![frame(PING, 0, 0, &[0; 7])], "GOAWAY 0 6"),
        ("PING on a stream", vec![frame(PING, 0, 1, &[0; 8])], "GOAWAY 0 1"),
        ("SETTINGS on a stream", vec![frame(SETTINGS, 0, 1, &[])], "GOAWAY 0 1"),
        ("SETTINGS of 5", vec![frame(SETTINGS, 0, 0, &[0; 5])], "GOAWAY 0 6"),
        ("SETTINGS ACK of 6", vec![frame(SETTINGS, ACK, 0, &[0; 6])], "GOAWAY 0 6"),
        ("SETTINGS ACK of nothing", vec![frame(SETTINGS, ACK, 0, &[])], "GOAWAY 0 1"),
        ("ENABLE_PUSH 2", vec![setting(2, 2)], "GOAWAY 0 1"),
        ("a window of 2^31", vec![setting(4, 1 << 31)], "GOAWAY 0 3"),
        ("frames of 16383", vec![setting(5, 16_383)], "GOAWAY 0 1"),
        ("PUSH_PROMISE", vec![frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 4])], "GOAWAY 0 1"),
        ("GOAWAY on a stream", vec![frame(GOAWAY, 0, 1, &[0; 8])], "GOAWAY 0 1"),
        ("GOAWAY that goes up", vec![goaway(1, 0), goaway(3, 0)], "GOAWAY 0 1"),
        ("WINDOW_UPDATE 0", vec![word(WINDOW_UPDATE, 0, 0)], "GOAWAY 0 1"),
        ("a window above 2^31", vec![word(WINDOW_UPDATE, 0, 0x7fff_ffff)], "GOAWAY 0 3"),
        ("CONTINUATION of nothing", vec![frame(CONTINUATION, 4, 1, &[])], "GOAWAY 0 1"),
        (
            "within a block",
            vec![frame(HEADERS, 0, 1, &block(GET)), data(1, b"", true)],
            "GOAWAY 0 1",
        ),
        (
            "another stream's CONTINUATION",
            vec![frame(HEADERS, 0, 1, &block(GET)), frame(CONTINUATION, 4, 3, &[])],
            "GOAWAY 0 1",
        ),
        ("no HPACK", vec![frame(HEADERS, END_HEADERS, 1, &[0x80])], "GOAWAY 1 9"),
        ("padding of all", vec![frame(HEADERS, END_HEADERS | PADDED, 1, &[1])], "GOAWAY 0 1"),
        ("padding of data", vec![open.clone(), frame(DATA, PADDED, 1, &[2, 0])], "GOAWAY 1 1"),
        (
            "a window of all streams that overflows",
            vec![open.clone(), word(WINDOW_UPDATE, 1, 0x7fff_0000), setting(4, 0x7fff_ffff)],
            "GOAWAY 1 3",
        ),
        ("self-dependency of an idle stream", vec![word(PRIORITY, 1, 1)], "GOAWAY 0 6"),
        ("self-dependency", vec![frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0])], "GOAWAY 0 1"),
    ];
    for (name, frames, last) in cases {
        assert_eq!(answer(frames).last().map(String::as_str), Some(*last), "{name}");
    }
}

#[test]
fn what_ends_a_stream() {
    let open = headers(1, POST, false);
    fn long(length: &str) -> Vec<(&str, &str)> {
        [POST, &[("content-length", length)]].concat()
    }
    let cases: &[(&str, Vec<Vec<u8>>, &str)] = &[
        (
            "DATA after the end",
            vec![setting(4, 0), headers(1, POST, false), data(1, b"x", true), data(1, b"x", true)],
            "RST_STREAM 1 5",
        ),
        (
            "HEADERS after the end",
            vec![
                setting(4, 0),
                headers(1, POST, false),
                data(1, b"x", true),
                headers(1, GET, true),
            ],
            "RST_STREAM 1 5",
        ),
        ("WINDOW_UPDATE 0", vec![open.clone(), word(WINDOW_UPDATE, 1, 0)], "RST_STREAM 1 1"),
        (
            "a window above 2^31",
            vec![open.clone(), word(WINDOW_UPDATE, 1, 0x7fff_ffff)],
            "RST_STREAM 1 3",
        ),
        (
            "content-length too long",
            vec![headers(1, &long("3"), false), data(1, b"xx", true)],
            "RST_STREAM 1 1",
        ),
        (
            "content-length too short",
            vec![headers(1, &long("1"), false), data(1, b"xx", true)],
            "RST_STREAM 1 1",
        ),
        ("content-length of nothing", vec![headers(1, &long("1"), true)], "RST_STREAM 1 1"),
        (
            "trailers that do not end",
            vec![open.clone(), headers(1, &[("a", "b")], false)],
            "RST_STREAM 1 1",
        ),
        (
            "a pseudo-header in trailers",
            vec![open.clone(), headers(1, &[(":path", "b")], true)],
            "RST_STREAM 1 1",
        ),
        (
            "trailers before the length",
            vec![headers(1, &long("3"), false), headers(1, &[("a", "b")], true)],
            "RST_STREAM 1 1",
        ),
        (
            "a stream reset by the peer",
            vec![open.clone(), word(RST_STREAM, 1, 8), data(1, b"x", true)],
            "RST_STREAM 1 5",
        ),
    ];
    for (name, frames, last) in cases {
        let answer = answer(&[&frames[..], &[frame(PING, 0, 0, &[0; 8])]].concat());
        assert_eq!(answer[answer.len() - 2..], [last, "PING 1 0"], "{name} {answer:?}");
    }
}

#[test]
fn malformed_requests() {
    type Lines = [(&'static str, &'static str)];
    let with = |more: &Lines| [GET, more].concat();
    let without = |name: &str| -> Vec<(&'static str, &'static str)> {
        GET.iter().copied().filter(|(other, _)| *other != name).collect()
    };
    let replaced =
        |name: &'static str, value: &'static str| [&[(name, value)][..], &without(name)].concat();
    let bad = [
        without(":method"),
        without(":scheme"),
        without(":path"),
        with(&[(":method", "GET")]),
        with(&[(":other", "x")]),
        with(&[(":status", "200")]),
        with(&[(":protocol", "websocket")]),
        with(&[("a", "b"), (":authority", "c")]),
        replaced(":path", ""),
        replaced(":path", "a"),
        replaced(":path", "*"),
        replaced(":path", "/a b"),
        replaced(":path", "/a#b"),
        replaced(":method", "GET?"),
        replaced(":method", ""),
        replaced(":scheme", "ftp"),
        replaced(":authority", "u@h"),
        replaced(":authority", "h/x"),
        replaced(":authority", ""),
        with(&[("Upper", "x")]),
        with(&[("", "x")]),
        with(&[("a b", "x")]),
        with(&[("a:b", "x")]),
        with(&[("a", " x")]),
        with(&[("a", "x\t")]),
        with(&[("a", "x\ry")]),
        with(&[("a", "x\ny")]),
        with(&[("a", "x\0y")]),
        with(&[("connection", "close")]),
        with(&[("proxy-connection", "close")]),
        with(&[("keep-alive", "1")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "x")]),
        with(&[("te", "gzip")]),
        with(&[("te", "trailers, gzip")]),
        with(&[("host", "a"), ("host", "a")]),
        with(&[("content-length", "0"), ("content-length", "0")]),
        with(&[("content-length", "+0")]),
        with(&[("content-length", "0,0")]),
        vec![(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")],
        vec![(":method", "CONNECT"), (":authority", "a")],
        vec![(":method", "CONNECT")],
    ];
    for lines in bad {
        let request = headers(1, &lines, true);
        assert_eq!(answer(std::slice::from_ref(&request)), ["RST_STREAM 1 1"], "{lines:?}");
        let strict = Options { stream_error_on_invalid_http_message: false, ..quiet() };
        assert_eq!(answer_with(strict, &[request]), ["GOAWAY 1 1"], "{lines:?}");
    }
    for lines in [
        with(&[("te", "trailers"), ("a", ""), ("cookie", "a=b"), ("cookie", "c=d")]),
        [&[(":method", "OPTIONS")][..], &without(":method")].concat(),
        replaced(":scheme", "HTTPS"),
        without(":authority"),
        [&without(":authority")[..], &[("host", "a")]].concat(),
        with(&[("host", "another.example")]),
        vec![(":method", "OPTIONS"), (":scheme", "http"), (":path", "*")],
        vec![(":method", "CONNECT"), (":authority", "a:1")],
    ] {
        assert_eq!(answer(&[headers(1, &lines, true)]), ["HEADERS 1 end"], "{lines:?}");
    }
}

/// A client's answer to these frames after one request.
fn asked(method: &str, frames: &[Vec<u8>]) -> (Answer, Vec<String>) {
    let mut client = Client::new(quiet());
    let mut out = Vec::new();
    client.send(&request(method, "/", &Vec::new()), b"", &Vec::new(), &mut out);
    let mut out = client.turn(&server_start());
    out.extend(client.turn(&frames.concat()));
    (client.answers.into_values().next().unwrap(), describe(&out))
}

#[test]
fn responses() {
    let response = |lines: &[(&str, &str)], end| headers(1, lines, end);
    let ok = [(":status", "200")];
    let with_length = [(":status", "200"), ("content-length", "5")];
    let (answer, out) = asked(
        "GET",
        &[
            response(&[(":status", "103"), ("link", "x")], false),
            response(&with_length, false),
            data(1, b"hello", false),
            headers(1, &[("x", "y")], true),
        ],
    );
    assert_eq!((answer.status, answer.interim, answer.is_complete), (200, vec![103], true));
    assert_eq!((&answer.body[..], answer.trailers.len(), out.len()), (&b"hello"[..], 1, 0));
    let (answer, _) = asked("HEAD", &[response(&with_length, true)]);
    assert!(answer.is_complete);
    let not_modified = [(":status", "304"), ("content-length", "5")];
    assert!(asked("GET", &[response(&not_modified, true)]).0.is_complete);
    for frames in [
        vec![response(&[], true)],
        vec![response(&[(":status", "20")], true)],
        vec![response(&[(":status", "099")], true)],
        vec![response(&[(":status", "2x0")], true)],
        vec![response(&[(":status", "101")], false)],
        vec![response(&[(":status", "100")], true)],
        vec![response(&[(":status", "200"), (":path", "/")], true)],
        vec![response(&with_length, true)],
        vec![response(&with_length, false), data(1, b"hell", true)],
        vec![response(&with_length, false), data(1, b"hello!", true)],
        vec![data(1, b"x", true)],
        vec![response(&ok, false), response(&ok, true)],
        vec![response(&ok, false), headers(1, &[("a", "b")], false)],
    ] {
        let (answer, out) = asked("GET", &frames);
        assert_eq!(
            (answer.reset.as_deref(), &out[..]),
            (Some("1 false"), &["RST_STREAM 1 1".to_owned()][..])
        );
    }
    for frames in [
        vec![headers(2, &ok, true)],
        vec![headers(3, &ok, true)],
        vec![data(3, b"", true)],
        vec![frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])],
    ] {
        assert_eq!(asked("GET", &frames).1.len(), 1);
        assert!(asked("GET", &frames).1[0].starts_with("GOAWAY 0 1"));
    }
}

#[test]
fn extended_connect_is_an_upgrade() {
    let options = Options { allow_connect: true, ..quiet() };
    let lines = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "a.example"),
    ];
    let mut server = EchoServer::new(options);
    server.turn(&client_start());
    let out = server.turn(&[headers(1, &lines, false), data(1, b"frame", false)].concat());
    assert_eq!(describe(&out), ["HEADERS 1", "DATA 1 5"]);

    let mut client = Client::new(quiet());
    let fields = vec![("upgrade".to_owned(), "websocket".to_owned())];
    let mut head = request("GET", "/chat", &fields);
    head.upgrade = true;
    let mut out = Vec::new();
    let body = tidegate_http::BodyLength::Tunnel;
    assert!(client.connection.open(&head, body, false, 7, &mut out).is_err());
    client.turn(&[setting(8, 1), frame(SETTINGS, ACK, 0, &[])].concat());
    let stream = client.connection.open(&head, body, false, 7, &mut out).unwrap();
    client.answers.insert(stream, Answer::default());
    let mut server = EchoServer::new(options);
    let echo =
        server.turn(&[&client_start()[..], &out[out.len() - 9 - length_of_last(&out)..]].concat());
    assert!(server.log.iter().all(|line| line == "Settings"), "{:?}", server.log);
    client.turn(&echo[start_of_headers(&echo)..]);
    assert_eq!(client.answers[&stream].status, 101);
}

/// The payload's length of the last frame; it is HEADERS.
fn length_of_last(out: &[u8]) -> usize {
    out.len() - start_of_headers(out) - 9
}

fn start_of_headers(mut out: &[u8]) -> usize {
    let all = out.len();
    out = out.strip_prefix(&tidegate_http::h2::PREFACE[..]).unwrap_or(out);
    while out[3] != HEADERS {
        out = &out[9 + u32::from_be_bytes([0, out[0], out[1], out[2]]) as usize..];
    }
    all - out.len()
}
