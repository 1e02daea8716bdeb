//! Tables of clients, as Envoy 1.40 was seen to find them.
//!
//! What it leaves to others: the same over sockets (`tests/acceptance/test_client_address.py`).

use super::*;
use crate::config::CidrRange;

fn ends(peer: &str) -> Ends {
    Ends {
        peer: Some(peer.parse().unwrap()),
        local: Some("192.0.2.9:8080".parse().unwrap()),
        host: "192.0.2.2".parse().unwrap(),
        secure: false,
    }
}

fn range(text: &str, length: u8) -> CidrRange {
    CidrRange::new(text.parse().unwrap(), length)
}

fn options(source: AddressSource) -> ClientAddress {
    let internal = vec![range("10.0.0.0", 8), range("127.0.0.0", 8)];
    ClientAddress {
        mapped_to_ipv6: false,
        source,
        internal,
        append_x_forwarded_port: false,
        scheme: None,
        match_upstream: false,
    }
}

fn edge(trusted_hops: u32) -> ClientAddress {
    options(AddressSource::Peer { skip_xff_append: false, trusted_hops })
}

fn xff(trusted: XffTrust, skip_append: bool) -> ClientAddress {
    options(AddressSource::Detected(vec![IpDetection::Xff { trusted, skip_append }]))
}

/// What becomes of a request with these fields: its client and its fields.
fn identified(
    config: &ClientAddress,
    peer: &str,
    fields: &[(&str, &str)],
) -> (Result<Client, Rejected>, String) {
    let mut request = RequestHead::default();
    for (name, value) in fields {
        request.headers.append(name.as_bytes(), value.as_bytes());
    }
    let client = identify(&mut request, config, &ends(peer));
    if let Ok(client) = &client {
        pass_address_on(&mut request.headers, client, &ends(peer));
    }
    let line =
        |(name, value): (&[u8], &[u8])| format!("{}={}", name.escape_ascii(), value.escape_ascii());
    let lines: Vec<String> = request.headers.iter().map(line).collect();
    (client, lines.join(" "))
}

/// The client's address (`-` is the peer) with `i` for internal and `e` for edge; and its fields.
fn check(config: &ClientAddress, fields: &[(&str, &str)], client: &str, expected: &str) {
    let (found, lines) = identified(config, "127.0.0.1:5000", fields);
    let found = found.unwrap();
    let address = found.address.map_or("-".to_owned(), |address| address.to_string());
    let marks = [(found.internal, " i"), (found.edge, " e")];
    let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
    assert_eq!(format!("{address}{marks}"), client, "{fields:?}");
    assert_eq!(lines, expected, "{fields:?}");
}

#[test]
fn at_the_edge_the_peer_counts() {
    let config = edge(0);
    check(
        &config,
        &[],
        "- i",
        "x-forwarded-for=192.0.2.2 x-forwarded-proto=http x-envoy-internal=true",
    );
    let outside = "x-forwarded-proto=http x-envoy-external-address=127.0.0.1";
    for (forwarded, appended) in [
        ("1.2.3.4, 5.6.7.8", "1.2.3.4, 5.6.7.8,192.0.2.2"),
        ("", "192.0.2.2"),
        ("1.1.1.1,", "1.1.1.1,,192.0.2.2"),
        ("10.0.0.1", "10.0.0.1,192.0.2.2"),
    ] {
        let expected = format!("x-forwarded-for={appended} {outside}");
        check(&config, &[("x-forwarded-for", forwarded)], "- e", &expected);
    }
    let (_, lines) = identified(&config, "198.51.100.7:1", &[("x-forwarded-proto", "https")]);
    assert_eq!(
        lines,
        "x-forwarded-proto=http x-forwarded-for=198.51.100.7 x-envoy-external-address=198.51.100.7"
    );
}

#[test]
fn trusted_hops_at_the_edge() {
    let config = ClientAddress { append_x_forwarded_port: true, ..edge(1) };
    let rest = "x-forwarded-proto=https x-forwarded-port=99";
    let fields = |forwarded| {
        [("x-forwarded-for", forwarded), ("x-forwarded-proto", "https"), ("x-forwarded-port", "99")]
    };
    let outside = |forwarded, address| {
        format!("x-forwarded-for={forwarded},192.0.2.2 {rest} x-envoy-external-address={address}")
    };
    let both = "1.2.3.4, 5.6.7.8";
    check(&config, &fields(both), "5.6.7.8:0 e", &outside(both, "5.6.7.8"));
    check(&config, &fields("::1"), "[::1]:0 e", &outside("::1", "::1"));
    for unreadable in ["10.0.0.1:80", "[::1]", "1.2.3.4.5", "1.1.1.1,"] {
        check(&config, &fields(unreadable), "- e", &outside(unreadable, "127.0.0.1"));
    }
    check(
        &config,
        &[],
        "- i",
        "x-forwarded-for=192.0.2.2 x-forwarded-proto=http x-forwarded-port=8080 \
         x-envoy-internal=true",
    );
}

