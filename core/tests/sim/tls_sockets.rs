//! Sockets of peers, which may speak TLS: by rustls, and without anything of the proxy's.
//!
//! What it leaves to others: what the peers say (`client.rs`, `origin.rs`), and the network, which
//! cuts records anywhere.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use tidegate_io::sim::{NodeId, SimIo};
use tidegate_io::{Buffer, Completion, Errno, Instant, Io, Now, Outcome, Output, Socket, Token};

/// How long a closed socket has for what says so.
const PARTING: Duration = Duration::from_secs(1);
const ECONNRESET: Errno = Errno(104);

/// Which side a peer's connections are.
pub enum Side {
    Client(Arc<ClientConfig>),
    Server(Arc<ServerConfig>),
}

/// What a peer does with its sockets, whether they speak TLS or not. Whoever uses it sees
/// plaintext.
pub struct PeerIo {
    io: SimIo,
    /// None: nothing is encrypted.
    side: Option<Side>,
    /// By the tokens of their owners, which name one socket each.
    secured: BTreeMap<u64, Secured>,
    raw: Vec<Completion>,
}

struct Secured {
    socket: Socket,
    connection: Connection,
    /// The owner knows how the handshake has ended.
    is_announced: bool,
    /// The owner wants what comes.
    wants: bool,
    /// A send is in flight, and whether it ends with what the owner sent.
    sending: Option<bool>,
    /// The owner has sent something that is not on its way.
    asked: bool,
    /// FIN follows.
    finish: bool,
    ended: bool,
    /// The owner has closed it; it goes when that is said, and then at the latest.
    parting: Option<Instant>,
}

impl PeerIo {
    pub fn new(io: SimIo, side: Option<Side>) -> PeerIo {
        PeerIo { io, side, secured: BTreeMap::new(), raw: Vec::new() }
    }

    pub fn node(&self) -> NodeId {
        self.io.node()
    }

    pub fn now(&self) -> Now {
        self.io.now()
    }

    pub fn output(&mut self) -> Output {
        self.io.output()
    }

    pub fn listen_at(&mut self, address: SocketAddr, token: Token) -> io::Result<Socket> {
        self.io.listen_at(address, token)
    }

    pub fn accept(&mut self, listener: Socket) {
        self.io.accept(listener);
    }

    pub fn connect(&mut self, address: &SocketAddr, token: Token) -> io::Result<Socket> {
        let socket = self.io.connect(address, token)?;
        if let Some(Side::Client(config)) = &self.side {
            let name = ServerName::try_from("sim").unwrap();
            let connection = ClientConnection::new(config.clone(), name).unwrap();
            self.secured.insert(token.0, Secured::new(socket, connection.into()));
        }
        Ok(socket)
    }

    /// Gives an accepted socket its token.
    pub fn set_token(&mut self, socket: Socket, token: Token) {
        self.io.set_token(socket, token);
        if let Some(Side::Server(config)) = &self.side {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let secured = Secured { is_announced: true, ..Secured::new(socket, connection.into()) };
            self.secured.insert(token.0, secured);
        }
    }

    /// The server name that a client has asked for.
    pub fn server_name(&self, socket: Socket) -> Option<&str> {
        let secured = self.secured.values().find(|it| it.socket == socket)?;
        match &secured.connection {
            Connection::Server(connection) => connection.server_name(),
            Connection::Client(_) => None,
        }
    }

    fn of(&mut self, socket: Socket) -> Option<(&mut SimIo, &mut Secured)> {
        let secured = self.secured.values_mut();
        let of_owner = |it: &&mut Secured| it.socket == socket && it.parting.is_none();
        secured.into_iter().find(of_owner).map(|secured| (&mut self.io, secured))
    }

    pub fn recv(&mut self, socket: Socket) {
        if let Some((_, secured)) = self.of(socket) {
            secured.wants = true;
        }
        self.io.recv(socket);
    }

    pub fn pause(&mut self, socket: Socket) {
        if let Some((_, secured)) = self.of(socket) {
            secured.wants = false;
        }
        self.io.pause(socket);
    }

    pub fn send(&mut self, socket: Socket, output: Output) {
        let Some((io, secured)) = self.of(socket) else { return self.io.send(socket, output) };
        for piece in output.pieces() {
            secured.connection.writer().write_all(piece).unwrap();
        }
        secured.asked = true;
        secured.flush(io);
    }

    pub fn shutdown_write(&mut self, socket: Socket) {
        let Some((io, secured)) = self.of(socket) else { return self.io.shutdown_write(socket) };
        secured.connection.send_close_notify();
        secured.finish = true;
        secured.flush(io);
    }

    /// Closes a socket. Where the owner's bytes are on their way, or the handshake is, that cuts
    /// them; else it is said first.
    pub fn close(&mut self, socket: Socket) {
        let until = self.io.now().instant + PARTING;
        let Some((io, secured)) = self.of(socket) else { return self.io.close(socket) };
        if secured.asked || secured.sending == Some(true) || secured.connection.is_handshaking() {
            io.close(socket);
            return self.secured.retain(|_, it| it.socket != socket);
        }
        secured.connection.send_close_notify();
        secured.parting = Some(until);
        io.pause(socket);
        if secured.flush(io) {
            self.secured.retain(|_, it| it.socket != socket);
        }
    }

