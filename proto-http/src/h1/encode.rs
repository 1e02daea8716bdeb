//! Writing heads, chunks and trailers.
//!
//! What it leaves to others: deciding which fields to add or remove, except the framing fields, which are
//! written from the body length alone so that what is sent is always framed once.

use crate::{BodyLength, Headers, RequestHead, ResponseHead};
use alloc::vec::Vec;

/// Removes the hop-by-hop fields of RFC 9110 7.6.1: everything that `connection` names, and `connection`,
/// `proxy-connection`, `keep-alive`, `te` (except `trailers`), `transfer-encoding` and `upgrade`; `content-length`
/// too, since framing fields are written anew. With `keep_upgrade`, `connection: upgrade` and `upgrade` stay.
/// A name that must not be removed this way (`host`, `content-length`, `:authority`, …) is ignored in `connection`.
pub fn strip_hop_by_hop(headers: &mut Headers, keep_upgrade: bool) {
    let _ = (headers, keep_upgrade);
}

/// Writes a request head for an upstream, with `body` as its framing: `content-length` for `Exact`, also
/// `content-length: 0` when `head.content_length` is `Some(0)`; `transfer-encoding: chunked` for `Chunked`.
/// Field names come out in lower case. `host` is written from `head.authority`, at the place of the `host` field.
pub fn encode_request(head: &RequestHead, body: BodyLength, out: &mut Vec<u8>) {
    let _ = (head, body, out);
}

/// Writes a response head, as HTTP/1.1. `close` adds `connection: close`. `content-length` of HEAD and 304 comes
/// from `head.content_length`.
pub fn encode_response(head: &ResponseHead, body: BodyLength, close: bool, out: &mut Vec<u8>) {
    let _ = (head, body, close, out);
}

/// Writes the line before a chunk's data. `length` is not zero.
pub fn encode_chunk_start(length: usize, out: &mut Vec<u8>) {
    let _ = (length, out);
}

/// Writes the line end after a chunk's data.
pub fn encode_chunk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk and the trailers, if any.
pub fn encode_last_chunk(trailers: Option<&Headers>, out: &mut Vec<u8>) {
    let _ = (trailers, out);
}
