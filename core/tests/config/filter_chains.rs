//! Filter chains and listener filters: what is accepted, and what is said of the rest.
//!
//! What it leaves to others: which chain a connection gets (`snapshot::filter_chains`).

use super::{loaded, problems, with};
use std::time::Duration;

const INSPECTOR: &str =
    "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";

/// The base with these lines before its filter chains.
fn with_fields(lines: &str) -> String {
    with(&[("    filter_chains:\n", &format!("{lines}    filter_chains:\n"))])
}

fn inspector(fields: &str) -> String {
    let typed = format!("typed_config: {{ '@type': {INSPECTOR}, {fields} }}");
    with_fields(&format!("    listener_filters: [{{ name: x, {typed} }}]\n"))
}

#[test]
fn the_inspector_and_its_timeout() {
    let listener = loaded(&inspector("max_client_hello_size: 8192")).listeners[0].clone();
    let inspector = listener.tls_inspector.unwrap();
    assert_eq!(inspector.max_client_hello_size, 8192);
    assert!(!inspector.close_connection_on_client_hello_parsing_errors);
    assert_eq!(listener.listener_filters_timeout, Some(Duration::from_secs(15)));
    let none = with_fields("    listener_filters_timeout: 0s\n");
    let listener = loaded(&none).listeners[0].clone();
    assert_eq!((listener.listener_filters_timeout, listener.tls_inspector), (None, None));
}

#[test]
fn what_is_refused_says_so() {
    let filter = |name: &str| {
        let url = format!("type.googleapis.com/envoy.extensions.filters.listener.{name}");
        with_fields(&format!(
            "    listener_filters: [{{ name: x, typed_config: {{ '@type': {url} }} }}]\n"
        ))
    };
    let matched = |rules: &str| {
        with(&[("- filters:", &format!("- filter_chain_match: {rules}\n      filters:"))])
    };
    for (text, expected) in [
        (inspector("enable_ja3_fingerprinting: true"), "enable_ja3_fingerprinting"),
        (inspector("enable_ja4_fingerprinting: true"), "enable_ja4_fingerprinting"),
        (filter("http_inspector.v3.HttpInspector"), "http_inspector.v3.HttpInspector"),
        (filter("original_dst.v3.OriginalDst"), "original_dst.v3.OriginalDst"),
        (filter("proxy_protocol.v3.ProxyProtocol"), "proxy_protocol.v3.ProxyProtocol"),
        (
            with_fields(
                "    listener_filters: [{ name: x, filter_disabled: { any_match: true } }]\n",
            ),
            "filter_disabled",
        ),
        (matched("{ suffix_len: 8 }"), "suffix_len"),
        (matched("{ server_names: ['a.*'] }"), "partial wildcards"),
        (matched("{ server_names: [a] }"), "no connection can match"),
    ] {
        let found = problems(&text);
        assert!(found.iter().any(|it| it.contains(expected)), "{expected}: {found:#?}");
    }
}

#[test]
fn a_chain_is_found_again_by_its_name_and_then_by_its_match() {
    let of = |chains: &[(&str, u16)], default: bool| {
        let base = loaded(super::BASE).listeners[0].as_ref().clone();
        let chain = |name: &str, port: Option<u16>| {
            let mut chain = base.filter_chains[0].clone();
            name.clone_into(&mut chain.name);
            chain.matches.destination_port = port;
            chain
        };
        let filter_chains = chains.iter().map(|(name, port)| chain(name, Some(*port))).collect();
        let default_filter_chain = default.then(|| chain("", None));
        tidegate::config::Listener { filter_chains, default_filter_chain, ..base.clone() }
    };
    let before = of(&[("a", 1), ("", 2), ("", 3), ("b", 4)], true);
    let now = of(&[("", 3), ("b", 5), ("a", 6), ("c", 4)], true);
    let found: Vec<_> = (0..5).map(|place| now.successor(&before, place)).collect();
    assert_eq!(found, [Some(2), None, Some(0), Some(1), Some(4)]);
    assert_eq!(of(&[("", 2)], false).successor(&before, 4), None);
}