    pub fn abort(&mut self, socket: Socket) {
        self.secured.retain(|_, it| it.socket != socket);
        self.io.abort(socket);
    }

    pub fn turn(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<Now> {
        if self.side.is_none() {
            return self.io.turn(timeout, completions);
        }
        let parting = self.secured.values().filter_map(|it| it.parting).min();
        let parting = parting.map(|until| until.since(self.io.now().instant));
        let timeout = timeout.into_iter().chain(parting).min();
        let mut raw = std::mem::take(&mut self.raw);
        let now = self.io.turn(timeout, &mut raw)?;
        for completion in raw.drain(..) {
            let token = completion.token.0;
            let Some(secured) = self.secured.get_mut(&token) else {
                completions.push(completion);
                continue;
            };
            if secured.completed(completion, &mut self.io, completions) {
                self.secured.remove(&token);
            }
        }
        self.raw = raw;
        let io = &mut self.io;
        self.secured.retain(|_, it| {
            let is_over = it.parting.is_some_and(|until| until <= now.instant);
            if is_over {
                io.close(it.socket);
            }
            !is_over
        });
        Ok(now)
    }
}

impl Secured {
    fn new(socket: Socket, mut connection: Connection) -> Secured {
        connection.set_buffer_limit(None);
        Secured {
            socket,
            connection,
            is_announced: false,
            wants: false,
            sending: None,
            asked: false,
            finish: false,
            ended: false,
            parting: None,
        }
    }

    /// Takes up what happened. True when the socket is closed.
    fn completed(
        &mut self,
        Completion { token, outcome }: Completion,
        io: &mut SimIo,
        out: &mut Vec<Completion>,
    ) -> bool {
        let mut tell = |outcome| out.push(Completion { token, outcome });
        match outcome {
            Outcome::Connected(Ok(())) => io.recv(self.socket),
            Outcome::Received(_) if self.parting.is_some() => {}
            Outcome::Received(buffer) => {
                let plain = self.receive(&buffer);
                if !self.is_announced && !self.connection.is_handshaking() {
                    self.is_announced = true;
                    tell(Outcome::Connected(Ok(())));
                    if !self.wants {
                        io.pause(self.socket);
                    }
                }
                if !plain.is_empty() {
                    tell(Outcome::Received(Buffer::copy_from(&plain)));
                }
                let state = self.connection.process_new_packets().unwrap();
                if state.peer_has_closed() && !std::mem::replace(&mut self.ended, true) {
                    tell(Outcome::Eof);
                }
            }
            Outcome::Sent(result) => {
                let was_owners = self.sending.take() == Some(true);
                if self.parting.is_some() && result.is_err() {
                    io.close(self.socket);
                    return true;
                }
                if self.parting.is_none() && (was_owners || self.asked && result.is_err()) {
                    tell(Outcome::Sent(result));
                }
                if result.is_err() {
                    return false;
                }
            }
            // An end that was not announced is none to rely on.
            Outcome::Eof => {
                self.end(ECONNRESET, &mut tell);
                return false;
            }
            Outcome::RecvFailed(errno) | Outcome::Connected(Err(errno)) => {
                self.end(errno, &mut tell);
                return false;
            }
            other => panic!("a peer's socket heard {other:?}"),
        }
        self.flush(io)
    }

    fn end(&mut self, errno: Errno, tell: &mut impl FnMut(Outcome)) {
        let was_ended = std::mem::replace(&mut self.ended, true) || self.parting.is_some();
        if !std::mem::replace(&mut self.is_announced, true) {
            tell(Outcome::Connected(Err(errno)));
        } else if !was_ended {
            tell(Outcome::RecvFailed(errno));
        }
    }

    /// What was in these bytes.
    fn receive(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        while !bytes.is_empty() {
            self.connection.read_tls(&mut bytes).unwrap();
            let state = match self.connection.process_new_packets() {
                Ok(state) => state,
                Err(error) => panic!("what the proxy sent is no TLS: {error}"),
            };
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            self.connection.reader().read_exact(&mut plain[start..]).unwrap();
            if state.peer_has_closed() {
                break;
            }
        }
        plain
    }

    /// Sends what waits, unless a send is in flight. True when the socket is closed.
    fn flush(&mut self, io: &mut SimIo) -> bool {
        if self.sending.is_some() {
            return false;
        }
        if self.connection.wants_write() {
            let mut output = io.output();
            while self.connection.wants_write() {
                self.connection.write_tls(output.tail()).unwrap();
            }
            let is_owners = self.asked && !self.connection.is_handshaking();
            self.asked &= !is_owners;
            self.sending = Some(is_owners);
            io.send(self.socket, output);
        } else if self.parting.is_some() {
            io.close(self.socket);
            return true;
        } else if std::mem::take(&mut self.finish) {
            io.shutdown_write(self.socket);
        }
        false
    }
}
