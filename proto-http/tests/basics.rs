//! The life of ordinary messages, from bytes to events and back to bytes.
//!
//! What it leaves to others: malformed messages (`malformed.rs`), the RFC's rules (`rfc9112.rs`).

mod common;

use common::{request, responses_to_get, strict};
use tidegate_http::h1::{
    Event, Options, RequestDecoder, ResponseDecoder, Step, encode_chunk_end, encode_chunk_start,
    encode_last_chunk, encode_request, encode_response, strip_hop_by_hop,
};
use tidegate_http::{BodyLength, Headers, Limits, RequestHead, ResponseHead};

#[test]
fn pipelined_requests() {
    let text = strict(
        b"GET /a?b HTTP/1.1\r\nHost: x.example:80\r\nAccept: */*\r\n\r\n\
          POST /c HTTP/1.1\r\nhost:y\r\nContent-Length: 003\r\n\r\nabc\
          PUT /d HTTP/1.1\r\nHost: z\r\nTransfer-Encoding: chunked\r\n\r\n\
          3\r\nabc\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\nDELETE",
    )
    .text();
    assert_eq!(
        text,
        "request Http11 GET /a?b at x.example:80 None None length None close false continue false \
         upgrade false [host: x.example:80] [accept: */*]\nend\n\
         request Http11 POST /c at y None Exact(3) length Some(3) close false continue false \
         upgrade false [host: y] [content-length: 003]\ndata abc\nend\n\
         request Http11 PUT /d at z None Chunked length None close false continue false \
         upgrade false [host: z] [transfer-encoding: chunked]\ndata abc0123456789\nend\nin head"
    );
}

#[test]
fn responses_of_each_framing() {
    let text = responses_to_get(
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
          HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    )
    .text();
    assert_eq!(
        text,
        "interim response Http11 103 Early Hints None length None close false upgrade false \
         [link: x]\nresponse Http11 200 OK Exact(2) length Some(2) close false upgrade false \
         [content-length: 2]\ndata hi\nend\neof NeedMore"
    );
    let text = responses_to_get(b"HTTP/1.0 404 \r\nserver: s\r\n\r\nuntil the end").text();
    assert_eq!(
        text,
        "response Http10 404  UntilClose length None close true upgrade false [server: s]\n\
         data until the end\neof End"
    );
}

