//! An [`Io`] whose sockets may speak TLS: what goes through one is encrypted on the way, and
//! whoever uses it sees plaintext. On other sockets it adds nothing.
//!
//! A handshake ends with [`Outcome::Connected`], on both sides. `close_notify` is an
//! [`Outcome::Eof`]; an end without it is one on a server's side only, for a response may end with
//! its connection and must not be cut short by somebody else (RFC 9112, section 9.8).
//!
//! What it leaves to others: the bytes of a session ([`super::Session`]), and how long a handshake
//! may take.

mod io;

use super::{ServerContext, Session};
use crate::shard::slots::{Key, Slots};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tidegate_io::{Buffer, Completion, Errno, Instant, Io, Outcome, Output, Socket, Token};

/// Tokens with this bit name a [`Secured`]; owners' tokens have it not.
const SECURED: u64 = 1 << 63;
/// How long a closed socket may take for what says so.
const PARTING: Duration = Duration::from_secs(1);

const EPROTO: Errno = Errno(libc::EPROTO);
/// A host's connection ended without `close_notify`.
pub(crate) const TRUNCATED: Errno = Errno(libc::ENODATA);
const ECONNRESET: Errno = Errno(libc::ECONNRESET);

/// A socket that speaks TLS.
#[derive(Debug)]
struct Secured {
    session: Session,
    socket: Socket,
    owner: Token,
    /// A send is in flight, and whose it is.
    sending: Option<Sender>,
    /// What the owner sends once that is over; whether it is the last.
    held: Option<(Output, bool)>,
    /// FIN follows what is being sent.
    finish: bool,
    /// The owner has closed it: it goes when what is left is sent.
    parting: bool,
    /// The owner knows how the handshake ended.
    announced: bool,
    /// The owner knows that nothing more comes.
    ended: bool,
    /// The owner wants only so many bytes.
    some: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sender {
    Owner,
    Session,
}

/// The sockets of a shard.
#[derive(Debug)]
pub struct Sockets<I> {
    io: I,
    secured: Slots<Secured>,
    by_socket: Vec<Option<Key<Secured>>>,
    /// Closed ones that still send, and when that must be over.
    parting: VecDeque<(Instant, Key<Secured>)>,
    /// What the next turn reports before anything else.
    ready: Vec<Completion>,
    raw: Vec<Completion>,
    plain: Vec<u8>,
    now: Instant,
}

fn token_of(key: Key<Secured>) -> Token {
    Token(SECURED | key.to_bits())
}

impl<I: Io> Sockets<I> {
    /// The sockets of `io`.
    pub fn new(io: I) -> Sockets<I> {
        Sockets {
            now: io.now().instant,
            io,
            secured: Slots::default(),
            by_socket: Vec::new(),
            parting: VecDeque::new(),
            ready: Vec::new(),
            raw: Vec::new(),
            plain: Vec::new(),
        }
    }

    /// What is beneath.
    pub fn inner(&mut self) -> &mut I {
        &mut self.io
    }

    /// From now on `socket`, which was accepted, speaks TLS. `input` was received from it before.
    ///
    /// # Errors
    ///
    /// Those of [`Session::server`].
    pub fn secure_server(
        &mut self,
        socket: Socket,
        context: &Arc<ServerContext>,
        owner: Token,
        input: Option<Buffer>,
    ) -> Result<(), Error> {
        let key = self.secure(socket, Session::server(context)?, owner);
        if let Some(input) = input {
            let token = token_of(key);
            self.ready.push(Completion { token, outcome: Outcome::Received(input) });
        }
        Ok(())
    }

    /// The peer's end of `socket`, which speaks TLS, came with what was received before.
    pub fn end_input(&mut self, socket: Socket) {
        if let Some(key) = self.key_of(socket) {
            self.ready.push(Completion { token: token_of(key), outcome: Outcome::Eof });
        }
    }

    /// From now on `socket`, which is being connected, speaks TLS: it is connected when the
    /// handshake is over.
    ///
    /// # Errors
    ///
    /// Those of [`Session::client`].
    pub fn secure_client(
        &mut self,
        socket: Socket,
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
        owner: Token,
    ) -> Result<(), Error> {
        self.secure(socket, Session::client(config, name)?, owner);
        Ok(())
    }

