//! Malformed responses by class: what makes an upstream connection useless.
//!
//! What it leaves to others: the statuses that the proxy makes of it, but for
//! `HttpError::upstream_status`.

#![allow(clippy::unwrap_used, clippy::panic)] // in functions that tests share

mod common;

use common::{read_responses, request, responses_to_get};
use tidegate_http::h1::{Event, Options, ResponseDecoder};
use tidegate_http::{BodyLength, Fault, Limits, RequestHead, ResponseHead};

fn refused(input: &[u8], fault: Fault) {
    let transcript = responses_to_get(input);
    let Some(error) = transcript.error else {
        panic!("accepted: {}\n{}", input.escape_ascii(), transcript.text())
    };
    let status = if fault == Fault::CutOff { 503 } else { 502 };
    assert_eq!((error.fault, error.upstream_status()), (fault, status), "{}", input.escape_ascii());
    assert_eq!(transcript.lines.len(), 1, "{}\n{}", input.escape_ascii(), transcript.text());
}

fn ok(lines: &[u8]) -> Vec<u8> {
    [b"HTTP/1.1 200 OK\r\n", lines, b"\r\n"].concat()
}

fn answer_to(request_text: &str, input: &[u8]) -> String {
    let request = request(request_text);
    let limits = Limits::default();
    read_responses(&request, input, &[], Options::default(), limits).text()
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n";
const CONNECT: &str = "CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n";
const UPGRADE: &str =
    "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket, other\r\n\r\n";

#[test]
fn framing_in_two_ways_or_none() {
    refused(
        &ok(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        Fault::TransferEncodingWithContentLength,
    );
    refused(&ok(b"Content-Length: 3\r\nContent-Length: 3\r\n"), Fault::ContentLengthDuplicate);
    refused(&ok(b"Content-Length: 3\r\nContent-Length: 4\r\n"), Fault::ContentLengthDuplicate);
    refused(&ok(b"Content-Length: 3, 3\r\n"), Fault::ContentLengthDuplicate);
    for value in ["", "+3", "-3", "0x3", "3a", "3 3", "9223372036854775808", "99999999999999999999"]
    {
        refused(&ok(format!("Content-Length: {value}\r\n").as_bytes()), Fault::ContentLength);
    }
    for value in ["gzip", "xchunked", "identity", "gzip, chunked"] {
        let lines = format!("Transfer-Encoding: {value}\r\n");
        refused(&ok(lines.as_bytes()), Fault::TransferCodingUnknown);
    }
    for value in ["", "chunked, gzip", "chunked, chunked", ",chunked", "chunked;q=1"] {
        let lines = format!("Transfer-Encoding: {value}\r\n");
        refused(&ok(lines.as_bytes()), Fault::TransferEncoding);
    }
    refused(
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Fault::TransferEncodingNotAllowed,
    );
    refused(
        b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
        Fault::TransferEncodingNotAllowed,
    );
    refused(
        b"HTTP/1.1 103 E\r\nTransfer-Encoding: chunked\r\n\r\n",
        Fault::TransferEncodingNotAllowed,
    );
    // Also where no body follows, as in the answer to HEAD.
    let text = answer_to(HEAD, &ok(b"Content-Length: 3\r\nContent-Length: 4\r\n"));
    assert!(text.starts_with("error"), "{text}");
}

#[test]
fn chunks() {
    for body in
        ["0x1\r\na\r\n", "1\r\nab\r\n", "1\na\r\n", "1 \r\na\r\n", ";\r\n", "g\r\n", "-1\r\n"]
    {
        let input = [&ok(b"Transfer-Encoding: chunked\r\n"), body.as_bytes()].concat();
        let text = responses_to_get(&input).text();
        assert!(text.contains("\nerror 400 Chunk") && !text.contains("\nend"), "{text}");
    }
}

#[test]
fn fields() {
    for (lines, fault) in [
        (&b"x : y\r\n"[..], Fault::FieldName),
        (b"x\t: y\r\n", Fault::FieldName),
        (b"x y: z\r\n", Fault::FieldName),
        (b": y\r\n", Fault::FieldName),
        (b"no colon\r\n", Fault::FieldName),
        (b"x: y\r\n z\r\n", Fault::LineFolding),
        (b" x: y\r\n", Fault::LineFolding),
        (b"x: a\0b\r\n", Fault::FieldValue),
        (b"x: a\x0bb\r\n", Fault::FieldValue),
        (b"x: a\rb\r\n", Fault::LineEnd),
        (b"x: a\nb: c\r\n", Fault::LineEnd),
    ] {
        refused(&ok(lines), fault);
    }
    refused(b"HTTP/1.1 200 OK\nx: y\r\n\r\n", Fault::LineEnd);
    refused(&ok("x: y\r\n".repeat(101).as_bytes()), Fault::TooManyFields);
    refused(&ok(&[b"x: ", &vec![b'y'; 61 * 1024][..]].concat()), Fault::HeadTooLarge);
    let text = responses_to_get(&ok(b"content-length:0\r\nX: \xe9\r\nX:\r\n")).text();
    assert!(text.contains("[content-length: 0] [x: \\xe9] [x: ]\nend"), "{text}");
}

#[test]
fn status_lines() {
    for (line, fault) in [
        ("HTTP/1.1 000 x", Fault::StatusCode),
        ("HTTP/1.1 099 x", Fault::StatusCode),
        ("HTTP/1.1 99 x", Fault::StatusCode),
        ("HTTP/1.1 1000 x", Fault::StatusCode),
        ("HTTP/1.1 abc x", Fault::StatusCode),
        ("HTTP/1.1 -20 x", Fault::StatusCode),
        ("HTTP/1.1 200x", Fault::StatusCode),
        ("HTTP/1.1 200\tOK", Fault::StatusCode),
        ("HTTP/1.1  200 OK", Fault::StatusCode),
        ("HTTP/1.1", Fault::StartLine),
        ("HTTP/1.1 ", Fault::StatusCode),
        ("HTTP/1.2 200 OK", Fault::Version),
        ("HTTP/1.10 200 OK", Fault::StartLine),
        ("HTTP/2.0 200 OK", Fault::StartLine),
        ("http/1.1 200 OK", Fault::StartLine),
        (" HTTP/1.1 200 OK", Fault::StartLine),
        ("ICY 200 OK", Fault::StartLine),
        ("HTTP/1.1 200 a\0b", Fault::FieldValue),
        ("HTTP/1.1 200 a\x7fb", Fault::FieldValue),
        ("HTTP/1.1 200 a\rb", Fault::LineEnd),
    ] {
        refused(format!("{line}\r\ncontent-length: 0\r\n\r\n").as_bytes(), fault);
    }
    refused(b"\r\nHTTP/1.1 200 OK\r\n\r\n", Fault::StartLine);
    refused(b"\x15\x03\x01\x00\x02", Fault::StartLine);
    for (line, seen) in [
        ("HTTP/1.1 200", "200  None"),
        ("HTTP/1.1 200 ", "200  None"),
        ("HTTP/1.1 200  two\tparts ", "200  two\\tparts  None"),
        ("HTTP/1.1 599 x", "599 x None"),
        ("HTTP/1.1 999 x", "999 x None"),
    ] {
        let text = responses_to_get(format!("{line}\r\ncontent-length: 0\r\n\r\n").as_bytes());
        assert!(text.text().contains(seen), "{}", text.text());
    }
}

#[test]
fn interim_responses() {
    let interim = "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n";
    let last = "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n";
    let text = answer_to(GET, (interim.repeat(16) + last).as_bytes());
    assert_eq!(text.matches("interim").count(), 16);
    // A length says nothing about 1xx and 204, and is not passed on.
    assert!(!text.contains("length Some") && text.ends_with("end\neof NeedMore"), "{text}");
    let text = answer_to(GET, (interim.repeat(17) + last).as_bytes());
    assert!(text.ends_with("error 400 TooManyInterimResponses http1.codec_error"), "{text}");
}

#[test]
fn switching_protocols() {
    let good =
        b"HTTP/1.1 101 S\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\nraw";
    let text = answer_to(UPGRADE, good);
    assert!(text.contains("101 S Tunnel") && text.ends_with("data raw\neof End"), "{text}");
    let bad: [(&str, &[u8]); 8] = [
        (GET, good),
        (HEAD, good),
        (CONNECT, good),
        (UPGRADE, b"HTTP/1.1 101 S\r\n\r\n"),
        (UPGRADE, b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n"),
        (UPGRADE, b"HTTP/1.1 101 S\r\nConnection: upgrade\r\n\r\n"),
        (UPGRADE, b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
        (UPGRADE, b"HTTP/1.0 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
    ];
    for (request, input) in bad {
        let text = answer_to(request, input);
        assert_eq!(text, "error 400 SwitchingProtocols http1.codec_error", "{request}");
    }
    let long = "websocket,".repeat(8) + "websocket";
    let input = format!("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: {long}\r\n\r\n");
    assert!(answer_to(UPGRADE, input.as_bytes()).contains("SwitchingProtocols"));
    // The upgrade was asked for and taken out again before it was sent.
    let mut stripped = request(UPGRADE);
    tidegate_http::h1::strip_hop_by_hop(&mut stripped.headers, false);
    let text = read_responses(&stripped, good, &[], Options::default(), Limits::default()).text();
    assert!(text.starts_with("error 400 SwitchingProtocols"), "{text}");
    // Refused: it stays HTTP, whatever the fields say.
    let refusal = ok(b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n");
    let text = answer_to(UPGRADE, &[&refusal[..], b"hi"].concat());
    assert!(text.contains("Exact(2)") && text.ends_with("data hi\nend\neof NeedMore"), "{text}");
}

#[test]
fn framing_that_depends_on_the_request() {
    for (request, lines, body) in [
        (HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "None length Some(5)"),
        (HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", "None length None"),
        (HEAD, "HTTP/1.1 200 OK\r\n", "None length None close false"),
        (GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n", "None length Some(5)"),
        (GET, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n", "None length None"),
        (CONNECT, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n", "None length Some(0)"),
    ] {
        let text = answer_to(request, format!("{lines}\r\n").as_bytes());
        assert!(text.contains(body) && text.ends_with("end\neof NeedMore"), "{text}");
        // Bytes that follow are nobody's.
        let text = answer_to(request, format!("{lines}\r\nextra").as_bytes());
        assert!(text.ends_with("end\nerror 400 Unannounced http1.codec_error"), "{text}");
    }
    let text = answer_to(CONNECT, b"HTTP/1.1 299 OK\r\nContent-Length: 1\r\n\r\nraw bytes");
    assert!(text.contains("Tunnel length None") && text.contains("data raw bytes"), "{text}");
    // RFC 9110 9.3.6: framing fields are ignored there, even when they contradict each other.
    let both = ok(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    let text = answer_to(CONNECT, &[&both[..], b"raw"].concat());
    assert!(text.contains("Tunnel length None") && text.contains("data raw"), "{text}");
}

#[test]
fn ends_of_connections() {
    refused(b"HTTP/1.1 200 OK\r\nContent-", Fault::CutOff);
    for body in ["abc", ""] {
        let text = answer_to(GET, &[&ok(b"Content-Length: 4\r\n"), body.as_bytes()].concat());
        assert!(text.ends_with("error 400 CutOff http1.codec_error"), "{text}");
        let text =
            answer_to(GET, &[&ok(b"Transfer-Encoding: chunked\r\n"), body.as_bytes()].concat());
        assert!(text.ends_with("error 400 CutOff http1.codec_error"), "{text}");
    }
    let text = answer_to(GET, &[&ok(b"Transfer-Encoding: chunked\r\n")[..], b"0\r\n"].concat());
    assert!(text.ends_with("error 400 CutOff http1.codec_error"), "{text}");
    assert_eq!(answer_to(GET, b""), "eof NeedMore");
    assert!(answer_to(GET, &ok(b"")).ends_with("eof End"));
    assert!(answer_to(GET, b"HTTP/1.1 100 C\r\n\r\n").ends_with("eof NeedMore"));
    let closing = [&ok(b"Connection: x, Close\r\nContent-Length: 1\r\n")[..], b"abc"].concat();
    assert!(answer_to(GET, &closing).ends_with("data a\nend\neof NeedMore"));
}

#[test]
fn one_connection_many_responses() {
    let mut decoder = ResponseDecoder::new(Options::default(), Limits::default());
    let mut head = ResponseHead::default();
    let get: RequestHead = request(GET);
    for _ in 0..3 {
        assert!(decoder.is_idle());
        assert_eq!(decoder.decode(b"", &mut head).unwrap().event, Event::NeedMore);
        decoder.expect(&get);
        assert!(!decoder.is_idle());
        let input = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
        let step = decoder.decode(input, &mut head).unwrap();
        assert_eq!((step.event, head.body), (Event::Head, BodyLength::Exact(1)));
        assert_eq!(
            decoder.decode(&input[step.consumed..], &mut head).unwrap().event,
            Event::Data(0..1)
        );
        assert_eq!(decoder.decode(b"", &mut head).unwrap().event, Event::End);
    }
    let poisoned = decoder.decode(b"HTTP/1.1 200 OK\r\n\r\n", &mut head);
    assert_eq!(poisoned.unwrap_err().fault, Fault::Unannounced);
    assert!(!decoder.is_idle());
}
