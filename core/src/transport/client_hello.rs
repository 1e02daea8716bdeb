//! Reads what a client asks for before anybody answers it: `envoy.filters.listener.tls_inspector`.
//!
//! Pure: the bytes that have come so far in, a verdict out. It reads no more of the hello than what
//! it needs, and trusts no length in it.
//!
//! What it leaves to others: the handshake (rustls), which reads the same bytes again.

/// The longest hello that is looked at, which is more than rustls takes.
pub const MAX_HELLO: usize = 64 << 10;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Of a message of the handshake: its kind and length.
const MESSAGE_HEADER: usize = 4;
const RECORD_HEADER: usize = 5;
const RECORD_MAX: usize = (1 << 14) + 2048;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const ALPN: u16 = 16;

/// What the bytes so far are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientHello {
    /// The begin of a hello.
    NeedMore,
    /// No TLS.
    NotTls,
    /// A hello.
    Tls {
        /// The server name, in lower case; empty: none.
        server_name: String,
        /// `application_layer_protocol_negotiation`, in the client's order.
        protocols: Vec<Vec<u8>>,
    },
}

/// Reads the first handshake message, which records may cut anywhere, however its bytes come: each
/// is looked at once.
#[derive(Clone, Debug, Default)]
pub struct HelloReader {
    /// The header of the record under way, and how much of it is there.
    header: [u8; RECORD_HEADER],
    header_length: usize,
    /// What is missing of that record.
    record_rest: usize,
    message: Vec<u8>,
}

impl ClientHello {
    /// What `bytes`, the first of a connection, are.
    #[must_use]
    pub fn read(bytes: &[u8]) -> ClientHello {
        HelloReader::default().read(bytes)
    }
}

impl HelloReader {
    /// What all bytes up to these are. Not to be called after another answer than
    /// [`ClientHello::NeedMore`].
    pub fn read(&mut self, mut bytes: &[u8]) -> ClientHello {
        loop {
            match self.message_length() {
                None => return ClientHello::NotTls,
                Some(length) if self.message.len() >= length => {
                    let hello = &self.message[MESSAGE_HEADER..length];
                    return hello_of(hello).unwrap_or(ClientHello::NotTls);
                }
                Some(_) if bytes.is_empty() => return ClientHello::NeedMore,
                Some(_) => {}
            }
            if self.record_rest > 0 {
                let (part, rest) = bytes.split_at(bytes.len().min(self.record_rest));
                self.message.extend_from_slice(part);
                self.record_rest -= part.len();
                bytes = rest;
                continue;
            }
            self.header[self.header_length] = bytes[0];
            self.header_length += 1;
            bytes = &bytes[1..];
            match self.header[..self.header_length] {
                [HANDSHAKE] | [_, 3] | [_, _, _] | [_, _, _, _] => {}
                [_, _, _, a, b] => {
                    self.header_length = 0;
                    self.record_rest = usize::from(u16::from_be_bytes([a, b]));
                    if self.record_rest == 0 || self.record_rest > RECORD_MAX {
                        return ClientHello::NotTls;
                    }
                }
                _ => return ClientHello::NotTls,
            }
        }
    }

    /// How long the message is with its header, at least; `None`: it is no hello.
    fn message_length(&self) -> Option<usize> {
        match self.message[..] {
            [] => Some(MESSAGE_HEADER),
            [CLIENT_HELLO, a, b, c, ..] => {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                (length <= MAX_HELLO).then_some(MESSAGE_HEADER + length)
            }
            [CLIENT_HELLO, ..] => Some(MESSAGE_HEADER),
            _ => None,
        }
    }
}

/// `None` where it is not well-formed.
fn hello_of(hello: &[u8]) -> Option<ClientHello> {
    // Version and random.
    let (_, mut rest) = hello.split_at_checked(2 + 32)?;
    let _session = part8(&mut rest)?;
    let _suites = part16(&mut rest)?;
    let _compression = part8(&mut rest)?;
    let (mut server_name, mut protocols) = (String::new(), Vec::new());
    let mut extensions = if rest.is_empty() { rest } else { part16(&mut rest)? };
    let mut seen = Vec::new();
    while !extensions.is_empty() {
        let kind = number16(&mut extensions)?;
        let content = part16(&mut extensions)?;
        if kind != SERVER_NAME && kind != ALPN {
            continue;
        }
        // Who reads which of two would be a matter of taste.
        if seen.contains(&kind) {
            return None;
        }
        seen.push(kind);
        match kind {
            SERVER_NAME => server_name = server_name_of(content)?,
            _ => protocols = protocols_of(content)?,
        }
    }
    rest.is_empty().then_some(ClientHello::Tls { server_name, protocols })
}

