//! `x-request-id`: a request's UUID, made here or kept.
//!
//! What it leaves to others: which clients are believed (`client_address`).

use super::mutate::replace;
use crate::config::HttpConnectionManager;
use crate::shard::Random;
use tidegate_http::{Headers, Name};

const NAME: &[u8] = b"x-request-id";

/// Where Envoy packs into a UUID why a request is traced, and what it writes there for one that is
/// not: the digit of version 4.
const TRACE_REASON: (usize, u8) = (14, b'4');

/// Gives a request its id: a new one if it has none, or if it comes from outside and ids from
/// outside are not kept.
pub(super) fn identify(
    headers: &mut Headers,
    config: &HttpConnectionManager,
    edge: bool,
    random: &mut Random,
) {
    if !config.generate_request_id {
        return;
    }
    match headers.get(Name::XRequestId) {
        Some(id) if !id.is_empty() && !edge => {}
        Some(id) if !id.is_empty() && config.preserve_external_request_id => {
            // No client from outside may have its request traced.
            if config.pack_trace_reason
                && let Ok(mut id) = <[u8; 36]>::try_from(id)
                && id[TRACE_REASON.0] != TRACE_REASON.1
            {
                id[TRACE_REASON.0] = TRACE_REASON.1;
                replace(headers, Name::XRequestId, NAME, &id);
            }
        }
        _ => replace(headers, Name::XRequestId, NAME, &uuid(random)),
    }
}

/// The request's id, if the response carries it: where that is configured, or for an internal
/// client that has its request traced.
pub(super) fn of_response<'h>(
    request: &'h Headers,
    config: &HttpConnectionManager,
    internal: bool,
) -> Option<&'h [u8]> {
    let wanted = config.always_set_request_id_in_response
        || (internal && request.get_name(b"x-envoy-force-trace").is_some());
    if wanted { request.get(Name::XRequestId) } else { None }
}

/// A random UUID, version 4 (RFC 9562 5.4).
fn uuid(random: &mut Random) -> [u8; 36] {
    let high = random.draw() & !0xf000 | 0x4000;
    let low = random.draw() & !(0b11 << 62) | 0b10 << 62;
    let words = [(high >> 32) as u32, high as u32, (low >> 32) as u32, low as u32].map(hex);
    let mut text = [b'-'; 36];
    text[..8].copy_from_slice(&words[0]);
    text[9..13].copy_from_slice(&words[1][..4]);
    text[14..18].copy_from_slice(&words[1][4..]);
    text[19..23].copy_from_slice(&words[2][..4]);
    text[24..28].copy_from_slice(&words[2][4..]);
    text[28..].copy_from_slice(&words[3]);
    text
}

/// The digits of a number in hexadecimal, all at once: each in a byte of its own, then as a letter
/// where adding 6 carries out of its four bits.
fn hex(word: u32) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut digits = u64::from(word);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & (EACH * 0x0f);
    let letters = ((digits + EACH * 6) >> 4) & EACH;
    let to_letter = u64::from(b'a' - b'0' - 10);
    (digits + EACH * u64::from(b'0') + letters * to_letter).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_formatter() {
        for number in [0, 0x0123_4567, 0x89ab_cdef, 0x9a09_a90a, u32::MAX] {
            assert_eq!(&hex(number)[..], format!("{number:08x}").as_bytes());
        }
    }

    #[test]
    fn ids_are_version_4_uuids() {
        let mut random = Random::new(7);
        let (one, two) = (uuid(&mut random), uuid(&mut random));
        assert_ne!(one, two);
        for id in [one, two] {
            assert_eq!(id[14], b'4');
            assert!(b"89ab".contains(&id[19]), "{:?}", id[19] as char);
            assert_eq!(id.iter().filter(|c| **c == b'-').count(), 4);
        }
    }

    #[test]
    fn who_keeps_an_id() {
        const TRACED: &str = "11111111-2222-9333-8444-555555555555";
        const UNTRACED: &str = "11111111-2222-4333-8444-555555555555";
        let plain = HttpConnectionManager::default();
        let preserve = || HttpConnectionManager {
            preserve_external_request_id: true,
            ..HttpConnectionManager::default()
        };
        let unpacked = HttpConnectionManager { pack_trace_reason: false, ..preserve() };
        let off = HttpConnectionManager { generate_request_id: false, ..preserve() };
        // Options, edge, id that came, id that goes: `new` for another one.
        for (config, edge, came, goes) in [
            (&plain, false, "", "new"),
            (&plain, false, "own", "own"),
            (&plain, false, TRACED, TRACED),
            (&plain, true, "own", "new"),
            (&preserve(), true, "", "new"),
            (&preserve(), true, "own", "own"),
            (&preserve(), true, TRACED, UNTRACED),
            (&preserve(), false, TRACED, TRACED),
            (&unpacked, true, TRACED, TRACED),
            (&off, true, "own", "own"),
            (&off, true, "", ""),
        ] {
            let mut headers = Headers::default();
            headers.append(NAME, came.as_bytes());
            identify(&mut headers, config, edge, &mut Random::new(1));
            let id = std::str::from_utf8(headers.get(Name::XRequestId).unwrap()).unwrap();
            if goes == "new" {
                assert!(id.len() == 36 && id != came, "{came} {id}");
            } else {
                assert_eq!(id, goes);
            }
        }
    }
}
