//! A request head that is accepted is clean, and written and read again it says the same.
//!
//! The first byte chooses the policies; the rest is the wire.
//!
//! What it leaves to others: incomplete heads (`connection_splits`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_http::h1::{Event, Options, RequestDecoder, encode_request, strip_hop_by_hop};
use tidegate_http::{BodyLength, Limits, Method, Name, RequestHead};
use tidegate_http_fuzz::{pairs, policies};

/// Strictly and with default limits, as an origin reads.
fn read(wire: &[u8]) -> Option<(RequestHead, usize)> {
    let mut head = RequestHead::default();
    let step = RequestDecoder::new(Options::default(), Limits::default()).decode(wire, &mut head);
    let step = step.ok()?;
    (step.event == Event::Head).then_some((head, step.consumed))
}

fuzz_target!(|input: &[u8]| {
    let Some((&bits, wire)) = input.split_first() else { return };
    let (options, limits) = policies(bits);
    let mut head = RequestHead::default();
    let Ok(step) = RequestDecoder::new(options, limits).decode(wire, &mut head) else { return };
    if step.event != Event::Head {
        return;
    }
    for (name, value) in head.headers.iter() {
        assert!(!name.is_empty() && !name.iter().any(u8::is_ascii_uppercase));
        assert!(name.iter().all(|b| b.is_ascii_graphic() && *b != b':'));
        assert!(!value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
        assert_eq!(value.trim_ascii().len(), value.len());
    }
    assert!(!head.path().iter().any(|b| *b <= b' ' || *b >= 0x7f || *b == b'#'));
    strip_hop_by_hop(&mut head.headers, bits & 32 != 0);
    let is_wire_framed = |name: &[u8]| name == b"content-length" || name == b"transfer-encoding";
    assert!(!head.headers.iter().any(|(name, _)| is_wire_framed(name)));
    if head.authority().is_empty() || head.body == BodyLength::Tunnel {
        return;
    }
    if head.method == Method::Connect {
        assert_eq!(head.body, BodyLength::Tunnel);
    }
    let mut out = Vec::new();
    encode_request(&head, head.body, &mut out);
    if options.allow_backslash && head.path().contains(&b'\\') {
        return;
    }
    let Some((again, length)) = read(&out) else { panic!("refused: {}", out.escape_ascii()) };
    assert_eq!(length, out.len());
    assert_eq!(again.method_name(), head.method_name());
    assert_eq!(again.path(), head.path());
    assert_eq!(again.authority(), head.authority());
    assert_eq!(again.body, head.body);
    let mut sent = pairs(&head.headers);
    if head.headers.get(Name::Host).is_none() {
        sent.insert(0, (b"host".to_vec(), head.authority().to_vec()));
    }
    let mut received = pairs(&again.headers);
    received.retain(|(name, _)| !is_wire_framed(name));
    assert_eq!(received, sent);
});