    fn secure(&mut self, socket: Socket, session: Session, owner: Token) -> Key<Secured> {
        let key = self.secured.insert(Secured {
            session,
            socket,
            owner,
            sending: None,
            held: None,
            finish: false,
            parting: false,
            announced: false,
            ended: false,
            some: None,
        });
        let index = socket.index();
        if self.by_socket.len() <= index {
            self.by_socket.resize(index + 1, None);
        }
        self.by_socket[index] = Some(key);
        self.io.set_token(socket, token_of(key));
        key
    }

    /// What `socket` has agreed on with its peer, if it speaks TLS.
    #[must_use]
    pub fn session(&self, socket: Socket) -> Option<&Session> {
        Some(&self.secured.get(self.key_of(socket)?)?.session)
    }

    fn key_of(&self, socket: Socket) -> Option<Key<Secured>> {
        let key = (*self.by_socket.get(socket.index())?)?;
        (self.secured.get(key)?.socket == socket).then_some(key)
    }

    fn of_socket(&mut self, socket: Socket) -> Option<&mut Secured> {
        let key = self.key_of(socket)?;
        self.secured.get_mut(key)
    }

    fn completed(&mut self, key: Key<Secured>, outcome: Outcome, out: &mut Vec<Completion>) {
        let Some(secured) = self.secured.get_mut(key) else { return };
        match outcome {
            Outcome::Received(_) if secured.parting => {}
            Outcome::Received(buffer) => self.received(key, buffer, out),
            Outcome::Sent(result) => self.sent(key, result, out),
            Outcome::Connected(Ok(())) => {
                self.io.recv(secured.socket);
                self.received(key, Buffer::copy_from(b""), out);
            }
            Outcome::Connected(Err(errno)) => secured.tell_handshake(Err(errno), out),
            Outcome::Eof if secured.session.is_client() => secured.tell_end(Err(TRUNCATED), out),
            Outcome::Eof => secured.tell_end(Ok(()), out),
            Outcome::RecvFailed(errno) => secured.tell_end(Err(errno), out),
            outcome => debug_assert!(false, "a socket with TLS completed with {outcome:?}"),
        }
    }

    fn received(&mut self, key: Key<Secured>, mut buffer: Buffer, out: &mut Vec<Completion>) {
        let Some(secured) = self.secured.get_mut(key) else { return };
        self.plain.clear();
        let failed = match buffer.bytes_mut() {
            Some(bytes) => secured.session.receive(bytes, &mut self.plain).is_err(),
            None => {
                let mut bytes = buffer.to_vec();
                secured.session.receive(&mut bytes, &mut self.plain).is_err()
            }
        };
        if secured.session.is_established() {
            secured.tell_handshake(Ok(()), out);
        }
        if !self.plain.is_empty() {
            secured.tell(Outcome::Received(buffer_of(&self.plain, buffer)), out);
        }
        if failed {
            self.io.pause(secured.socket);
            secured.tell_end(Err(EPROTO), out);
        } else if secured.session.is_peer_closed() {
            secured.tell_end(Ok(()), out);
        } else if let Some(bytes_max) = secured.some
            && self.plain.is_empty()
        {
            self.io.recv_some(secured.socket, bytes_max);
        }
        self.flush(key);
    }

    fn sent(&mut self, key: Key<Secured>, result: Result<(), Errno>, out: &mut Vec<Completion>) {
        let Some(secured) = self.secured.get_mut(key) else { return };
        let sender = secured.sending.take();
        if secured.parting && result.is_err() {
            return self.drop_socket(key);
        }
        match (sender, result) {
            (Some(Sender::Owner), result) => secured.tell(Outcome::Sent(result), out),
            (_, Err(errno)) if secured.held.take().is_some() => {
                secured.tell(Outcome::Sent(Err(errno)), out);
            }
            // That the peer is gone is noticed by receiving, too.
            (_, Err(errno)) => {
                secured.session.take_outgoing(&mut Vec::new());
                secured.tell_end(Err(errno), out);
            }
            (_, Ok(())) => {}
        }
        self.flush(key);
    }