fn server_name_of(mut content: &[u8]) -> Option<String> {
    let mut list = part16(&mut content)?;
    while let Some((kind, rest)) = list.split_first() {
        list = rest;
        let name = part16(&mut list)?;
        if *kind == HOST_NAME {
            // A NUL ends no name here.
            let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
            let name = std::str::from_utf8(name).ok().filter(|_| is_name)?;
            return Some(name.to_ascii_lowercase());
        }
    }
    Some(String::new())
}

fn protocols_of(mut content: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = part16(&mut content)?;
    let mut protocols = Vec::new();
    while !list.is_empty() {
        let name = part8(&mut list)?;
        if name.is_empty() {
            return None;
        }
        protocols.push(name.to_vec());
    }
    Some(protocols)
}

fn number16(bytes: &mut &[u8]) -> Option<u16> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u16::from_be_bytes(*number))
}

/// Bytes whose number stands before them in one byte.
fn part8<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first()?;
    let (part, rest) = rest.split_at_checked(usize::from(*length))?;
    *bytes = rest;
    Some(part)
}

/// Bytes whose number stands before them in two bytes.
fn part16<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(number16(bytes)?);
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::parameters;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::sync::Arc;

    /// The hello of a real client, in one record.
    fn hello(name: &str, protocols: &[&str]) -> Vec<u8> {
        let provider = parameters::provider(&crate::config::tls::TlsParameters::of_server());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config =
            builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_hello_is_read_when_it_is_whole_and_in_any_records() {
        let bytes = hello("Api.example.com", &["h2", "http/1.1"]);
        let expected = ClientHello::Tls {
            server_name: "api.example.com".into(),
            protocols: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        assert_eq!(ClientHello::read(&bytes), expected);
        let mut reader = HelloReader::default();
        for (end, byte) in bytes.iter().enumerate() {
            assert_eq!(ClientHello::read(&bytes[..end]), ClientHello::NeedMore, "{end}");
            let read = reader.read(std::slice::from_ref(byte));
            let whole = if end + 1 == bytes.len() { &expected } else { &ClientHello::NeedMore };
            assert_eq!(read, *whole, "byte by byte, {end}");
        }
        for size in [1, 2, 7, 100] {
            let record = |part: &[u8]| {
                let length = u16::try_from(part.len()).unwrap().to_be_bytes();
                [&[22, 3, 1][..], &length, part].concat()
            };
            let records: Vec<u8> = bytes[5..].chunks(size).flat_map(record).collect();
            assert_eq!(ClientHello::read(&records), expected, "records of {size}");
        }
    }

    #[test]
    fn what_is_missing_is_empty() {
        let expected = ClientHello::Tls { server_name: String::new(), protocols: Vec::new() };
        assert_eq!(ClientHello::read(&hello("127.0.0.1", &[])), expected);
    }

    #[test]
    fn what_is_no_hello_is_known_by_its_first_bytes() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x02", b"\x80", b"\x16\x03\x01\0\0"] {
            assert_eq!(ClientHello::read(bytes), ClientHello::NotTls, "{bytes:?}");
        }
        assert_eq!(ClientHello::read(b"\x16\x03\x01\0\x01\x02"), ClientHello::NotTls);
        assert_eq!(ClientHello::read(b"\x16\x03\x01\0\x04\x01\xff\xff\xff"), ClientHello::NotTls);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            place in 0_usize..300, byte: u8, tail in proptest::collection::vec(0_u8.., 0..64),
        ) {
            let mut bytes = hello("api.example.com", &["h2"]);
            let place = place % bytes.len();
            bytes[place] = byte;
            let whole = ClientHello::read(&bytes);
            let mut reader = HelloReader::default();
            let mut parts = bytes.chunks(7).map(|part| reader.read(part));
            let parts = parts.find(|read| *read != ClientHello::NeedMore);
            proptest::prop_assert_eq!(parts.unwrap_or(ClientHello::NeedMore), whole);
            bytes.truncate(place);
            bytes.extend(tail);
            let _ = ClientHello::read(&bytes);
        }
    }
}