#[test]
fn an_unchanged_head_comes_out_as_it_came() {
    let wire = "GET /a HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nx-y:  padded \r\nx-z: 1\r\n\r\n";
    let mut out = Vec::new();
    encode_request(&request(wire), BodyLength::None, &mut out);
    let expected = "GET /a HTTP/1.1\r\nhost: x\r\naccept: */*\r\nx-y: padded\r\nx-z: 1\r\n\r\n";
    assert_eq!(out.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
}

#[test]
fn a_changed_head_comes_out_changed() {
    let mut head = request(
        "POST http://other/p HTTP/1.1\r\nHost: x\r\nConnection: close, X-Gone\r\nX-Gone: 1\r\n\
         Content-Length: 007\r\nTE: gzip, Trailers\r\nX-Stay: 2\r\n\r\n",
    );
    strip_hop_by_hop(&mut head.headers, false);
    head.set_path(b"/rewritten");
    head.headers.append(b"x-forwarded-proto", b"http");
    head.headers.append(b"x-request-id", b"7");
    let mut out = Vec::new();
    encode_request(&head, BodyLength::Exact(7), &mut out);
    assert_eq!(
        out.escape_ascii().to_string(),
        b"POST /rewritten HTTP/1.1\r\nhost: other\r\nte: trailers\r\nx-stay: 2\r\n\
          x-forwarded-proto: http\r\nx-request-id: 7\r\ncontent-length: 7\r\n\r\n"
            .escape_ascii()
            .to_string()
    );
}

#[test]
fn response_and_chunks_out() {
    let mut head = ResponseHead { status: 200, ..ResponseHead::default() };
    head.reason = head.headers.store(b"OK");
    head.headers.append(b"server", b"envoy");
    let mut out = Vec::new();
    encode_response(&head, BodyLength::Chunked, true, &mut out);
    encode_chunk_start(0x1a0, &mut out);
    encode_chunk_end(&mut out);
    let mut trailers = Headers::default();
    trailers.append(b"x-t", b"1");
    encode_last_chunk(Some(&trailers), &mut out);
    encode_last_chunk(None, &mut out);
    assert_eq!(
        out.escape_ascii().to_string(),
        b"HTTP/1.1 200 OK\r\nserver: envoy\r\ntransfer-encoding: chunked\r\n\
          connection: close\r\n\r\n1a0\r\n\r\n0\r\nx-t: 1\r\n\r\n0\r\n\r\n"
            .escape_ascii()
            .to_string()
    );
}

/// An upgrade through both decoders: bytes after the request are left alone until it is decided.
#[test]
fn upgrade_to_a_tunnel() {
    let input =
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00";
    let mut requests = RequestDecoder::new(Options::default(), Limits::default());
    let mut head = RequestHead::default();
    let step = requests.decode(input, &mut head).unwrap();
    assert!(step.event == Event::Head && head.upgrade);
    let rest = &input[step.consumed..];
    assert_eq!(requests.decode(rest, &mut head), Ok(Step { consumed: 0, event: Event::End }));
    assert_eq!(requests.decode(rest, &mut head), Ok(Step { consumed: 0, event: Event::NeedMore }));
    assert!(requests.is_waiting() && !requests.is_idle());

    strip_hop_by_hop(&mut head.headers, true);
    let mut responses = ResponseDecoder::new(Options::default(), Limits::default());
    responses.expect(&head);
    let mut answer = ResponseHead::default();
    let input =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\nx";
    let step = responses.decode(input, &mut answer).unwrap();
    assert_eq!((step.event, answer.body), (Event::Head, BodyLength::Tunnel));
    let tunnelled = Step { consumed: 0, event: Event::Tunnel };
    assert_eq!(responses.decode(&input[step.consumed..], &mut answer), Ok(tunnelled.clone()));
    requests.tunnel();
    assert_eq!(requests.decode(rest, &mut head), Ok(tunnelled));

    let mut out = Vec::new();
    strip_hop_by_hop(&mut answer.headers, true);
    encode_response(&answer, answer.body, true, &mut out);
    assert_eq!(
        out.escape_ascii().to_string(),
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nconnection: upgrade\r\n\r\n"
            .escape_ascii()
            .to_string()
    );
}

/// Bytes that an owner passes on by other means are counted by `skip_body`, wherever it does so.
#[test]
fn a_body_can_go_past_the_decoder() {
    let message = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
    for shown in 0..=10 {
        for skipped in 0..=10 - shown {
            let mut decoder = strict_response_decoder();
            let mut head = ResponseHead::default();
            let length = message.len() - 10;
            let step = decoder.decode(&message[..length], &mut head).unwrap();
            assert_eq!((step.consumed, step.event), (length, Event::Head));
            assert_eq!(decoder.exact_body_left(), Some(10));
            if shown > 0 {
                let step = decoder.decode(&message[length..length + shown], &mut head).unwrap();
                assert_eq!(step.event, Event::Data(0..shown));
            }
            decoder.skip_body(skipped as u64);
            let rest = &message[length + shown + skipped..];
            if !rest.is_empty() {
                assert_eq!(decoder.exact_body_left(), Some(rest.len() as u64));
                let step = decoder.decode(rest, &mut head).unwrap();
                assert_eq!(step.event, Event::Data(0..rest.len()));
            }
            assert_eq!(decoder.decode(&[], &mut head).unwrap().event, Event::End);
            assert!(decoder.is_idle() && decoder.exact_body_left().is_none());
        }
    }
}

#[test]
#[should_panic(expected = "more was passed on than the body has")]
fn no_more_can_go_past_than_there_is() {
    let mut decoder = strict_response_decoder();
    let mut head = ResponseHead::default();
    decoder.decode(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", &mut head).unwrap();
    decoder.skip_body(11);
}

fn strict_response_decoder() -> ResponseDecoder {
    let mut decoder = ResponseDecoder::new(Options::default(), Limits::default());
    decoder.expect(&request("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    decoder
}
