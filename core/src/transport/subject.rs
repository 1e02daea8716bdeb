//! Distinguished names as RFC 2253 writes them: the last part first, special characters escaped.
//!
//! What it leaves to others: reading certificates (`facts`).

use std::fmt::Write as _;
use x509_parser::prelude::X509Name;

/// Short names of attributes, as OpenSSL has them.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.46", "dnQualifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// A name in one line.
pub(super) fn write_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|part| {
            let attributes = part.iter().map(|attribute| {
                let oid = attribute.attr_type().to_id_string();
                let known = ATTRIBUTES.iter().find(|(number, _)| *number == oid);
                let mut text = known.map_or(oid.clone(), |(_, name)| (*name).to_owned());
                text.push('=');
                match known {
                    Some(_) => escape(attribute.attr_value().data, &mut text),
                    None => text.push('#'),
                }
                if known.is_none() {
                    for byte in attribute.attr_value().data {
                        let _ = write!(text, "{byte:02X}");
                    }
                }
                text
            });
            attributes.collect::<Vec<_>>().join("+")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

/// RFC 2253, section 2.4; what is not printable ASCII as its bytes.
fn escape(value: &[u8], out: &mut String) {
    for (place, &byte) in value.iter().enumerate() {
        let is_edge = byte == b' ' && (place == 0 || place + 1 == value.len());
        let is_first = byte == b'#' && place == 0;
        if is_edge || is_first || b",+\"\\<>;".contains(&byte) {
            out.push('\\');
            out.push(char::from(byte));
        } else if (0x20..0x7f).contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "\\{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        for (value, expected) in [
            (&b"plain"[..], "plain"),
            (b"a, b", "a\\, b"),
            (b" edges ", "\\ edges\\ "),
            (b"#1", "\\#1"),
            (b"1#", "1#"),
            ("M\u{fc}ller".as_bytes(), "M\\C3\\BCller"),
            (b"a\n\0", "a\\0A\\00"),
            (b"\"<>;+\\", "\\\"\\<\\>\\;\\+\\\\"),
        ] {
            let mut out = String::new();
            escape(value, &mut out);
            assert_eq!(out, expected);
        }
    }
}
