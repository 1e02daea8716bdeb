//! Attacks of one peer (CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2024-27316 and kin,
//! CVE-2025-8671): each ends in a GOAWAY with the right code, soon, and with little memory.
//!
//! What it leaves to others: what one wrong frame costs (`rfc9113`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod h2_common;

use h2_common::EchoServer;
use h2_common::wire::*;
use tidegate_http::h2::{Connection, Event, Options};
use tidegate_http::{Limits, RequestHead};

/// Feeds `next(round)` until the connection is over; answers the rounds, the reason and the code.
/// Nothing that is written is ever sent.
fn flood(options: Options, mut next: impl FnMut(u32) -> Vec<u8>) -> (u32, String, String) {
    let mut connection = Connection::server(options, Duration::ZERO);
    let (mut head, mut out) = (RequestHead::default(), Vec::new());
    let mut feed = |input: &[u8]| {
        let mut rest = input;
        loop {
            let step = connection.decode_request(rest, &mut head, Duration::ZERO);
            let step = step.map_err(|error| error.to_string())?;
            rest = &rest[step.consumed..];
            if step.event == Event::NeedMore {
                connection.write_control(&mut out);
                return Ok(());
            }
        }
    };
    feed(&client_start()).unwrap();
    for round in 0..100_000 {
        if let Err(reason) = feed(&next(round)) {
            connection.write_control(&mut out);
            assert!(out.len() < 256 * 1024, "{} bytes wait", out.len());
            let lines = describe(&out);
            return (round, reason, lines.last().unwrap().clone());
        }
    }
    panic!("it goes on for ever");
}

use std::time::Duration;

fn lenient() -> Options {
    Options { stream_error_on_invalid_http_message: true, ..Options::default() }
}

fn id(round: u32) -> u32 {
    2 * round + 1
}

#[track_caller]
fn check(found: (u32, String, String), rounds: u32, reason: &str, code: u32) {
    assert_eq!(found.0, rounds);
    assert!(found.1.contains(reason), "{}", found.1);
    assert!(found.2.starts_with("GOAWAY") && found.2.ends_with(&format!(" {code}")), "{}", found.2);
}

#[test]
fn answers_that_are_not_read() {
    let ping = frame(PING, 0, 0, &[0; 8]);
    check(flood(lenient(), |_| ping.clone()), 999, "OutboundControlFrames", 11);
    let settings = frame(SETTINGS, 0, 0, &[]);
    check(flood(lenient(), |_| settings.clone()), 99, "SettingsFrames", 11);
}

#[test]
fn frames_that_say_nothing() {
    let start = |rest: Vec<u8>| {
        move |round| match round {
            0 => headers(1, POST, false),
            _ => rest.clone(),
        }
    };
    check(flood(lenient(), start(data(1, b"", false))), 2, "EmptyFrames", 11);
    check(flood(lenient(), start(frame(DATA, PADDED, 1, &[3, 0, 0, 0]))), 2, "EmptyFrames", 11);
    check(flood(lenient(), start(word(WINDOW_UPDATE, 1, 1))), 8, "WindowUpdateFrames", 11);
    check(flood(lenient(), start(word(WINDOW_UPDATE, 0, 1))), 8, "WindowUpdateFrames", 11);
    let priority = frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0]);
    check(flood(lenient(), start(priority)), 201, "PriorityFrames", 11);
}

/// A stream that we have reset takes no endless stream of nothing either.
#[test]
fn nothing_for_a_stream_that_is_gone() {
    let attack = |round| match round {
        // More than its length: the stream is reset.
        0 => {
            [headers(1, &[POST, &[("content-length", "1")]].concat(), false), data(1, b"ab", false)]
                .concat()
        }
        _ => data(1, b"", false),
    };
    check(flood(lenient(), attack), 2, "EmptyFrames", 11);
}

#[test]
fn rapid_reset() {
    let attack = |round| [headers(id(round), GET, true), word(RST_STREAM, id(round), 8)].concat();
    check(flood(lenient(), attack), 250, "PrematureResets", 11);
}

