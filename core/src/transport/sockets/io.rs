//! What a shard does with its sockets, whether they speak TLS or not.
//!
//! What it leaves to others: the handshakes and the records (`sockets`).

use super::{SECURED, Sockets};
use crate::shard::slots::Key;
use std::io;
use std::time::Duration;
use tidegate_io::{Completion, Io, Now, Output, Socket, Token};

impl<I: Io> Io for Sockets<I> {
    tidegate_io::pass_on! {
        io: listen accept connect_with is_receiving expect trim now waker set_waker_token output
            peer_address local_address stats name
    }

    fn set_token(&mut self, socket: Socket, token: Token) {
        match self.of_socket(socket) {
            Some(secured) => secured.owner = token,
            None => self.io.set_token(socket, token),
        }
    }

    fn recv(&mut self, socket: Socket) {
        if let Some(secured) = self.of_socket(socket) {
            secured.some = None;
        }
        self.io.recv(socket);
    }

    fn recv_some(&mut self, socket: Socket, bytes_max: u32) {
        if let Some(secured) = self.of_socket(socket) {
            secured.some = Some(bytes_max);
        }
        self.io.recv_some(socket, bytes_max);
    }

    fn splice(&mut self, from: Socket, to: Socket, bytes: u64) -> bool {
        let is_plain = self.key_of(from).is_none() && self.key_of(to).is_none();
        is_plain && self.io.splice(from, to, bytes)
    }

    fn pause(&mut self, socket: Socket) {
        if let Some(secured) = self.of_socket(socket) {
            secured.some = None;
        }
        self.io.pause(socket);
    }

    fn send(&mut self, socket: Socket, output: Output) {
        match self.key_of(socket) {
            Some(key) => self.send_secured(key, &output, false),
            None => self.io.send(socket, output),
        }
    }

    fn send_last(&mut self, socket: Socket, output: Output) {
        match self.key_of(socket) {
            Some(key) => self.send_secured(key, &output, true),
            None => self.io.send_last(socket, output),
        }
    }

    fn shutdown_write(&mut self, socket: Socket) {
        let Some(key) = self.key_of(socket) else { return self.io.shutdown_write(socket) };
        if let Some(secured) = self.secured.get_mut(key) {
            secured.session.close();
            secured.finish = true;
        }
        self.flush(key);
    }

    fn close(&mut self, socket: Socket) {
        match self.key_of(socket) {
            Some(key) => self.close_secured(key),
            None => self.io.close(socket),
        }
    }

    fn abort(&mut self, socket: Socket) {
        if let Some(key) = self.key_of(socket) {
            self.forget(key);
        }
        self.io.abort(socket);
    }

    fn turn(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<Now> {
        if self.secured.is_empty() {
            let now = self.io.turn(timeout, completions)?;
            self.now = now.instant;
            return Ok(now);
        }
        let timeout = if self.ready.is_empty() { timeout } else { Some(Duration::ZERO) };
        let mut raw = std::mem::take(&mut self.raw);
        raw.append(&mut self.ready);
        let result = self.io.turn(timeout, &mut raw);
        if let Ok(now) = &result {
            self.now = now.instant;
        }
        for completion in raw.drain(..) {
            match completion.token.0 & SECURED {
                0 => completions.push(completion),
                _ => self.completed(
                    Key::from_bits(completion.token.0),
                    completion.outcome,
                    completions,
                ),
            }
        }
        self.raw = raw;
        self.end_parting();
        result
    }
}
