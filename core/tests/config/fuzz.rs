//! No text makes the reader panic, hang or accept what it should not.
//!
//! What it leaves to others: nothing; any text may come.

use super::{BASE, source};
use proptest::prelude::*;
use tidegate::config::{Options, load, render};

/// Loads and renders, which must both come back.
fn survives(text: &str) {
    for allow_unsupported in [false, true] {
        let sources = [source(text), source(BASE)];
        if let Err(errors) = load(&sources, &Options { allow_unsupported }) {
            assert!(!errors.0.is_empty());
            assert!(!render(&errors, &sources).is_empty());
        }
    }
}

/// Words that lead deep into the reader.
fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "static_resources",
        "listeners",
        "clusters",
        "name",
        "address",
        "socket_address",
        "@type",
        "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        "typed_config",
        "node",
        "metadata",
        "admin",
        "load_assignment",
        "endpoints",
        "circuit_breakers",
        "connect_timeout",
        "0.25s",
        "-1s",
        "99999999999999s",
        "0x",
        "1e400",
        "null",
        "~",
        "y",
        "&a",
        "*a",
        "<<",
        "!ignore",
        "!!str",
        "\"",
        "'",
        "|",
        ">-",
        "{",
        "}",
        "[",
        "]",
        ":",
        ": ",
        ",",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "#",
        "%",
        "---",
        "...",
        "\t",
        "\u{feff}",
        "\u{85}",
        "é",
        "?",
        "type",
        "STATIC",
        "config",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        survives(&text);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn words_in_any_order(words in prop::collection::vec(word(), 0..40)) {
        survives(&words.concat());
    }

    #[test]
    fn a_configuration_with_a_piece_cut_out(from in 0..BASE.len(), length in 0..60_usize) {
        let to = (from + length).min(BASE.len());
        survives(&format!("{}{}", &BASE[..from], &BASE[to..]));
    }

    #[test]
    fn a_configuration_with_a_word_put_in(at in 0..BASE.len(), word in word()) {
        survives(&format!("{}{word}{}", &BASE[..at], &BASE[at..]));
    }
}
