//! The bytes of one TLS connection, on either side. The only file that knows how rustls moves them;
//! performs no IO.
//!
//! What it leaves to others: contexts ([`super::ServerContext`], [`super::ClientContext`]), and the
//! sockets ([`super::Sockets`]).

use super::client_hello::{self, ClientHello, HelloReader};
use super::server::ServerContext;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, Error, HandshakeKind, NamedGroup, ProtocolVersion};
use std::sync::Arc;

/// What a record has besides its payload, at most: header, content type, nonce and tag.
const RECORD_OVERHEAD: usize = 5 + 1 + 8 + 16;
/// The longest payload of a record (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16 * 1024;
/// Cipher suites in rustls's words, and in OpenSSL's.
const CIPHERS: &[(&str, &str)] = &[
    ("TLS13_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    ("TLS13_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
    ("TLS13_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"),
];
/// How much of a hello is held until it is whole; rustls has its own limits for what is longer.
const HELD_HELLO_BYTES_MAX: usize = 2 * client_hello::MAX_HELLO;
/// Room for an alert and what encrypts it.
const ALERT_BYTES: usize = 64;

/// The bytes of one TLS connection.
pub struct Session {
    side: Side,
    /// Input of which the end of a record, or of a message of the handshake, is still missing.
    incoming: Vec<u8>,
    /// What is to be sent that no user wrote: handshakes, alerts, new keys.
    outgoing: Vec<u8>,
    /// The handshake is over.
    established: bool,
    /// The peer has said that it sends no more.
    peer_closed: bool,
    /// We have said it.
    closed: bool,
    failed: Option<Error>,
    /// Of a server, until the client's hello is read: rustls tells nobody the server name, and
    /// what a client offers may decide how it is answered.
    hello: Option<Box<Hello>>,
    server_name: Option<Box<str>>,
}

/// A hello of which the end is still missing.
struct Hello {
    reader: HelloReader,
    context: Arc<ServerContext>,
}

enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

impl Session {
    /// The server's side of a connection.
    ///
    /// # Errors
    ///
    /// What rustls says of the configuration, which was checked when its context was built.
    pub fn server(context: &Arc<ServerContext>) -> Result<Session, Error> {
        let connection = UnbufferedServerConnection::new(context.config.clone())?;
        let hello = Hello { reader: HelloReader::default(), context: context.clone() };
        let hello = Some(Box::new(hello));
        Ok(Session { hello, ..Session::new(Side::Server(Box::new(connection))) })
    }

    /// The client's side. Its first bytes are to be sent after a first
    /// [`Session::receive`] of nothing.
    ///
    /// # Errors
    ///
    /// As [`Session::server`].
    pub fn client(config: &Arc<ClientConfig>, name: ServerName<'static>) -> Result<Session, Error> {
        let connection = UnbufferedClientConnection::new(config.clone(), name)?;
        Ok(Session::new(Side::Client(Box::new(connection))))
    }

    fn new(side: Side) -> Session {
        Session {
            side,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            established: false,
            peer_closed: false,
            closed: false,
            failed: None,
            hello: None,
            server_name: None,
        }
    }

    /// Reads input, which is changed, and appends what was in it to `plain`.
    ///
    /// # Errors
    ///
    /// The connection is broken; an alert that says why may have to be sent. The same
    /// error comes again ever after.
    pub fn receive(&mut self, input: &mut [u8], plain: &mut Vec<u8>) -> Result<(), &Error> {
        if self.failed.is_none() && !self.peer_closed {
            if self.awaits_hello(input) {
                self.incoming.extend_from_slice(input);
                return Ok(());
            }
            if self.incoming.is_empty() {
                let consumed = self.process(input, plain);
                self.incoming.extend_from_slice(&input[consumed..]);
            } else {
                let mut incoming = std::mem::take(&mut self.incoming);
                incoming.extend_from_slice(input);
                let consumed = self.process(&mut incoming, plain);
                incoming.drain(..consumed);
                if !incoming.is_empty() {
                    self.incoming = incoming;
                }
            }
        }
        if self.peer_closed {
            self.incoming = Vec::new();
        }
        match &self.failed {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Whether more must come before the hello is answered. Otherwise it is known what answers.
    fn awaits_hello(&mut self, input: &[u8]) -> bool {
        let Some(hello) = &mut self.hello else { return false };
        match hello.reader.read(input) {
            // Records can be so short that a hello takes many times its length.
            ClientHello::NeedMore if self.incoming.len() < HELD_HELLO_BYTES_MAX => {
                return hello.context.awaits_hello();
            }
            ClientHello::NeedMore if hello.context.awaits_hello() => {}
            ClientHello::NeedMore => return false,
            ClientHello::NotTls => {}
            ClientHello::Tls { server_name, protocols } => {
                self.server_name = (!server_name.is_empty()).then(|| server_name.into());
                let config = hello.context.config_for(&protocols);
                if !Arc::ptr_eq(config, &hello.context.config)
                    // Whose configuration it is was checked; this one differs in ALPN only.
                    && let Ok(connection) = UnbufferedServerConnection::new(config.clone())
                {
                    self.side = Side::Server(Box::new(connection));
                }
            }
        }
        self.hello = None;
        false
    }

    /// Reads records as far as they are complete; returns how many bytes are done with.
    fn process(&mut self, input: &mut [u8], plain: &mut Vec<u8>) -> usize {
        let mut consumed = 0;
        loop {
            let rest = &mut input[consumed..];
            let (discard, step) = match &mut self.side {
                Side::Server(it) => step(it.process_tls_records(rest), plain, &mut self.outgoing),
                Side::Client(it) => step(it.process_tls_records(rest), plain, &mut self.outgoing),
            };
            consumed += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Ready) => {
                    // A server may write before it has heard the end of the handshake.
                    self.established = !self.common().is_handshaking();
                    break;
                }
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Ok(Step::NeedMore) => break,
                Err(error) => {
                    self.failed = Some(error);
                    self.keep_alert();
                    return input.len();
                }
            }
        }
        consumed
    }

    /// The alert that tells the peer why, if there is one, and what was to be sent before it. No
    /// input may be read again: rustls panics when a broken connection breaks once more.
    fn keep_alert(&mut self) {
        let mut plain = Vec::new();
        while self.common().wants_write() {
            let nothing = &mut [];
            let (_, step) = match &mut self.side {
                Side::Server(it) => {
                    step(it.process_tls_records(nothing), &mut plain, &mut self.outgoing)
                }
                Side::Client(it) => {
                    step(it.process_tls_records(nothing), &mut plain, &mut self.outgoing)
                }
            };
            if !matches!(step, Ok(Step::Again)) {
                return;
            }
        }
    }

    /// Encrypts `plain` behind `sealed`. The handshake must be over.
    ///
    /// # Errors
    ///
    /// When no more may be encrypted with this key, or something was before the handshake's end.
    pub fn send<'a>(
        &mut self,
        plain: impl Iterator<Item = &'a [u8]>,
        sealed: &mut Vec<u8>,
    ) -> Result<(), Error> {
        for piece in plain {
            let records = piece.len().div_ceil(RECORD_BYTES);
            self.seal(sealed, piece.len() + records * RECORD_OVERHEAD, Some(piece))?;
        }
        Ok(())
    }

    /// That nothing more comes from us is to be sent (RFC 8446, section 6.1). Does nothing when
    /// that was said, or during the handshake.
    pub fn close(&mut self) {
        if self.established && self.failed.is_none() && !self.closed {
            self.closed = true;
            let mut sealed = std::mem::take(&mut self.outgoing);
            // Without it the peer takes the connection for broken, which it is then.
            let _ = self.seal(&mut sealed, ALERT_BYTES, None);
            self.outgoing = sealed;
        }
    }

    /// Encrypts a piece, or the end.
    fn seal(
        &mut self,
        sealed: &mut Vec<u8>,
        room: usize,
        piece: Option<&[u8]>,
    ) -> Result<(), Error> {
        loop {
            let incoming = &mut self.incoming;
            let outgoing = &mut *sealed;
            let step = match &mut self.side {
                Side::Server(it) => write(it.process_tls_records(incoming), outgoing, room, piece),
                Side::Client(it) => write(it.process_tls_records(incoming), outgoing, room, piece),
            };
            match step? {
                Written::Done => return Ok(()),
                Written::Again => {}
                Written::PeerClosed => self.peer_closed = true,
            }
        }
    }

    /// Whether something is to be sent that no user wrote.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Moves what is to be sent that no user wrote behind `sealed`.
    pub fn take_outgoing(&mut self, sealed: &mut Vec<u8>) {
        // The memory goes, too: most connections shake hands once.
        sealed.append(&mut std::mem::take(&mut self.outgoing));
    }

    /// Whether the handshake is over.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the peer has said that it sends no more.
    #[must_use]
    pub fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Whether this is the client's side.
    #[must_use]
    pub fn is_client(&self) -> bool {
        matches!(self.side, Side::Client(_))
    }

    /// Why it is broken.
    #[must_use]
    pub fn failure(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Server(it) => it,
            Side::Client(it) => it,
        }
    }

    /// The server name that a client has asked for, in lower case.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The protocol that was agreed on (ALPN).
    #[must_use]
    pub fn protocol(&self) -> Option<&[u8]> {
        self.common().alpn_protocol()
    }

    /// TLS 1.2 or 1.3.
    #[must_use]
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.common().protocol_version()
    }

    /// The cipher suite in rustls's words, for example `TLS13_AES_128_GCM_SHA256`.
    #[must_use]
    pub fn cipher_suite(&self) -> Option<&'static str> {
        self.common().negotiated_cipher_suite().and_then(|suite| suite.suite().as_str())
    }

    /// TLS 1.2 or 1.3 as OpenSSL writes them.
    #[must_use]
    pub fn version_name(&self) -> &'static str {
        match self.version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "-",
        }
    }

    /// The cipher suite in OpenSSL's words.
    #[must_use]
    pub fn cipher_name(&self) -> &'static str {
        let name = self.cipher_suite().unwrap_or("-");
        CIPHERS.iter().find(|(ours, _)| *ours == name).map_or(name, |(_, theirs)| theirs)
    }

    /// What keys were agreed on with, if they were.
    #[must_use]
    pub fn group_name(&self) -> Option<&'static str> {
        Some(match self.common().negotiated_key_exchange_group()?.name() {
            NamedGroup::secp256r1 => "P-256",
            NamedGroup::secp384r1 => "P-384",
            NamedGroup::secp521r1 => "P-521",
            NamedGroup::X25519 => "X25519",
            group => group.as_str().unwrap_or("-"),
        })
    }

    /// Whether it goes on with the keys of an earlier connection.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The peer's certificates, its own first.
    #[must_use]
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.common().peer_certificates().unwrap_or_default()
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = if self.is_client() { "client" } else { "server" };
        write!(f, "Session({side}, established: {})", self.established)
    }
}

