//! TLS around an `Io`: what the worker sends is encrypted, what it receives is decrypted, and a
//! connection is connected when its handshake is done. The worker does not know.
//!
//! What it leaves to others: sockets. It sends no `close_notify`: whoever measures just leaves.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tidegate_io::{
    Buffer, Completion, ConnectOptions, Errno, Io, Now, Outcome, Output, Socket, Token,
};

/// `EPROTO`: what a failed handshake is to the worker.
const PROTOCOL_ERROR: Errno = Errno(71);
/// Where distributions keep the authorities that they trust.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// How connections are encrypted.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// For a host, as a client that is nobody, or has the certificate and key of two files.
    pub fn new(
        host: &str,
        trust: Trust<'_>,
        identity: Option<(&Path, &Path)>,
        is_http2: bool,
    ) -> Result<Tls, String> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("`{host}` is no name that a certificate can have"))?;
        let builder = ClientConfig::builder();
        let builder = match trust {
            Trust::Anybody => {
                let provider = Arc::clone(builder.crypto_provider());
                let verifier = Arc::new(AnyCertificate(provider));
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
            Trust::Authorities(file) => builder.with_root_certificates(roots(file)?),
        };
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let (chain, key_of_chain) = identity_of(certificate, key)?;
                builder.with_client_auth_cert(chain, key_of_chain).map_err(|error| {
                    format!("{} and {}: {error}", certificate.display(), key.display())
                })?
            }
        };
        let protocol: &[u8] = if is_http2 { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Tls { config: Arc::new(config), name })
    }
}

/// Whose certificates will do.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Those of the authorities in a file, or of the system's.
    Authorities(Option<&'a Path>),
    Anybody,
}

/// A client's certificate with those that vouch for it, and its key.
fn identity_of(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let wrong = |file: &Path, error: String| format!("{}: {error}", file.display());
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
    Ok((chain, key))
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let of_system = || AUTHORITIES.iter().map(Path::new).find(|path| path.exists());
    let file = file
        .or_else(of_system)
        .ok_or("no certificates of authorities on this machine: --cacert FILE, or --insecure")?;
    let wrong = |error: String| format!("{}: {error}", file.display());
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
    // One that cannot be read trusts nobody.
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() { Err(wrong("no certificate in it".to_owned())) } else { Ok(roots) }
}

/// `--insecure`: the certificate is not looked at, only that the peer has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// One connection.
struct Session {
    socket: Socket,
    tls: ClientConnection,
    is_connected: bool,
    /// The kernel has ciphertext of ours.
    sending: bool,
    /// The worker waits to hear that what it sent has left.
    is_awaited: bool,
}

/// An `Io` whose connections speak TLS.
pub struct Secure<I: Io> {
    io: I,
    tls: Tls,
    sessions: HashMap<u64, Session>,
    /// The token of each socket, by its place in the backend's table.
    tokens: Vec<Option<Token>>,
    raw: Vec<Completion>,
    has_complained: bool,
}

impl<I: Io> Secure<I> {
    pub fn new(io: I, tls: Tls) -> Secure<I> {
        Secure {
            io,
            tls,
            sessions: HashMap::new(),
            tokens: Vec::new(),
            raw: Vec::new(),
            has_complained: false,
        }
    }

    fn forget(&mut self, socket: Socket) {
        if let Some(token) = self.tokens.get_mut(socket.index()).and_then(Option::take) {
            self.sessions.remove(&token.0);
        }
    }

    /// Sends what the session wants sent, unless something is on its way.
    fn flush(&mut self, token: Token) {
        let Some(session) = self.sessions.get_mut(&token.0) else { return };
        if session.sending || !session.tls.wants_write() {
            return;
        }
        let mut output = self.io.output();
        while session.tls.wants_write() {
            // Writing to memory does not fail.
            let _ = session.tls.write_tls(output.tail());
        }
        session.sending = true;
        self.io.send(session.socket, output);
    }