#[test]
fn behind_another_proxy_the_field_counts() {
    let config = xff(XffTrust::Hops(0), true);
    check(&config, &[], "-", "x-forwarded-proto=http");
    let proto = [("x-forwarded-proto", "https")];
    check(&config, &proto, "-", "x-forwarded-proto=https");
    let forwarded = |value| [("x-forwarded-for", value), ("x-forwarded-proto", "http")];
    let same = |value| format!("x-forwarded-for={value} x-forwarded-proto=http");
    let both = "1.2.3.4, 5.6.7.8";
    check(&config, &forwarded(both), "5.6.7.8:0", &same(both));
    let internal = format!("{} x-envoy-internal=true", same("10.0.0.1"));
    check(&config, &forwarded("10.0.0.1"), "10.0.0.1:0 i", &internal);
    check(&config, &forwarded("9.9.9.9,10.0.0.1"), "10.0.0.1:0", &same("9.9.9.9,10.0.0.1"));
    let two = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "10.0.0.2")];
    check(&config, &two, "10.0.0.2:0", &same("1.1.1.1,10.0.0.2"));
}

#[test]
fn detection_by_extensions() {
    let appended = "x-forwarded-for=1.2.3.4, 5.6.7.8,192.0.2.2 x-forwarded-proto=http";
    let fields = [("x-forwarded-for", "1.2.3.4, 5.6.7.8")];
    check(&xff(XffTrust::Hops(1), false), &fields, "1.2.3.4:0", appended);
    let trusted = XffTrust::Ranges(vec![range("127.0.0.0", 8), range("5.6.0.0", 16)]);
    let same = "x-forwarded-for=1.2.3.4, 5.6.7.8 x-forwarded-proto=http";
    check(&xff(trusted, true), &fields, "1.2.3.4:0", same);
    let untrusted = XffTrust::Ranges(vec![range("5.6.0.0", 16)]);
    check(&xff(untrusted, true), &fields, "-", same);
    let header = |trusted, reject_status| {
        let name = "x-real".to_owned();
        options(AddressSource::Detected(vec![IpDetection::Header { name, trusted, reject_status }]))
    };
    let real = [("x-real", "10.1.2.3")];
    let inside = "x-real=10.1.2.3 x-forwarded-proto=http x-envoy-internal=true";
    check(&header(true, None), &real, "10.1.2.3:0 i", inside);
    check(&header(false, Some(401)), &real, "10.1.2.3:0", "x-real=10.1.2.3 x-forwarded-proto=http");
    for bad in ["10.1.2.3:99", "[::1]:7", "nope"] {
        let (client, _) = identified(&header(true, Some(401)), "[::1]:1", &[("x-real", bad)]);
        assert_eq!(client, Err(Rejected(401)));
    }
}

#[test]
fn control_fields_are_for_the_inside() {
    let names = [
        "x-envoy-decorator-operation",
        "x-envoy-retry-on",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-expected-rq-timeout-ms",
        "x-envoy-original-url",
        "x-envoy-original-path",
        "x-envoy-foo",
        "x-envoy-attempt-count",
    ];
    let fields = names.map(|name| (name, "7"));
    let kept =
        |names: &[&str]| names.iter().map(|name| format!("x-envoy-{name}=7 ")).collect::<String>();
    let behind = kept(&["decorator-operation", "original-path", "foo", "attempt-count"]);
    let expected = format!("{behind}x-forwarded-proto=http");
    check(&xff(XffTrust::Hops(0), true), &fields, "-", &expected);
    let (_, lines) = identified(&edge(0), "8.8.8.8:1", &fields);
    let outside = kept(&["foo", "attempt-count"]);
    assert_eq!(
        lines,
        format!(
            "{outside}x-forwarded-for=8.8.8.8 x-forwarded-proto=http \
             x-envoy-external-address=8.8.8.8"
        )
    );
    let (_, lines) = identified(&edge(0), "10.0.0.1:1", &fields);
    assert!(lines.starts_with("x-envoy-decorator-operation=7 x-envoy-retry-on=7"), "{lines}");
}

#[test]
fn schemes() {
    let scheme_of = |config: &ClientAddress, forwarded: &str| {
        let mut request = RequestHead::default();
        request.headers.append(b"x-forwarded-proto", forwarded.as_bytes());
        identify(&mut request, config, &ends("127.0.0.1:1")).unwrap();
        let proto = request.headers.get(Name::XForwardedProto).unwrap().to_vec();
        (request.scheme.unwrap(), String::from_utf8(proto).unwrap())
    };
    let behind = xff(XffTrust::Hops(0), true);
    assert_eq!(scheme_of(&behind, "HTTPS"), (Scheme::Https, "HTTPS".to_owned()));
    assert_eq!(scheme_of(&behind, "foo"), (Scheme::Http, "foo".to_owned()));
    assert_eq!(scheme_of(&behind, ""), (Scheme::Http, "http".to_owned()));
    assert_eq!(scheme_of(&edge(0), "https"), (Scheme::Http, "http".to_owned()));
    let overwritten = ClientAddress { scheme: Some("https"), ..behind };
    assert_eq!(scheme_of(&overwritten, "http"), (Scheme::Https, "https".to_owned()));
}

#[test]
fn ipv4_as_ipv6() {
    let config = ClientAddress { mapped_to_ipv6: true, ..edge(0) };
    let (_, lines) = identified(&config, "198.51.100.7:1", &[]);
    assert!(lines.starts_with("x-forwarded-for=::ffff:198.51.100.7 "), "{lines}");
    let (_, lines) = identified(&config, "127.0.0.1:1", &[]);
    assert!(lines.starts_with("x-forwarded-for=192.0.2.2 "), "{lines}");
}
