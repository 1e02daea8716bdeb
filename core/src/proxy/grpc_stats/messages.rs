//! Counting the messages of a gRPC body while its bytes pass, in whatever pieces they come.
//!
//! What it leaves to others: whether the body is one of gRPC, and what is in a message.

/// Where in a body its bytes have come to. A message is a byte of flags, its length in four bytes,
/// and so many bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Messages {
    /// Bytes of the prefix that have passed; `prefix < 5`.
    prefix: u8,
    /// The length, as far as it has passed.
    length: u32,
    /// Bytes of the message that are still to pass; none while a prefix is under way.
    left: u32,
}

const PREFIX_BYTES: u8 = 5;

impl Messages {
    /// Bytes pass: how many messages begin in them. As in Envoy one counts with its first byte.
    pub fn pass(&mut self, mut data: &[u8]) -> u64 {
        let mut begun = 0;
        while let Some((&byte, rest)) = data.split_first() {
            debug_assert!(self.prefix < PREFIX_BYTES && (self.prefix == 0 || self.left == 0));
            if self.left > 0 {
                let passing = data.len().min(self.left as usize);
                self.left -= passing as u32;
                data = &data[passing..];
                continue;
            }
            match self.prefix {
                0 => begun += 1,
                _ => self.length = self.length << 8 | u32::from(byte),
            }
            self.prefix += 1;
            if self.prefix == PREFIX_BYTES {
                *self = Messages { left: self.length, ..Messages::default() };
            }
            data = rest;
        }
        begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn message(length: usize) -> Vec<u8> {
        [&[0][..], &(length as u32).to_be_bytes(), &vec![1; length]].concat()
    }

    #[test]
    fn a_message_counts_with_its_first_byte() {
        let mut messages = Messages::default();
        assert_eq!(messages.pass(b""), 0);
        assert_eq!(messages.pass(b"\0"), 1);
        assert_eq!(messages.pass(b"\0\0\0\x02"), 0);
        assert_eq!(messages.pass(b"ab"), 0);
        assert_eq!(messages.pass(b"\0\0\0\0\0\0"), 2);
        assert_eq!(messages.pass(b"\0\0\0\xff"), 0);
    }

    #[test]
    fn the_longest_message_does_not_overflow() {
        let mut messages = Messages::default();
        assert_eq!(messages.pass(b"\x01\xff\xff\xff\xff"), 1);
        assert_eq!(messages.pass(&[0; 100_000]), 0);
        assert_eq!(messages.left, u32::MAX - 100_000);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            lengths in vec(prop_oneof![Just(0), 1_usize..10, Just(300), Just(70_000)], 0..8),
            pieces in vec(1_usize..20, 1..30),
        ) {
            let body: Vec<u8> = lengths.iter().flat_map(|length| message(*length)).collect();
            prop_assert_eq!(Messages::default().pass(&body), lengths.len() as u64);
            let (mut messages, mut begun, mut rest) = (Messages::default(), 0, &body[..]);
            for piece in pieces {
                let (passing, more) = rest.split_at(piece.min(rest.len()));
                begun += messages.pass(passing);
                rest = more;
            }
            begun += messages.pass(rest);
            prop_assert_eq!(begun, lengths.len() as u64);
            prop_assert_eq!(messages, Messages::default());
        }
    }
}