    fn translate(&mut self, completion: Completion, out: &mut Vec<Completion>) {
        let Completion { token, outcome } = completion;
        let Some(session) = self.sessions.get_mut(&token.0) else {
            out.push(Completion { token, outcome });
            return;
        };
        match outcome {
            Outcome::Connected(Ok(())) => {
                self.io.recv(session.socket);
                self.flush(token);
            }
            Outcome::Sent(Ok(())) => {
                session.sending = false;
                if session.is_awaited && !session.tls.wants_write() {
                    session.is_awaited = false;
                    out.push(Completion { token, outcome });
                }
                self.flush(token);
            }
            Outcome::Received(buffer) => {
                if let Err(error) = decrypt(session, token, &buffer, out) {
                    let failed = match session.is_connected {
                        true => Outcome::RecvFailed(PROTOCOL_ERROR),
                        false => Outcome::Connected(Err(PROTOCOL_ERROR)),
                    };
                    out.push(Completion { token, outcome: failed });
                    self.complain(&error.to_string());
                }
                self.flush(token);
            }
            Outcome::Eof | Outcome::RecvFailed(_) | Outcome::Sent(Err(_))
                if !session.is_connected =>
            {
                out.push(Completion { token, outcome: Outcome::Connected(Err(PROTOCOL_ERROR)) });
                self.complain("the peer ended a handshake");
            }
            outcome => out.push(Completion { token, outcome }),
        }
    }

    fn complain(&mut self, what: &str) {
        if !std::mem::replace(&mut self.has_complained, true) {
            eprintln!("loadtest: TLS: {what} (--cacert and --insecure say whom to trust)");
        }
    }
}

/// Passes on what the ciphertext held.
fn decrypt(
    session: &mut Session,
    token: Token,
    mut input: &[u8],
    out: &mut Vec<Completion>,
) -> Result<(), rustls::Error> {
    while !input.is_empty() {
        // From memory: it fails only when the session's own buffer is full, which it never is here.
        if session.tls.read_tls(&mut input).unwrap_or(0) == 0 {
            return Err(rustls::Error::General("too much at once".to_owned()));
        }
        let state = session.tls.process_new_packets()?;
        if !session.is_connected && !session.tls.is_handshaking() {
            session.is_connected = true;
            out.push(Completion { token, outcome: Outcome::Connected(Ok(())) });
        }
        let mut plain = vec![0; state.plaintext_bytes_to_read()];
        if !plain.is_empty() && session.tls.reader().read_exact(&mut plain).is_ok() {
            let outcome = Outcome::Received(Buffer::copy_from(&plain));
            out.push(Completion { token, outcome });
        }
        if state.peer_has_closed() {
            out.push(Completion { token, outcome: Outcome::Eof });
            return Ok(());
        }
    }
    Ok(())
}

impl<I: Io> Io for Secure<I> {
    tidegate_io::pass_on! {
        io: listen accept set_token recv recv_some is_receiving pause shutdown_write expect trim
            now waker set_waker_token output peer_address local_address stats name
    }

    fn connect_with(
        &mut self,
        address: &SocketAddr,
        options: &ConnectOptions,
        token: Token,
    ) -> io::Result<Socket> {
        let config = Arc::clone(&self.tls.config);
        let mut tls =
            ClientConnection::new(config, self.tls.name.clone()).map_err(io::Error::other)?;
        tls.set_buffer_limit(None);
        let socket = self.io.connect_with(address, options, token)?;
        let index = socket.index();
        if self.tokens.len() <= index {
            self.tokens.resize(index + 1, None);
        }
        self.tokens[index] = Some(token);
        let session =
            Session { socket, tls, is_connected: false, sending: false, is_awaited: false };
        self.sessions.insert(token.0, session);
        Ok(socket)
    }

    fn splice(&mut self, _: Socket, _: Socket, _: u64) -> bool {
        false
    }

    fn send(&mut self, socket: Socket, output: Output) {
        let Some(token) = self.tokens.get(socket.index()).copied().flatten() else { return };
        let Some(session) = self.sessions.get_mut(&token.0) else { return };
        for piece in output.pieces() {
            // The session's buffer has no limit.
            let _ = session.tls.writer().write_all(piece);
        }
        session.is_awaited = true;
        self.flush(token);
    }

    fn send_last(&mut self, socket: Socket, output: Output) {
        self.send(socket, output);
    }

    fn close(&mut self, socket: Socket) {
        self.forget(socket);
        self.io.close(socket);
    }

    fn abort(&mut self, socket: Socket) {
        self.forget(socket);
        self.io.abort(socket);
    }

    fn turn(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<Now> {
        let mut raw = std::mem::take(&mut self.raw);
        let now = self.io.turn(timeout, &mut raw)?;
        for completion in raw.drain(..) {
            self.translate(completion, completions);
        }
        self.raw = raw;
        Ok(now)
    }
}
