//! The spelling of field names, where somebody does not compare them as RFC 9110 5.1 says.
//!
//! A head is written with names in lower case; then they are written over. Every spelling is as
//! long as the other.
//!
//! What it leaves to others: which spelling is wanted (Envoy's `header_key_format`).

use crate::Headers;

/// How names are spelt.
#[derive(Clone, Copy, Debug)]
pub enum NameCase<'h> {
    /// Each word begins with a capital: `Content-Type`.
    Proper,
    /// As they were received in a head that was read with
    /// [`keep_name_case`](super::Options::keep_name_case).
    Received {
        /// The fields of that head.
        headers: &'h Headers,
        /// Names that were not received get the proper case instead of the lower one.
        proper_others: bool,
    },
}

impl NameCase<'_> {
    /// Spells the names of an encoded head.
    pub fn apply(self, head: &mut [u8]) {
        let mut lines = head.split_mut(|byte| *byte == b'\n');
        lines.next();
        for line in lines {
            let Some(colon) = memchr::memchr(b':', line) else { return };
            self.spell(&mut line[..colon]);
        }
    }

    fn spell(self, name: &mut [u8]) {
        match self {
            NameCase::Proper => capitalize(name),
            NameCase::Received { headers, proper_others } => {
                // The first spelling of a name counts for all of its lines, as in Envoy.
                let mut received = headers.received_names();
                if let Some(spelling) = received.find(|other| other.eq_ignore_ascii_case(name)) {
                    name.copy_from_slice(spelling);
                } else if proper_others {
                    capitalize(name);
                }
            }
        }
    }
}

fn capitalize(name: &mut [u8]) {
    let mut begins_word = true;
    for byte in name {
        if begins_word {
            byte.make_ascii_uppercase();
        }
        begins_word = !byte.is_ascii_alphanumeric();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::{Event, Options, RequestDecoder, encode_request};
    use crate::{Limits, RequestHead};
    use alloc::vec::Vec;

    /// A request as it is passed on, with `x-new` added.
    fn passed_on(case: Option<bool>, pieces: usize) -> Vec<u8> {
        let input =
            b"GET /A:b HTTP/1.1\r\nHOST: H.example\r\nX-Foo_bar: V:v\r\nx-fOO_bar: w\r\n\r\n";
        let options = Options { keep_name_case: true, ..Options::default() };
        let mut decoder = RequestDecoder::new(options, Limits::default());
        let mut head = RequestHead::default();
        for piece in input.chunks(pieces) {
            let step = decoder.decode(piece, &mut head).unwrap();
            assert!(matches!(step.event, Event::NeedMore | Event::Head));
        }
        head.headers.append(b"x-new2-1a", b"1");
        let mut out = Vec::new();
        encode_request(&head, head.body, &mut out);
        let received = |proper_others| NameCase::Received { headers: &head.headers, proper_others };
        case.map_or(NameCase::Proper, received).apply(&mut out);
        out
    }

    #[test]
    fn spellings() {
        for pieces in [1, 7, 200] {
            let proper: &[u8] = b"GET /A:b HTTP/1.1\r\nHost: H.example\r\nX-Foo_Bar: V:v\r\n\
                X-Foo_Bar: w\r\nX-New2-1a: 1\r\n\r\n";
            assert_eq!(passed_on(None, pieces), proper);
            let received: &[u8] = b"GET /A:b HTTP/1.1\r\nHOST: H.example\r\nX-Foo_bar: V:v\r\n\
                X-Foo_bar: w\r\nx-new2-1a: 1\r\n\r\n";
            assert_eq!(passed_on(Some(false), pieces), received);
            let others = passed_on(Some(true), pieces);
            assert!(others.ends_with(b"X-Foo_bar: w\r\nX-New2-1a: 1\r\n\r\n"));
        }
    }
}
