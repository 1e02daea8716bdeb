//! Malformed requests by class: the fault, its status, and that nothing after it is read.
//!
//! What it leaves to others: chunks (`malformed_chunks.rs`), responses (`malformed_responses.rs`).

#![allow(clippy::unwrap_used, clippy::panic)] // in functions that tests share

mod common;

use common::{read_requests, strict, with};
use tidegate_http::h1::Options;
use tidegate_http::{Fault, Limits};

/// Asserts that `input` fails with `fault` and `status`, and says nothing about a request before.
fn refused(input: &[u8], fault: Fault, status: u16) {
    let transcript = strict(input);
    let Some(error) = transcript.error else {
        panic!("accepted: {}\n{}", input.escape_ascii(), transcript.text())
    };
    assert_eq!((error.fault, error.status), (fault, status), "{}", input.escape_ascii());
    assert_eq!(transcript.lines.len(), 1, "{}\n{}", input.escape_ascii(), transcript.text());
}

/// A request with these lines after the request line.
fn post(lines: &[u8]) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: a\r\n", lines, b"\r\n"].concat()
}

fn accepted(input: &[u8]) -> String {
    let transcript = strict(input);
    assert_eq!(transcript.error, None, "{}", input.escape_ascii());
    transcript.text()
}

// A. content-length

#[test]
fn content_length_grammar() {
    let bad: &[&[u8]] = &[
        b"",
        b"+5",
        b"-5",
        b"-0",
        b"0x5",
        b"0o5",
        b"1_0",
        b"1 0",
        b"0 5",
        b"5.0",
        b"5e0",
        b"5;",
        b"5a",
        b"N",
        b"9223372036854775808",
        b"18446744073709551616",
        b"18446744073709551621",
        b"999999999999999999999999999999",
        b"\xa05",
        b"5\x85",
        b"5\xff",
    ];
    for value in bad {
        let input = post(&[b"Content-Length: ", *value, b"\r\n"].concat());
        refused(&input, Fault::ContentLength, 400);
    }
    for value in [&b"\x0b5"[..], b"5\x0c", b"5\0", b"\x7f5"] {
        let input = post(&[b"Content-Length: ", value, b"\r\n"].concat());
        refused(&input, Fault::FieldValue, 400);
    }
    for value in [&b"5, 5"[..], b"5,6", b"5,5,5", b"5,", b",5"] {
        let input = post(&[b"Content-Length: ", value, b"\r\n"].concat());
        refused(&input, Fault::ContentLengthDuplicate, 400);
    }
    for second in [&b"5"[..], b"6", b"05"] {
        let input = post(&[b"Content-Length: 5\r\nContent-Length: ", second, b"\r\n"].concat());
        refused(&input, Fault::ContentLengthDuplicate, 400);
    }
}

#[test]
fn content_length_that_is_good() {
    for (value, length) in
        [("5", 5), ("005", 5), ("010", 10), ("0200", 200), ("  5", 5), ("5 \t", 5), ("\t5", 5)]
    {
        let text = accepted(&post(format!("Content-Length:{value}\r\n").as_bytes()));
        assert!(text.contains(&format!("Exact({length}) length Some({length})")), "{text}");
    }
    for value in ["0", "00"] {
        let text = accepted(&post(format!("Content-Length: {value}\r\n").as_bytes()));
        assert!(text.contains("None length Some(0)"), "{text}");
    }
    // The largest, and no body in sight: no memory is set aside.
    accepted(&post(b"Content-Length: 9223372036854775807\r\n"));
}

// B. transfer-encoding