/// Every way to make us reset a stream counts as one's own reset.
#[test]
fn made_you_reset() {
    let open = |round| headers(id(round), POST, false);
    type Spelling = fn(u32) -> Vec<u8>;
    let spellings: [(&str, Spelling); 6] = [
        ("WINDOW_UPDATE 0", |id| word(WINDOW_UPDATE, id, 0)),
        ("a window that overflows", |id| word(WINDOW_UPDATE, id, 0x7fff_ffff)),
        ("a pseudo-header in trailers", |id| headers(id, &[(":path", "/")], true)),
        ("trailers that do not end", |id| headers(id, &[("a", "b")], false)),
        ("self-dependency", |id| frame(PRIORITY, 0, id, &[&id.to_be_bytes()[..], &[0]].concat())),
        ("a body that is too long", |id| {
            let length = [POST, &[("content-length", "1")]].concat();
            let id = id + 200_000;
            [headers(id, &length, false), data(id, b"xx", false)].concat()
        }),
    ];
    for (name, spelling) in spellings {
        // Windows may be updated, so that only the resets count.
        let options = Options {
            max_inbound_priority_frames_per_stream: 1000,
            max_inbound_window_update_frames_per_data_frame_sent: 1000,
            ..lenient()
        };
        let attack = |round| match name {
            "a body that is too long" => spelling(id(round)),
            _ => [open(round), spelling(id(round))].concat(),
        };
        let (rounds, reason, last) = flood(options, attack);
        assert!(rounds == 250 && reason.contains("PrematureResets"), "{name}: {rounds} {reason}");
        assert!(last.ends_with(" 11"), "{name}: {last}");
    }
}

#[test]
fn streams_over_the_limit() {
    let options = Options { max_concurrent_streams: 10, ..lenient() };
    let found = flood(options, |round| headers(id(round), POST, false));
    check(found, 10 + 250, "PrematureResets", 11);
}

#[test]
fn continuation_flood() {
    let start = |piece: Vec<u8>| {
        move |round| match round {
            0 => frame(HEADERS, 0, 1, &block(GET)),
            _ => frame(CONTINUATION, 0, 1, &piece),
        }
    };
    check(flood(lenient(), start(b"\x00\x01a\x01b".to_vec())), 65, "Continuations", 11);
    check(flood(lenient(), start(Vec::new())), 2, "EmptyFrames", 11);
    check(flood(lenient(), start(vec![0; 16_000])), 4, "Continuations", 11);
}

/// A byte of the block stands for 4000 of the list: it ends when the list is four times as large
/// as it may be.
#[test]
fn hpack_bomb() {
    let entry = [&b"\x40\x01a\x7f\xa1\x1e"[..], &[b'x'; 4000]].concat();
    let bomb = [&block(GET)[..], &entry, &[0xbe; 16_000 - 4100]].concat();
    let found = flood(lenient(), |round| frame(HEADERS, END_HEADERS, id(round), &bomb));
    check(found, 0, "HeadTooLarge", 11);
    // Just above the limit the stream ends, and the connection's table is whole.
    let large = [&block(GET)[..], &entry, &[0xbe; 20]].concat();
    let mut server = EchoServer::new(lenient());
    server.turn(&client_start());
    let out = server.turn(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &large));
    assert_eq!(describe(&out), ["RST_STREAM 1 11"]);
    let out = server.turn(&frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        3,
        &[&block(GET)[..], b"\xbe"].concat(),
    ));
    assert_eq!(describe(&out), ["HEADERS 3 end"]);
}

#[test]
fn many_cookie_crumbs() {
    // They become one field, but each of them is one on its way, as in Envoy.
    let crumbs = |count| [GET, &vec![("cookie", "a=b"); count]].concat();
    let mut server = EchoServer::new(lenient());
    server.turn(&client_start());
    assert_eq!(describe(&server.turn(&headers(1, &crumbs(90), true)))[0], "HEADERS 1 end");
    assert_eq!(describe(&server.turn(&headers(3, &crumbs(101), true))), ["RST_STREAM 3 11"]);
    let limits = Limits { head_bytes_max: 3_000, ..Limits::default() };
    let mut server = EchoServer::new(Options { limits, ..lenient() });
    server.turn(&client_start());
    assert_eq!(describe(&server.turn(&headers(1, &crumbs(90), true))), ["RST_STREAM 1 11"]);
}

#[test]
fn too_many_fields() {
    let fields = |count| [GET, &vec![("a", "b"); count]].concat();
    let mut server = EchoServer::new(lenient());
    server.turn(&client_start());
    let input = [headers(1, &fields(100), true), headers(3, &fields(101), true)].concat();
    assert_eq!(describe(&server.turn(&input)), ["HEADERS 1 end", "RST_STREAM 3 11"]);
}

/// A client that takes nothing: all that is held is what its own window allowed it to send.
#[test]
fn a_window_that_stays_closed() {
    let options = Options { initial_stream_window_size: 1000, ..lenient() };
    let mut server = EchoServer::new(options);
    server.turn(&[client_start(), setting(4, 0)].concat());
    let out = server.turn(&[headers(1, POST, false), data(1, &[7; 1000], false)].concat());
    assert_eq!(describe(&out), ["HEADERS 1"]);
    let out = server.turn(&data(1, b"x", false));
    assert_eq!(describe(&out), ["RST_STREAM 1 3"]);
}