    /// Sends what waits, unless a send is in flight.
    fn flush(&mut self, key: Key<Secured>) {
        let Some(secured) = self.secured.get_mut(key) else { return };
        if secured.sending.is_some() {
            return;
        }
        let socket = secured.socket;
        if let Some((output, last)) = secured.held.take() {
            secured.sending = Some(Sender::Owner);
            match last {
                true => self.io.send_last(socket, output),
                false => self.io.send(socket, output),
            }
        } else if secured.session.has_outgoing() {
            let mut output = self.io.output();
            secured.session.take_outgoing(output.tail());
            secured.sending = Some(Sender::Session);
            self.io.send(socket, output);
        } else if secured.parting {
            self.drop_socket(key);
        } else if std::mem::take(&mut secured.finish) {
            self.io.shutdown_write(socket);
        }
    }

    fn send_secured(&mut self, key: Key<Secured>, output: &Output, last: bool) {
        let Some(secured) = self.secured.get_mut(key) else { return };
        let mut sealed = self.io.output();
        let tail = sealed.tail();
        secured.session.take_outgoing(tail);
        if secured.session.send(output.pieces(), tail).is_err() {
            let outcome = Outcome::Sent(Err(EPROTO));
            return self.ready.push(Completion { token: secured.owner, outcome });
        }
        if last {
            secured.session.close();
            secured.session.take_outgoing(tail);
        }
        secured.held = Some((sealed, last));
        self.flush(key);
    }

    fn close_secured(&mut self, key: Key<Secured>) {
        let Some(secured) = self.secured.get_mut(key) else { return };
        // What was encrypted and does not go cannot be followed by anything: the peer would find a
        // record missing.
        if secured.sending == Some(Sender::Owner) || secured.held.is_some() {
            return self.drop_socket(key);
        }
        secured.session.close();
        secured.parting = true;
        self.io.pause(secured.socket);
        self.parting.push_back((self.now + PARTING, key));
        self.flush(key);
    }

    fn forget(&mut self, key: Key<Secured>) -> Option<Socket> {
        let secured = self.secured.remove(key)?;
        self.by_socket[secured.socket.index()] = None;
        Some(secured.socket)
    }

    fn drop_socket(&mut self, key: Key<Secured>) {
        if let Some(socket) = self.forget(key) {
            self.io.close(socket);
        }
    }

    /// Closes what has had its time.
    fn end_parting(&mut self) {
        while let Some((until, key)) = self.parting.front().copied()
            && (until <= self.now || self.secured.get(key).is_none())
        {
            self.parting.pop_front();
            self.drop_socket(key);
        }
    }
}

/// Plaintext in the memory that its ciphertext came in, where it has room.
fn buffer_of(plain: &[u8], mut memory: Buffer) -> Buffer {
    match memory.bytes_mut() {
        Some(bytes) if plain.len() <= bytes.len() => {
            bytes[..plain.len()].copy_from_slice(plain);
            memory.slice(0..plain.len())
        }
        _ => Buffer::copy_from(plain),
    }
}

impl Secured {
    fn tell(&self, outcome: Outcome, out: &mut Vec<Completion>) {
        out.push(Completion { token: self.owner, outcome });
    }

    fn tell_handshake(&mut self, result: Result<(), Errno>, out: &mut Vec<Completion>) {
        if !std::mem::replace(&mut self.announced, true) && !self.parting {
            self.tell(Outcome::Connected(result), out);
        }
    }

    /// Nothing more comes; before the handshake's end that is its failure.
    fn tell_end(&mut self, result: Result<(), Errno>, out: &mut Vec<Completion>) {
        if !self.announced {
            self.ended = true;
            return self.tell_handshake(Err(result.err().unwrap_or(ECONNRESET)), out);
        }
        if !std::mem::replace(&mut self.ended, true) && !self.parting {
            self.tell(result.map_or_else(Outcome::RecvFailed, |()| Outcome::Eof), out);
        }
    }
}

#[cfg(test)]
mod tests;