#[test]
fn transfer_encoding_grammar() {
    let malformed: &[&[u8]] = &[
        b"",
        b",chunked",
        b", chunked",
        b"chunked,",
        b"chunked, chunked",
        b"chunked, identity",
        b"chunked,gzip",
        b"chunked;x=y",
        b"\"chunked\"",
        b"\xa0chunked",
        b"chunked\x85",
        b"\xffchunked",
        b"chunked x",
        b"=?UTF-8?B?Y2h1bmtlZA==?=",
        b"chunked chunked",
    ];
    for value in malformed {
        let input = post(&[b"Transfer-Encoding: ", *value, b"\r\n"].concat());
        refused(&input, Fault::TransferEncoding, 400);
    }
    let unknown: &[&[u8]] =
        &[b"xchunked", b"chunk", b"'chunked'", b"identity", b"gzip", b"gzip, chunked", b"cow"];
    for value in unknown {
        let input = post(&[b"Transfer-Encoding: ", *value, b"\r\n"].concat());
        refused(&input, Fault::TransferCodingUnknown, 501);
    }
    for value in [&b"\x0bchunked"[..], b"\x0cchunked", b"chunked\0", b"\x7f"] {
        let input = post(&[b"Transfer-Encoding: ", value, b"\r\n"].concat());
        refused(&input, Fault::FieldValue, 400);
    }
    for lines in [
        &b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"[..],
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    ] {
        refused(&post(lines), Fault::TransferEncoding, 400);
    }
    refused(&post(b"Transfer-Encoding:\r\n chunked\r\n"), Fault::LineFolding, 400);
    refused(&post(b"Transfer-Encoding: \n chunked\r\n"), Fault::LineEnd, 400);
    for lines in [
        &b"Transfer-Encoding:\r chunked\r\n"[..],
        b"Transfer-Encoding\r: chunked\r\n",
        b"Transfer-Encoding: chun\rked\r\n",
        b"Transfer-Encoding: chunked\r\r\n",
        b"Foo: bar\rTransfer-Encoding: chunked\r\n",
    ] {
        refused(&post(lines), Fault::LineEnd, 400);
    }
}

