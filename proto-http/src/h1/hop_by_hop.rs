//! Removing the fields that concern one connection only (RFC 9110 7.6.1).
//!
//! What it leaves to others: what those fields said; the head's flags keep it.

use super::bytes::{list, lower_case};
use crate::{Field, Headers, Name, Span};
use alloc::vec::Vec;

/// Fields that are removed whether or not `connection` names them.
const ALWAYS: u64 = Name::Connection.bit()
    | Name::ProxyConnection.bit()
    | Name::KeepAlive.bit()
    | Name::Te.bit()
    | Name::TransferEncoding.bit()
    | Name::Upgrade.bit()
    | Name::ContentLength.bit();

/// Fields that stay though `connection` names them: without them a request would be framed, routed
/// or trusted otherwise. `te` has a rule of its own.
const NEVER_NOMINATED: u64 = Name::Host.bit()
    | Name::Te.bit()
    | Name::Via.bit()
    | Name::XForwardedFor.bit()
    | Name::XForwardedProto.bit()
    | Name::XForwardedHost.bit()
    | Name::XForwardedPort.bit()
    | Name::XRequestId.bit();

/// Removes the hop-by-hop fields of RFC 9110 7.6.1: everything that `connection` names, and
/// `connection`, `proxy-connection`, `keep-alive`, `te` (except `trailers`), `transfer-encoding`
/// and `upgrade`; `content-length` too, since framing fields are written anew. With `keep_upgrade`,
/// `connection: upgrade` and `upgrade` stay, if `connection` named `upgrade`. A name that must not
/// be removed this way (`host`, `x-forwarded-*`, `x-envoy-*`, `x-request-id`, `via`) is ignored in
/// `connection`.
pub fn strip_hop_by_hop(headers: &mut Headers, keep_upgrade: bool) {
    if headers.seen & ALWAYS == 0 {
        return;
    }
    let (nominated, names_upgrade) = read_connection(headers);
    let keep_upgrade = keep_upgrade && names_upgrade;
    let te = trailers_te(headers);
    let arena = &headers.arena;
    let is_kept = |field: &Field| match field.id {
        Name::Te => te == Some(field.value),
        Name::Upgrade => keep_upgrade,
        id if ALWAYS & id.bit() != 0 => false,
        _ if nominated.is_empty() => true,
        _ => {
            let name = &arena[field.name.range()];
            nominated.binary_search_by(|span| arena[span.range()].cmp(name)).is_err()
        }
    };
    headers.fields.retain(is_kept);
    headers.seen &= !ALWAYS | Name::Te.bit() | Name::Upgrade.bit();
    if let Some(value) = te
        && headers.bytes(value) != b"trailers"
    {
        headers.set(b"te", b"trailers");
    }
    if keep_upgrade {
        headers.append_known(Name::Connection, b"connection", b"upgrade");
    }
}

/// The names in `connection` that are to be removed, sorted, so that a peer who lists thousands
/// does not make each field be compared with each; and whether `upgrade` is among the options.
fn read_connection(headers: &mut Headers) -> (Vec<Span>, bool) {
    let mut nominated = Vec::new();
    let mut names_upgrade = false;
    if headers.seen & Name::Connection.bit() == 0 {
        return (nominated, names_upgrade);
    }
    for field in &headers.fields {
        if field.id != Name::Connection {
            continue;
        }
        // The field is about to go, and its options have no case.
        lower_case(&mut headers.arena[field.value.range()]);
        let value = &headers.arena[field.value.range()];
        for option in list(value) {
            match option {
                b"upgrade" => names_upgrade = true,
                b"" | b"close" | b"keep-alive" => {}
                _ if is_never_nominated(option) => {}
                _ => {
                    let start = option.as_ptr().addr() - value.as_ptr().addr();
                    nominated.push(Span::new(field.value.start as usize + start, option.len()));
                }
            }
        }
    }
    let arena = &headers.arena;
    nominated.sort_unstable_by(|a, b| arena[a.range()].cmp(&arena[b.range()]));
    (nominated, names_upgrade)
}

fn is_never_nominated(lower: &[u8]) -> bool {
    match Name::of(lower) {
        Name::Other => lower.starts_with(b"x-envoy-") || lower.starts_with(b":"),
        id => (NEVER_NOMINATED | ALWAYS) & id.bit() != 0 || lower.starts_with(b"x-envoy-"),
    }
}

/// The value of the first `te` that lists `trailers`.
fn trailers_te(headers: &Headers) -> Option<Span> {
    if headers.seen & Name::Te.bit() == 0 {
        return None;
    }
    let lists_trailers = |field: &&Field| {
        list(headers.bytes(field.value)).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
    };
    headers.fields.iter().filter(|f| f.id == Name::Te).find(lists_trailers).map(|f| f.value)
}
