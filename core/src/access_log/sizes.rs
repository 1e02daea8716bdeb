//! Sizes of heads as Envoy counts them: names and values, those of its pseudo-headers included.
//!
//! What it leaves to others: bytes on the wire (`measured`).

use super::Record;
use tidegate_http::{Headers, Name, RequestHead, Scheme};

/// `REQUEST_HEADERS_BYTES`
pub(super) fn request_headers_size(request: &RequestHead) -> u64 {
    let scheme = match request.scheme {
        Some(Scheme::Https) => ":schemehttps".len(),
        Some(Scheme::Http) => ":schemehttp".len(),
        None => 0,
    };
    let sized =
        |name: &str, value: &[u8]| if value.is_empty() { 0 } else { name.len() + value.len() };
    let pseudo = sized(":method", request.method_name())
        + sized(":path", request.path())
        + sized(":authority", request.authority())
        + scheme;
    pseudo as u64 + content_length_size(request.content_length) + fields_size(&request.headers)
}

/// `RESPONSE_HEADERS_BYTES`
pub(super) fn response_headers_size(record: &Record<'_>) -> u64 {
    let Some(response) = record.response else { return 0 };
    let status = ":status200".len() as u64;
    // Of a head that nobody could read the answer is the connection's last.
    let close = match record.request.is_none_or(|request| request.close) {
        true => "connectionclose".len() as u64,
        false => 0,
    };
    status + close + content_length_size(response.content_length) + fields_size(&response.headers)
}

fn content_length_size(length: Option<u64>) -> u64 {
    let Some(length) = length else { return 0 };
    "content-length".len() as u64 + u64::from(length.checked_ilog10().unwrap_or(0)) + 1
}

/// Fields, without those that are counted by themselves.
fn fields_size(headers: &Headers) -> u64 {
    let counted = headers.fields().iter().filter(|field| {
        !matches!(field.id, Name::Host | Name::ContentLength | Name::TransferEncoding)
    });
    counted.map(|field| u64::from(field.name.length) + u64::from(field.value.length)).sum()
}