#[test]
fn transfer_encoding_next_to_other_framing() {
    let both: [&[u8]; 5] = [
        b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: CHUNKED\r\nContent-Length: 0\r\n",
        b"TRANSFER-ENCODING: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding:chunked \r\nContent-Length: 5\r\n",
    ];
    for lines in both {
        let input = [&post(lines), &b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n"[..]].concat();
        refused(&input, Fault::TransferEncodingWithContentLength, 400);
    }
    refused(
        &post(b"Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n"),
        Fault::TransferCodingUnknown,
        501,
    );
    let input = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    refused(input, Fault::LowVersion, 426);
    let options = Options { accept_http_10: true, ..Options::default() };
    let error = read_requests(input, &[], options, Limits::default()).error.unwrap();
    assert_eq!((error.fault, error.status), (Fault::TransferEncodingNotAllowed, 400));
}

#[test]
fn names_that_only_look_like_transfer_encoding_frame_nothing() {
    for name in
        ["Transfer_Encoding", "Transfer-%45ncoding", "X-Transfer-Encoding", "Content_Length"]
    {
        let text = accepted(&post(format!("{name}: chunked\r\n").as_bytes()));
        assert!(text.contains("None length None") && text.contains("chunked]"), "{text}");
    }
}

// C. names

#[test]
fn field_names() {
    let mut bad: Vec<Vec<u8>> = [
        &b"X : y"[..],
        b"X\t: y",
        b"Transfer-Encoding : chunked",
        b"Content-Length : 5",
        b"Content\tLength: 5",
        b": y",
        b" : y",
        b"no colon",
        b"nocolon",
        b"X\xc3\xab: y",
        b"X\x85: y",
        b"X\x7f: y",
        b"X\0: y",
        b"[X]: y",
    ]
    .map(Vec::from)
    .to_vec();
    for byte in b"(),/;<=>?@[\\]{}\" " {
        bad.push([b"X", &[*byte][..], b"Y: z"].concat());
    }
    for line in bad {
        let fault = if line[0] == b' ' { Fault::LineFolding } else { Fault::FieldName };
        refused(&post(&[&line, &b"\r\n"[..]].concat()), fault, 400);
    }
    for line in [&b" X: y"[..], b"\tX: y"] {
        refused(
            &[b"GET / HTTP/1.1\r\n", line, b"\r\nHost: a\r\n\r\n"].concat(),
            Fault::LineFolding,
            400,
        );
    }
    accepted(&post(b"!#$%&'*+-.^_`|~aZ09: fine\r\nunder_score: 1\r\n"));
}

// D. values

#[test]
fn field_values() {
    for byte in (0..=31u8).chain([0x7f]).filter(|b| !b"\t\n\r".contains(b)) {
        refused(&post(&[b"X: a", &[byte][..], b"b\r\n"].concat()), Fault::FieldValue, 400);
    }
    refused(&post(b"X: a\nb: c\r\n"), Fault::LineEnd, 400);
    refused(&post(b"X: a\rb\r\n"), Fault::LineEnd, 400);
    refused(&post(b"X: a\r\n b\r\n"), Fault::LineFolding, 400);
    refused(&post(b"X: a\r\n\t\r\n"), Fault::LineFolding, 400);
    let text = accepted(&post(b"X: \t a\xe9\xff b \t \r\nY:\r\nZ: \r\n"));
    assert!(text.contains("[x: a\\xe9\\xff b] [y: ] [z: ]"), "{text}");
}

#[test]
fn sizes_of_heads() {
    let long = vec![b'a'; 100 * 1024];
    let too_large: [Vec<u8>; 4] = [
        [b"GET /", &long[..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat(),
        [&long[..], b" / HTTP/1.1\r\nHost: a\r\n\r\n"].concat(),
        post(&[b"X: ", &long[..], b"\r\n"].concat()),
        post(&[&long[..], b": x\r\n"].concat()),
    ];
    for input in too_large {
        let error = strict(&input).error.unwrap();
        assert_eq!((error.fault, error.status), (Fault::HeadTooLarge, 431));
        assert_eq!(error.details, "http1.headers_too_large");
    }
    // RFC 9112 3: a request line of 8000 bytes is fine.
    accepted(&[b"GET /", &long[..8000], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat());

    let many = |count: usize| post("x: y\r\n".repeat(count - 1).as_bytes());
    accepted(&many(100));
    let error = strict(&many(101)).error.unwrap();
    assert_eq!((error.fault, error.status), (Fault::TooManyFields, 431));
    assert_eq!(strict(&many(10_000)).error.unwrap().fault, Fault::TooManyFields);
    // A configuration above what fits on the stack.
    let limits = Limits { fields_max: 500, ..Limits::default() };
    let read = |count| read_requests(&many(count), &[], Options::default(), limits);
    assert_eq!(read(500).error, None);
    assert_eq!(read(500).text().matches("[x: y]").count(), 499);
    assert_eq!(read(501).error.unwrap().fault, Fault::TooManyFields);
}

#[test]
fn the_size_limit_is_exact() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (max, is_good) in [(input.len(), true), (input.len() - 1, false), (0, false)] {
        let limits = Limits { head_bytes_max: max, ..Limits::default() };
        let error = read_requests(input, &[], Options::default(), limits).error;
        assert_eq!(error.is_none(), is_good, "{max}");
    }
}

// E. line ends

#[test]
fn line_ends() {
    refused(b"GET / HTTP/1.1\nHost: a\r\n\r\n", Fault::LineEnd, 400);
    refused(b"GET / HTTP/1.1\r\nHost: a\n\r\n", Fault::LineEnd, 400);
    refused(b"GET / HTTP/1.1\r\nHost: a\r\n\n", Fault::LineEnd, 400);
    refused(b"GET / HTTP/1.1\r\nHost:\n\r\n", Fault::LineEnd, 400);
    refused(b"GET / HTTP/1.1\r\nHost: a \t\n\r\n", Fault::LineEnd, 400);
    // Told before any LF comes.
    refused(b"GET / HTTP/1.1\rHost: a\r\r", Fault::LineEnd, 400);
    refused(b"GET / HTTP/1.1\r\nHost: a\r\n\rX", Fault::LineEnd, 400);
    refused(b"GET / HTTP/1.1\r\r\n\r\n", Fault::LineEnd, 400);
    refused(b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Fault::LineEnd, 400);
    refused(b"\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::LineEnd, 400);
    refused(b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::LineEnd, 400);
    refused(b" \r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Method, 400);
    refused(&[&b"\r\n".repeat(9)[..], b"GET"].concat(), Fault::EmptyLines, 400);
    accepted(&[&b"\r\n".repeat(8)[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
}

/// What Envoy's options allow, and nothing else.
#[test]
fn what_options_allow() {
    let backslash = Options { allow_backslash: true, ..Options::default() };
    assert_eq!(with(backslash, b"GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n").error, None);
    let known = Options { known_methods_only: true, ..Options::default() };
    for method in ["GET", "PATCH", "PROPFIND", "M-SEARCH", "PURGE"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(with(known, request.as_bytes()).error, None);
    }
    for method in ["FOO", "get", "GETS"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        let error = with(known, request.as_bytes()).error.map(|error| error.fault);
        assert_eq!(error, Some(Fault::Method), "{method}");
        assert_eq!(strict(request.as_bytes()).error, None);
    }
    let both = Options { allow_chunked_length: true, ..Options::default() };
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\
        Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let read = with(both, request);
    let text = read.text();
    assert!(read.error.is_none() && text.contains("Chunked") && !text.contains("Exact"), "{text}");
    // RFC 9112 6.1: the connection ends with such a message.
    assert_eq!(text.matches("POST").count() + text.matches("GET").count(), 1, "{text}");
    let twice = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\
        Transfer-Encoding: chunked\r\n\r\n";
    let error = with(both, twice).error.map(|error| error.fault);
    assert_eq!(error, Some(Fault::ContentLengthDuplicate));
}

// G. request lines

#[test]
fn request_lines() {
    let cases: &[(&[u8], Fault, u16)] = &[
        (b"GET", Fault::Method, 400),
        (b"GET ", Fault::StartLine, 400),
        (b"GET HTTP/1.1", Fault::StartLine, 400),
        (b"GET  HTTP/1.1", Fault::StartLine, 400),
        (b"GET  / HTTP/1.1", Fault::StartLine, 400),
        (b"GET /  HTTP/1.1", Fault::StartLine, 400),
        (b"GET / HTTP/1.1 ", Fault::StartLine, 400),
        (b" GET / HTTP/1.1", Fault::Method, 400),
        (b"GET\t/ HTTP/1.1", Fault::Method, 400),
        (b"GET /\tHTTP/1.1", Fault::TargetByte, 400),
        (b"GET /a b HTTP/1.1", Fault::StartLine, 400),
        (b"G(T / HTTP/1.1", Fault::Method, 400),
        (b"G\xc3T / HTTP/1.1", Fault::Method, 400),
        (b"\x00\x01\x02\xff", Fault::Method, 400),
        (b"GET /", Fault::LowVersion, 426),
        (b"POST /", Fault::StartLine, 400),
        (b"GET / HTTP/0.9", Fault::LowVersion, 426),
        (b"GET / HTTP/1.0", Fault::LowVersion, 426),
        (b"GET / HTTP/1", Fault::StartLine, 400),
        (b"GET / HTTP/1.", Fault::StartLine, 400),
        (b"GET / HTTP/01.01", Fault::StartLine, 400),
        (b"GET / HTTP/1.10", Fault::StartLine, 400),
        (b"GET / HTTP/1.32", Fault::StartLine, 400),
        (b"GET / HTTP/ 1.1", Fault::StartLine, 400),
        (b"GET / http/1.1", Fault::StartLine, 400),
        (b"GET / HTTQ/1.1", Fault::StartLine, 400),
        (b"GET / HTTP/1.2", Fault::Version, 505),
        (b"GET / HTTP/2.0", Fault::Version, 505),
        (b"GET / HTTP/9.9", Fault::Version, 505),
        (b"PRI * HTTP/2.0", Fault::Version, 505),
        (b"GET /\0 HTTP/1.1", Fault::TargetByte, 400),
        (b"GET /\x0b HTTP/1.1", Fault::TargetByte, 400),
        (b"GET /\x7f HTTP/1.1", Fault::TargetByte, 400),
        (b"GET /\xc3\xa9 HTTP/1.1", Fault::TargetByte, 400),
        (b"GET /\xc0\xaf HTTP/1.1", Fault::TargetByte, 400),
        (b"GET /a#b HTTP/1.1", Fault::TargetByte, 400),
        (b"GET /a\\b HTTP/1.1", Fault::TargetByte, 400),
        (b"GET /..\\..\\a?b HTTP/1.1", Fault::TargetByte, 400),
        (b"GET * HTTP/1.1", Fault::Target, 400),
        (b"get * HTTP/1.1", Fault::Target, 400),
        (b"GET a/b HTTP/1.1", Fault::Target, 400),
        (b"GET ?a HTTP/1.1", Fault::Target, 400),
        (b"GET a:80 HTTP/1.1", Fault::Target, 400),
        (b"OPTIONS a HTTP/1.1", Fault::Target, 400),
        (b"OPTIONS ** HTTP/1.1", Fault::Target, 400),
        (b"GET http:/a HTTP/1.1", Fault::Target, 400),
        (b"GET http:///a HTTP/1.1", Fault::HostInvalid, 400),
        (b"GET http:// HTTP/1.1", Fault::HostInvalid, 400),
        (b"GET http://u@a/ HTTP/1.1", Fault::HostInvalid, 400),
        (b"GET http://u:p@a/ HTTP/1.1", Fault::HostInvalid, 400),
        (b"GET http://a:b/ HTTP/1.1", Fault::HostInvalid, 400),
        (b"GET http://a,b/ HTTP/1.1", Fault::HostInvalid, 400),
        (b"GET http://[::1/ HTTP/1.1", Fault::HostInvalid, 400),
        (b"GET ftp://a/ HTTP/1.1", Fault::Scheme, 400),
        (b"GET ://a/ HTTP/1.1", Fault::Scheme, 400),
        (b"GET http://a/#b HTTP/1.1", Fault::TargetByte, 400),
        (b"CONNECT a HTTP/1.1", Fault::Target, 400),
        (b"CONNECT a: HTTP/1.1", Fault::Target, 400),
        (b"CONNECT a:0 HTTP/1.1", Fault::Target, 400),
        (b"CONNECT a:65536 HTTP/1.1", Fault::HostInvalid, 400),
        (b"CONNECT :80 HTTP/1.1", Fault::HostInvalid, 400),
        (b"CONNECT /a HTTP/1.1", Fault::HostInvalid, 400),
        (b"CONNECT http://a:1/ HTTP/1.1", Fault::HostInvalid, 400),
        (b"CONNECT u@a:1 HTTP/1.1", Fault::HostInvalid, 400),
    ];
    for (line, fault, status) in cases {
        refused(&[*line, b"\r\nHost: a\r\n\r\n"].concat(), *fault, *status);
    }
    let options = Options { reject_absolute_url: true, ..Options::default() };
    let input = b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n";
    let error = read_requests(input, &[], options, Limits::default()).error.unwrap();
    assert_eq!(error.fault, Fault::Scheme);
}

#[test]
fn targets_that_are_good() {
    for (line, seen) in [
        ("GET /a\"<>^`{|}?\\ HTTP/1.1", r#"GET /a\"<>^`{|}?\\ at a None"#),
        ("GET /%00%0d%0a/../%2e// HTTP/1.1", "GET /%00%0d%0a/../%2e// at a None"),
        ("OPTIONS * HTTP/1.1", "OPTIONS * at a None"),
        ("OPTIONS http://b HTTP/1.1", "OPTIONS * at b Some(Http)"),
        ("GET http://b HTTP/1.1", "GET / at b Some(Http)"),
        ("GET HTTPS://b:443?q HTTP/1.1", "GET /?q at b:443 Some(Https)"),
        ("GET http://[::1]:8/x HTTP/1.1", "GET /x at [::1]:8 Some(Http)"),
        ("get / HTTP/1.1", "get / at a None"),
        ("X-METHOD! / HTTP/1.1", "X-METHOD! / at a None"),
        ("CONNECT b:443 HTTP/1.1", "CONNECT  at b:443 None Tunnel"),
    ] {
        let text = accepted(format!("{line}\r\nHost: a\r\n\r\n").as_bytes());
        assert!(text.contains(seen), "{line}: {text}");
    }
}

// H. host

#[test]
fn hosts() {
    refused(b"GET / HTTP/1.1\r\n\r\n", Fault::HostMissing, 400);
    refused(b"OPTIONS * HTTP/1.1\r\n\r\n", Fault::HostMissing, 400);
    refused(b"GET http://a/ HTTP/1.1\r\n\r\n", Fault::HostMissing, 400);
    for second in ["a", "b", ""] {
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhOST: {second}\r\n\r\n");
        refused(input.as_bytes(), Fault::HostDuplicate, 400);
    }
    for value in [
        "", "a,b", "a, b", "a b", "u@h", "u:p@h", "h/x", "/", "h:80x", "h:99999", "h:65536",
        "h:-1", "h:80:80", "[::1", "[::g]", "::1", "http://h", "h?x", "h\\x", "h\"", "\u{e9}",
        ":80",
    ] {
        let input = format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n");
        refused(input.as_bytes(), Fault::HostInvalid, 400);
        let input = format!("GET http://a/ HTTP/1.1\r\nHost: {value}\r\n\r\n");
        refused(input.as_bytes(), Fault::HostInvalid, 400);
    }
    for value in ["a", "A.Example.", "a:", "a:0", "a:65535", "[::1]:80", "127.0.0.1", "a_b", "a%20"]
    {
        let text = accepted(format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n").as_bytes());
        assert!(text.contains(&format!(" at {value} None")), "{text}");
    }
}
