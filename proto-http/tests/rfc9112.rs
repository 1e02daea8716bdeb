//! What RFC 9112 and RFC 9110 ask of an intermediary's parser and writer, by section.
//!
//! What it leaves to others: the tables of malformed messages (`malformed_*.rs`).

#![allow(clippy::unwrap_used, clippy::panic)] // in functions that tests share

mod common;

use common::{fields, read_requests, request, responses_to_get, strict};
use tidegate_http::h1::{
    Event, Options, RequestDecoder, ResponseDecoder, Step, encode_request, encode_response,
    strip_hop_by_hop,
};
use tidegate_http::{BodyLength, Fault, Limits, RequestHead, ResponseHead};

fn forwarded(text: &str) -> String {
    let mut head = request(text);
    strip_hop_by_hop(&mut head.headers, false);
    let mut out = Vec::new();
    encode_request(&head, head.body, &mut out);
    out.escape_ascii().to_string().replace("\\r\\n", "|")
}

fn stripped(lines: &str, keep_upgrade: bool) -> String {
    let mut head = request(&format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n"));
    strip_hop_by_hop(&mut head.headers, keep_upgrade);
    fields(&head.headers)
}

fn response(lines: &str) -> ResponseHead {
    let mut decoder = ResponseDecoder::new(Options::default(), Limits::default());
    decoder.expect(&request("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    let mut head = ResponseHead::default();
    let step = decoder.decode(lines.as_bytes(), &mut head).unwrap();
    assert!(matches!(step.event, Event::Head | Event::InterimHead));
    head
}

fn answered(head: &ResponseHead, body: BodyLength, close: bool) -> String {
    let mut out = Vec::new();
    encode_response(head, body, close, &mut out);
    out.escape_ascii().to_string().replace("\\r\\n", "|")
}

/// "a server that is expecting to receive and parse a request-line SHOULD ignore at least one empty
/// line (CRLF) received prior to the request-line"
#[test]
fn s2_2_empty_lines_before_a_request() {
    let text =
        strict(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n")
            .text();
    assert_eq!(text.matches("request").count(), 2, "{text}");
    assert!(strict(b"\r\n\r\n").text().ends_with("idle"));
}

/// "An intermediary ... MUST send its own HTTP-version in forwarded messages."
#[test]
fn s2_3_own_version() {
    let mut decoder = RequestDecoder::new(
        Options { accept_http_10: true, ..Options::default() },
        Limits::default(),
    );
    let mut head = RequestHead::default();
    decoder.decode(b"GET /x HTTP/1.0\r\n\r\n", &mut head).unwrap();
    assert!(head.close && head.authority().is_empty());
    let mut out = Vec::new();
    encode_request(&head, BodyLength::None, &mut out);
    assert_eq!(out, b"GET /x HTTP/1.1\r\nhost: \r\n\r\n");
    let head = response("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(answered(&head, head.body, false), "HTTP/1.1 200 OK|content-length: 0||");
}

/// "a proxy MUST ignore the received Host header field (if any) and instead replace it with the
/// host information of the request-target"
#[test]
fn s3_2_2_absolute_form() {
    assert_eq!(
        forwarded("GET http://b.example:81/p?q HTTP/1.1\r\nX: 1\r\nHost: a\r\nY: 2\r\n\r\n"),
        "GET /p?q HTTP/1.1|x: 1|host: b.example:81|y: 2||"
    );
    assert_eq!(forwarded("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n"), "GET / HTTP/1.1|host: b||");
}

/// "the last proxy on the request chain MUST send a request-target of "*""
#[test]
fn s3_2_4_asterisk_form() {
    assert_eq!(
        forwarded("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n"),
        "OPTIONS * HTTP/1.1|host: b|content-length: 0||"
    );
    assert_eq!(
        forwarded("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        "OPTIONS * HTTP/1.1|host: a|content-length: 0||"
    );
}

#[test]
fn s3_2_3_authority_form() {
    assert_eq!(
        forwarded("CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
        "CONNECT b:443 HTTP/1.1|host: b:443||"
    );
    let text = strict(b"CONNECT b:443 HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\nabc").text();
    assert!(text.starts_with("error 400 BodyNotAllowed http1.body_disallowed"), "{text}");
}

/// "the obs-fold ... MUST either reject the message ... or replace each received obs-fold with one
/// or more SP"
#[test]
fn s5_2_folding() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nX: a \r\n\t b\r\n\r\n";
    assert_eq!(strict(input).error.map(|e| e.fault), Some(Fault::LineFolding));
}

/// "A sender MUST NOT send a Content-Length header field in any message that contains a
/// Transfer-Encoding header field."
#[test]
fn s6_2_one_framing_is_written() {
    let mut head = request("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 007\r\nx: y\r\n\r\n");
    let write = |body| {
        let mut out = Vec::new();
        encode_request(&head, body, &mut out);
        out.escape_ascii().to_string().replace("\\r\\n", "|")
    };
    let start = "POST / HTTP/1.1|host: a|x: y|";
    assert_eq!(write(BodyLength::Chunked), format!("{start}transfer-encoding: chunked||"));
    assert_eq!(write(BodyLength::Exact(7)), format!("{start}content-length: 7||"));
    assert_eq!(write(BodyLength::Exact(8)), format!("{start}content-length: 8||"));
    head.headers.append(b"transfer-encoding", b"chunked");
    head.headers.append(b"content-length", b"7");
    head.headers.append(b"content-length", b"7");
    let mut out = Vec::new();
    encode_request(&head, BodyLength::Exact(7), &mut out);
    assert_eq!(out, b"POST / HTTP/1.1\r\nhost: a\r\nx: y\r\ncontent-length: 7\r\n\r\n");
    let head = request("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    let mut out = Vec::new();
    encode_request(&head, head.body, &mut out);
    assert_eq!(out, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
}

/// RFC 9112 6.1 and RFC 9110 8.6: no framing field in 1xx and 204; `content-length` of HEAD and 304
/// passes.
#[test]
fn s6_3_responses_without_a_body() {
    let head = response("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(answered(&head, head.body, true), "HTTP/1.1 204 No Content|connection: close||");
    let head = response("HTTP/1.1 100 Continue\r\nContent-Length: 5\r\nx: y\r\n\r\n");
    assert_eq!(answered(&head, head.body, false), "HTTP/1.1 100 Continue|x: y||");
    let head = response("HTTP/1.1 304 Not Modified\r\nContent-Length: 05\r\n\r\n");
    assert_eq!(answered(&head, head.body, false), "HTTP/1.1 304 Not Modified|content-length: 5||");
    let mut own = ResponseHead { status: 404, content_length: Some(0), ..Default::default() };
    own.headers.append(b"server", b"envoy");
    assert_eq!(
        answered(&own, BodyLength::None, true),
        "HTTP/1.1 404 Not Found|server: envoy|content-length: 0|connection: close||"
    );
    assert_eq!(
        answered(&own, BodyLength::UntilClose, false),
        "HTTP/1.1 404 Not Found|server: envoy|connection: close||"
    );
}

/// "A recipient that retains a received trailer field ... MUST either store/forward the trailer
/// field separately from the received header fields"; RFC 9110 6.5.1 for what may not be there.
#[test]
fn s7_1_2_trailers() {
    let input = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\
        Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nAuthorization: x\r\n\
        Content-Type: y\r\nGrpc-Status: 0\r\nX-Sum:  7 \r\nSet-Cookie: z\r\n\
        Connection: x-sum\r\n\r\n";
    let options = Options { enable_trailers: true, ..Options::default() };
    let text = read_requests(input, &[], options, Limits::default()).text();
    assert!(text.ends_with("data x\ntrailers [grpc-status: 0] [x-sum: 7]\nend\nidle"), "{text}");
    assert!(text.contains(" at a None Chunked length None"), "{text}");
    assert!(strict(input).text().ends_with("data x\nend\nidle"));
    // None but forbidden ones: no event.
    let input =
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: b\r\n\r\n";
    let text = read_requests(input, &[], options, Limits::default()).text();
    assert!(text.ends_with("]\nend\nidle"), "{text}");
}

/// Trailers of one message are not those of the next.
#[test]
fn s7_1_2_trailers_are_forgotten() {
    let options = Options { enable_trailers: true, ..Options::default() };
    let mut decoder = RequestDecoder::new(options, Limits::default());
    let mut head = RequestHead::default();
    let mut input: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\
        x: y\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut seen = Vec::new();
    loop {
        let Step { consumed, event } = decoder.decode(input, &mut head).unwrap();
        if event == Event::NeedMore {
            break;
        }
        seen.push((event, decoder.trailers().is_some()));
        input = &input[consumed..];
    }
    let expected = [
        (Event::Head, false),
        (Event::Trailers, true),
        (Event::End, true),
        (Event::Head, false),
        (Event::End, false),
    ];
    assert_eq!(seen, expected);
}

/// "If the "close" connection option is present, the connection will not persist"; HTTP/1.0
/// persists only with keep-alive.
#[test]
fn s9_3_persistence() {
    for (version, lines, close) in [
        ("1.1", "", false),
        ("1.1", "Connection: close\r\n", true),
        ("1.1", "Connection: x, CLOSE ,y\r\n", true),
        ("1.1", "Connection: x\r\nConnection: close\r\n", true),
        ("1.1", "Connection: closed\r\n", false),
        ("1.1", "Proxy-Connection: close\r\n", false),
        ("1.0", "", true),
        ("1.0", "Connection: Keep-Alive\r\n", false),
        ("1.0", "Connection: keep-alive, close\r\n", true),
    ] {
        let options = Options { accept_http_10: true, ..Options::default() };
        let input = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        let text = read_requests(input.as_bytes(), &[], options, Limits::default()).text();
        assert!(text.contains(&format!("close {close}")), "{input}: {text}");
        let head = format!("HTTP/{version} 200 OK\r\nContent-Length: 0\r\n{lines}\r\n");
        assert_eq!(response(&head).close, close, "{head}");
    }
}

/// "A server that receives a "close" connection option MUST ... not process any further requests".
#[test]
fn s9_6_nothing_after_close() {
    let input = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\n\
        xGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n\0garbage";
    let text = strict(input).text();
    assert_eq!((text.matches("request").count(), text.contains("error")), (1, false), "{text}");
}

/// RFC 9110 5.3: "A proxy MUST NOT change the order of these field line values when forwarding".
#[test]
fn rfc9110_s5_3_order_and_5_1_unknown_fields() {
    assert_eq!(
        forwarded("GET / HTTP/1.1\r\nB: 1\r\nA: 2\r\nHost: a\r\nB: 3\r\nA: 4\r\n\r\n"),
        "GET / HTTP/1.1|b: 1|a: 2|host: a|b: 3|a: 4||"
    );
}

/// RFC 9110 7.6.1: "Intermediaries MUST parse a received Connection header field before a message
/// is forwarded and, for each connection-option in this field, remove any header or trailer
/// field(s)".
#[test]
fn rfc9110_s7_6_1_hop_by_hop() {
    for (lines, left) in [
        ("X-h: 1\r\nConnection: x-H, y\r\nY: 2\r\nyy: 3\r\nX-H: 4\r\n", " [yy: 3]"),
        (
            "Connection: close\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip\r\nX: 1\r\n",
            " [x: 1]",
        ),
        ("Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n", ""),
        ("Content-Length: 5\r\n", ""),
        ("Connection: TE\r\nTE: gzip\r\n", ""),
        ("Connection: TE\r\nTE: gzip, Trailers\r\nX: 1\r\n", " [te: trailers] [x: 1]"),
        ("TE: gzip\r\nTE: trailers\r\n", " [te: trailers]"),
        ("TE: trailers\r\nTE: trailers\r\n", " [te: trailers]"),
        ("Connection: upgrade\r\nUpgrade: h2c\r\n", ""),
        ("Connection: http2-settings, upgrade\r\nHTTP2-Settings: x\r\nUpgrade: h2c\r\n", ""),
        // Not to be taken away: routing, framing, and what says who the client is.
        (
            "Connection: host, x-forwarded-for, X-Forwarded-Proto, via, content-length, \
             x-envoy-internal, x-envoy-other\r\nX-Forwarded-For: 1\r\nX-Forwarded-Proto: http\r\n\
             Via: v\r\nx-envoy-internal: true\r\nx-envoy-other: 1\r\n",
            " [x-forwarded-for: 1] [x-forwarded-proto: http] [via: v] [x-envoy-internal: true] \
             [x-envoy-other: 1]",
        ),
        ("Connection: cookie,,\r\nConnection: ,x-a\r\nCookie: c\r\nX-A: a\r\n", ""),
    ] {
        assert_eq!(stripped(lines, false), format!(" [host: a]{left}"), "{lines}");
    }
}

/// RFC 9110 7.8: an upgrade is a hop's own, and only with `connection: upgrade`; never in HTTP/1.0.
#[test]
fn rfc9110_s7_8_upgrade() {
    let upgrade = "Connection: keep-alive, Upgrade, X\r\nX: 1\r\nUpgrade: websocket\r\nY: 2\r\n";
    assert_eq!(
        stripped(upgrade, true),
        " [host: a] [upgrade: websocket] [y: 2] [connection: upgrade]"
    );
    assert_eq!(stripped("Upgrade: websocket\r\n", true), " [host: a]");
    for (version, lines, wanted) in [
        ("1.1", "Connection: upgrade\r\nUpgrade: websocket\r\n", true),
        ("1.1", "Upgrade: websocket\r\n", false),
        ("1.1", "Connection: upgrade\r\n", false),
        ("1.1", "Connection: upgrade\r\nUpgrade:\r\n", false),
        ("1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n", false),
    ] {
        let options = Options { accept_http_10: true, ..Options::default() };
        let input = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        let text = read_requests(input.as_bytes(), &[], options, Limits::default()).text();
        assert!(text.contains(&format!("upgrade {wanted}")), "{input}: {text}");
    }
}

/// Bytes after a request that asks for another protocol are not read before the answer is known.
#[test]
fn rfc9110_s7_8_bytes_after_an_upgrade_are_held() {
    let request_text = "POST /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\
        Content-Length: 2\r\n\r\nhi";
    let after = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    let input = format!("{request_text}{after}");
    let mut head = RequestHead::default();
    for is_early in [false, true] {
        let mut decoder = RequestDecoder::new(Options::default(), Limits::default());
        let mut at = 0;
        let mut events = Vec::new();
        while !decoder.is_idle() || at == 0 {
            let step = decoder.decode(&input.as_bytes()[at..], &mut head).unwrap();
            at += step.consumed;
            if events.is_empty() && is_early {
                decoder.resume();
            }
            if step.event == Event::NeedMore {
                break;
            }
            events.push(step.event);
        }
        assert_eq!(events, [Event::Head, Event::Data(0..2), Event::End]);
        assert_eq!(decoder.is_waiting(), !is_early);
        assert_eq!(at, request_text.len(), "nothing of what follows is consumed");
        decoder.resume();
        let step = decoder.decode(after.as_bytes(), &mut head).unwrap();
        assert_eq!((step.event, head.path()), (Event::Head, &b"/next"[..]));
    }
    let text = responses_to_get(
        b"HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: x\r\n\
        Content-Length: 1\r\n\r\nx",
    )
    .text();
    assert!(text.ends_with("data x\nend\neof NeedMore"), "a 200 with upgrade stays HTTP: {text}");
}

/// A decision that comes before the request's end counts from its end on.
#[test]
fn rfc9110_s7_8_a_tunnel_begins_after_the_body() {
    let input = b"POST /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\
        Content-Length: 2\r\n\r\nhi\x01\x02";
    let mut decoder = RequestDecoder::new(Options::default(), Limits::default());
    let mut head = RequestHead::default();
    let mut at = decoder.decode(input, &mut head).unwrap().consumed;
    decoder.tunnel();
    for event in [Event::Data(0..2), Event::End, Event::Tunnel] {
        let step = decoder.decode(&input[at..], &mut head).unwrap();
        at += step.consumed;
        assert_eq!(step.event, event);
    }
    assert_eq!(&input[at..], b"\x01\x02");
}

/// RFC 9110 9.3.6: what follows CONNECT is the tunnel's, or nobody's.
#[test]
fn rfc9110_s9_3_6_connect() {
    let input =
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut decoder = RequestDecoder::new(Options::default(), Limits::default());
    let mut head = RequestHead::default();
    let step = decoder.decode(input, &mut head).unwrap();
    assert_eq!((step.event, head.body, head.close), (Event::Head, BodyLength::Tunnel, true));
    let rest = &input[step.consumed..];
    let held = Step { consumed: 0, event: Event::NeedMore };
    assert_eq!(decoder.decode(rest, &mut head), Ok(held));
    assert!(decoder.is_waiting());
    decoder.resume();
    let ignored = Step { consumed: rest.len(), event: Event::NeedMore };
    assert_eq!(decoder.decode(rest, &mut head), Ok(ignored));
    assert!(!decoder.is_idle() && !decoder.is_waiting() && !decoder.is_in_head());
}

/// RFC 9110 10.1.1: 100-continue is known; the rest gets 417; HTTP/1.0 has none.
#[test]
fn rfc9110_s10_1_1_expect() {
    let read = |version: &str, lines: &str| {
        let options = Options { accept_http_10: true, ..Options::default() };
        let input =
            format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}Content-Length: 1\r\n\r\nx");
        read_requests(input.as_bytes(), &[], options, Limits::default()).text()
    };
    assert!(read("1.1", "Expect: 100-Continue\r\n").contains("continue true"));
    assert!(read("1.1", "Expect: 100-continue\r\n").ends_with("data x\nend\nidle"));
    assert!(read("1.0", "Expect: 100-continue\r\n").contains("continue false"));
    // Forwarded as HTTP/1.1 it would be an expectation again.
    let text = read("1.0", "Expect: tea\r\n");
    assert!(text.contains("continue false") && !text.contains("tea"), "{text}");
    for lines in [
        "Expect: tea\r\n",
        "Expect: x 100-continue\r\n",
        "Expect:\r\n",
        "Expect: 100-continue, x\r\n",
        "Expect: 100-continue\r\nExpect: x\r\n",
    ] {
        assert!(read("1.1", lines).starts_with("error 417 Expectation"), "{lines}");
    }
}

/// RFC 9110 9.3.8: a client does not send content in TRACE; bodies of other methods are framed
/// alike.
#[test]
fn rfc9110_s9_bodies_of_methods() {
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "QUERY"] {
        let input = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxGET");
        assert!(strict(input.as_bytes()).text().ends_with("data x\nend\nin head"), "{method}");
    }
    let text = strict(b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").text();
    assert!(text.starts_with("error 400 BodyNotAllowed"), "{text}");
}

/// Setting path and authority changes what is sent, and only that.
#[test]
fn rewriting() {
    let mut head = request("GET /a HTTP/1.1\r\nX: 1\r\nHost: a\r\nY: 2\r\n\r\n");
    head.set_authority(b"other:8080");
    head.set_path(b"/longer/path");
    let mut out = Vec::new();
    encode_request(&head, BodyLength::None, &mut out);
    assert_eq!(out, b"GET /longer/path HTTP/1.1\r\nx: 1\r\nhost: other:8080\r\ny: 2\r\n\r\n");
    assert_eq!(head.headers.get_name(b"host"), Some(&b"other:8080"[..]));
    // Only the authority, without the field.
    head.authority = head.headers.store(b"third");
    out.clear();
    encode_request(&head, BodyLength::None, &mut out);
    assert_eq!(out, b"GET /longer/path HTTP/1.1\r\nx: 1\r\nhost: third\r\ny: 2\r\n\r\n");
}
