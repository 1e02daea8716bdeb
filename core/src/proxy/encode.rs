//! Heads on their way out, spelt as the other side wants them.
//!
//! What it leaves to others: what is in them (`mutate`), how they are framed (`tidegate-http`).

use super::measure::field_lines_size;
use super::stream::Stream;
use crate::config::{Cluster, HeaderKeyFormat, HttpConnectionManager};
use tidegate_http::h1::{NameCase, encode_request, encode_response};
use tidegate_http::{BodyLength, Headers, Method, RequestHead, ResponseHead, Scheme};

/// Writes the head of a stream's request for a host of this cluster.
pub(super) fn write_request(stream: &mut Stream, cluster: &Cluster, out: &mut Vec<u8>) {
    let start = out.len();
    let (request, body) = (&mut stream.request, stream.request_body);
    if cluster.http1.send_fully_qualified_url {
        write_with_whole_url(request, body, out);
    } else {
        encode_request(request, body, out);
    }
    let ours = stream.listener.http.config.http1.header_key_format;
    let case = case_of(&stream.request.headers, ours, cluster.http1.header_key_format);
    if let Some(case) = case {
        case.apply(&mut out[start..]);
    }
    if let Some(measured) = &mut stream.measured {
        measured.head = field_lines_size(&out[start..]);
    }
}

/// Writes a response's head. `upstream` is how names are spelt where it comes from, if it comes
/// from an upstream.
pub(super) fn write_response(
    response: &ResponseHead,
    body: BodyLength,
    close: bool,
    config: &HttpConnectionManager,
    upstream: Option<HeaderKeyFormat>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    encode_response(response, body, close, out);
    let ours = config.http1.header_key_format;
    if let Some(case) = case_of(&response.headers, upstream.unwrap_or_default(), ours) {
        case.apply(&mut out[start..]);
    }
}

/// How names are spelt: as they were received, if that was asked for on that side; else as is asked
/// for on the side that they go to.
fn case_of(headers: &Headers, from: HeaderKeyFormat, to: HeaderKeyFormat) -> Option<NameCase<'_>> {
    match (from, to) {
        (HeaderKeyFormat::PreserveCase { proper_case_others }, _) => {
            Some(NameCase::Received { headers, proper_others: proper_case_others })
        }
        (_, HeaderKeyFormat::ProperCaseWords) => Some(NameCase::Proper),
        (_, HeaderKeyFormat::LowerCase | HeaderKeyFormat::PreserveCase { .. }) => None,
    }
}

/// `send_fully_qualified_url`: the target is in absolute-form (RFC 9112 3.2.2).
fn write_with_whole_url(request: &mut RequestHead, body: BodyLength, out: &mut Vec<u8>) {
    let path = request.path;
    if request.method != Method::Connect && request.path().first() == Some(&b'/') {
        let scheme: &[u8] = match request.scheme {
            Some(Scheme::Https) => b"https://",
            _ => b"http://",
        };
        let url = [scheme, request.authority(), request.path()].concat();
        request.set_path(&url);
    }
    encode_request(request, body, out);
    request.path = path;
}