enum Step {
    Again,
    /// The handshake is over, and all complete records are read.
    Ready,
    NeedMore,
    PeerClosed,
}

/// One step of reading; says how many bytes of the input are done with, too.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
) -> (usize, Result<Step, Error>) {
    let mut discard = status.discard;
    let step = match status.state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(Step::Again),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut message)) => {
            encode(outgoing, |room| message.encode(room)).map(|()| Step::Again)
        }
        Ok(ConnectionState::TransmitTlsData(sent)) => {
            sent.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerClosed),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Ready),
        // Early data is off; nothing else is there.
        Ok(_) => Ok(Step::NeedMore),
        Err(error) => Err(error),
    };
    (discard, step)
}

enum Written {
    Done,
    Again,
    PeerClosed,
}

/// One step towards writing a piece, or the end, behind `sealed`.
fn write<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    sealed: &mut Vec<u8>,
    room: usize,
    piece: Option<&[u8]>,
) -> Result<Written, Error> {
    match status.state? {
        ConnectionState::WriteTraffic(mut traffic) => {
            let start = sealed.len();
            sealed.resize(start + room, 0);
            let written = match piece {
                Some(piece) => traffic.encrypt(piece, &mut sealed[start..]),
                None => traffic.queue_close_notify(&mut sealed[start..]),
            };
            sealed.truncate(start + *written.as_ref().unwrap_or(&0));
            match written {
                Ok(_) => Ok(Written::Done),
                Err(EncryptError::EncryptExhausted) => Err(Error::EncryptError),
                Err(EncryptError::InsufficientSize(_)) => {
                    Err(Error::General("a record is longer than records can be".into()))
                }
            }
        }
        // New keys are announced before they are used.
        ConnectionState::EncodeTlsData(mut message) => {
            encode(sealed, |room| message.encode(room)).map(|()| Written::Again)
        }
        ConnectionState::TransmitTlsData(sent) => {
            sent.done();
            Ok(Written::Again)
        }
        ConnectionState::PeerClosed => Ok(Written::PeerClosed),
        _ => Err(Error::HandshakeNotComplete),
    }
}

/// Appends what `write` writes, which says how much room it needs.
fn encode(
    outgoing: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), Error> {
    let start = outgoing.len();
    let mut room = 0;
    loop {
        outgoing.resize(start + room, 0);
        match write(&mut outgoing[start..]) {
            Ok(written) => {
                outgoing.truncate(start + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(error)) => room = error.required_size,
            Err(EncodeError::AlreadyEncoded) => {
                outgoing.truncate(start);
                return Ok(());
            }
        }
    }
}
