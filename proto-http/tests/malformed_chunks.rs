//! Malformed chunked bodies: what frames them in two ways, and what has no end.
//!
//! What it leaves to others: the heads before them (`malformed_requests.rs`).

#![allow(clippy::unwrap_used, clippy::panic)] // in functions that tests share

mod common;

use common::strict;
use tidegate_http::Fault;

const START: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fn accepted(input: &[u8]) -> String {
    let transcript = strict(input);
    assert_eq!(transcript.error, None, "{}", input.escape_ascii());
    transcript.text()
}

#[test]
fn chunks() {
    let cases: &[(&[u8], Fault)] = &[
        (b"0x1\r\na\r\n", Fault::ChunkSize),
        (b"+1\r\n", Fault::ChunkSize),
        (b"-1\r\n", Fault::ChunkSize),
        (b"1_0\r\n", Fault::ChunkSize),
        (b" 1\r\n", Fault::ChunkSize),
        (b"1 \r\n", Fault::ChunkSize),
        (b"1 ;a\r\n", Fault::ChunkSize),
        (b"\t1\r\n", Fault::ChunkSize),
        (b"  0\r\n", Fault::ChunkSize),
        (b"\r\n", Fault::ChunkSize),
        (b";a\r\n", Fault::ChunkSize),
        (b"g\r\n", Fault::ChunkSize),
        (b"\"1\"\r\n", Fault::ChunkSize),
        (b"1\n", Fault::ChunkSize),
        (b"1\r\r\n", Fault::ChunkSize),
        (b"1\rX", Fault::ChunkSize),
        (b"10000000000000001\r\n", Fault::ChunkSize),
        (b"00000000000000001\r\n", Fault::ChunkSize),
        (b"1;\r\n", Fault::ChunkExtension),
        (b"1;;\r\n", Fault::ChunkExtension),
        (b"1;a;\r\n", Fault::ChunkExtension),
        (b"1;a=\r\n", Fault::ChunkExtension),
        (b"1;=b\r\n", Fault::ChunkExtension),
        (b"1;a=b=c\r\n", Fault::ChunkExtension),
        (b"1;a=b \r\n", Fault::ChunkExtension),
        (b"1;a =b =c\r\n", Fault::ChunkExtension),
        (b"1;a b\r\n", Fault::ChunkExtension),
        (b"1;a[b]\r\n", Fault::ChunkExtension),
        (b"1;a=\0\r\n", Fault::ChunkExtension),
        (b"1;a=\"\x7f\"\r\n", Fault::ChunkExtension),
        (b"1;a=\"b\r\n", Fault::ChunkExtension),
        (b"1;a=\"b\"c\r\n", Fault::ChunkExtension),
        (b"1;a\n", Fault::ChunkExtension),
        (b"1;a\rX", Fault::ChunkSize),
        (b"1\r\r;a\r\n", Fault::ChunkSize),
        (b"1\r\nab\r\n", Fault::ChunkEnd),
        (b"1\r\na0\r\n\r\n", Fault::ChunkEnd),
        (b"1\r\na\n0\r\n\r\n", Fault::ChunkEnd),
        (b"1\r\na\rX0\r\n\r\n", Fault::ChunkEnd),
        (b"5\r\nabcdefg\r\n", Fault::ChunkEnd),
        (b"0\r\n\n", Fault::LineEnd),
        (b"0\r\n\rX", Fault::LineEnd),
        (b"0\r\nX: y\n\r\n", Fault::LineEnd),
        (b"0\r\nX : y\r\n\r\n", Fault::FieldName),
        (b"0\r\nX: \0\r\n\r\n", Fault::FieldValue),
        (b"0\r\n X: y\r\n\r\n", Fault::LineFolding),
        (b"0\r\nGET / HTTP/1.1\r\n\r\n", Fault::FieldName),
    ];
    for (body, fault) in cases {
        let transcript = strict(&[START, *body].concat());
        let error = transcript.error.unwrap_or_else(|| panic!("{}", body.escape_ascii()));
        assert_eq!((error.fault, error.status), (*fault, 400), "{}", body.escape_ascii());
        assert!(!transcript.text().contains("\nend"), "{}", body.escape_ascii());
    }
    // The largest size is good, and waited for.
    let text = accepted(&[START, b"ffffffffffffffff\r\nabc"].concat());
    assert!(text.ends_with("data abc\nneed more"), "{text}");
    for unfinished in [&b"1\r\na\r\n"[..], b"1\r\na\r\n0\r\n", b"0\r\nx: y\r\n", b"0\r"] {
        let text = accepted(&[START, unfinished].concat());
        assert!(text.ends_with("need more"), "{text}");
    }
    accepted(
        &[START, b"a;b;c=d;e=\"f;\\\"g\xe9\";h = i ; j\r\n0123456789\r\n0;z\r\n\r\n"].concat(),
    );
}

#[test]
fn chunk_extensions_and_trailers_have_limits() {
    let extended = |bytes: usize| [START, b"1;", &vec![b'a'; bytes], b"\r\na\r\n"].concat();
    accepted(&extended(16 * 1024 - 1));
    let error = strict(&extended(16 * 1024)).error.unwrap();
    assert_eq!((error.fault, error.status), (Fault::ChunkExtensionsTooLarge, 413));
    // The limit is for all chunks together.
    let error = strict(&[START, &b"1;aaaaaaaa\r\nb\r\n".repeat(2000)].concat()).error.unwrap();
    assert_eq!(error.fault, Fault::ChunkExtensionsTooLarge);

    let error = strict(&[START, b"0\r\n", &b"x: y\r\n".repeat(101)].concat()).error.unwrap();
    assert_eq!((error.fault, error.status), (Fault::TooManyTrailers, 431));
    let error = strict(&[START, b"0\r\nx: ", &vec![b'a'; 61 * 1024]].concat()).error.unwrap();
    assert_eq!((error.fault, error.status), (Fault::TrailersTooLarge, 431));
}
