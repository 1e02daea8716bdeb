//! Cases that do everything at random with few buffers and small queues.
//!
//! What it leaves to others: saying what is wrong; the other cases are smaller.

use std::collections::HashMap;
use std::time::Duration;

use tidegate_io::{Buffer, IoOptions, Outcome, Socket, Token};

use super::{Bench, LISTENER, pattern};
use crate::Backend;

/// One end of a connection. Its token is used for nothing else, ever.
struct End {
    socket: Socket,
    peer: Token,
    /// Bytes given to `send`, and received from the peer: both of the same pattern.
    offered: usize,
    received: usize,
    sending: bool,
    shut: bool,
    connected: bool,
}

struct Chaos<B> {
    bench: Bench<B>,
    ends: HashMap<Token, End>,
    /// Clients whose server was not accepted yet, in order.
    connecting: Vec<Token>,
    next: u64,
    all: Vec<u8>,
    held: Vec<Buffer>,
    random: u64,
}

/// Bytes stay right, closed sockets stay silent and everything comes back, whatever is done when.
pub fn whatever_is_done_when_bytes_are_right_and_everything_comes_back<B: Backend>(_: Bench<B>) {
    let tiny = IoOptions {
        buffer_bytes: 1024,
        buffers_max: 24,
        buffer_ring_entries: 8,
        submission_entries: 32,
        completion_entries: 128,
        gather: Duration::from_micros(200),
    };
    let all = pattern(1 << 20);
    for seed in 1..=12 {
        let Some(bench) = Bench::<B>::with(&tiny) else { return };
        let mut chaos = Chaos {
            bench,
            ends: HashMap::new(),
            connecting: Vec::new(),
            next: 100,
            all: all.clone(),
            held: Vec::new(),
            random: seed * 0x9e37_79b9,
        };
        // In every second world completions gather.
        chaos.bench.io.expect(10, if seed % 2 == 0 { 100 } else { 0 });
        for _ in 0..400 {
            for _ in 0..chaos.below(12) {
                chaos.act();
            }
            let wait = Duration::from_millis(u64::from(chaos.below(8) == 0));
            chaos.bench.turn(wait);
            chaos.hear();
        }
        chaos.end();
    }
}

impl<B: Backend> Chaos<B> {
    fn below(&mut self, end: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 20) as usize % end
    }

    /// Does one thing to one socket.
    fn act(&mut self) {
        if self.ends.len() < 40 && self.below(6) == 0 {
            return self.connect();
        }
        let mut tokens: Vec<_> = self.ends.keys().copied().collect();
        tokens.sort_unstable();
        if tokens.is_empty() {
            return;
        }
        let token = tokens[self.below(tokens.len())];
        let socket = self.ends[&token].socket;
        match self.below(20) {
            0..6 => self.bench.io.recv(socket),
            6..9 => self.bench.io.pause(socket),
            9..16 => self.send(token),
            16 => {
                let end = self.ends.get_mut(&token).unwrap();
                if end.connected && !end.sending {
                    end.shut = true;
                    self.bench.io.shutdown_write(socket);
                }
            }
            17 => self.forget(token, false),
            18 => self.forget(token, true),
            _ => {
                let keep = self.below(10);
                self.held.truncate(keep);
            }
        }
    }

    fn connect(&mut self) {
        let token = Token(self.next);
        let peer = Token(self.next + 1);
        self.next += 2;
        let socket = self.bench.io.connect(&self.bench.address, token).unwrap();
        self.ends.insert(token, End::new(socket, peer));
        self.connecting.push(token);
    }

    fn send(&mut self, token: Token) {
        let length = 1 + self.below(if self.random.is_multiple_of(9) { 90_000 } else { 3_000 });
        let share = self.random.is_multiple_of(2);
        let end = self.ends.get_mut(&token).unwrap();
        let part = &self.all[end.offered..self.all.len().min(end.offered + length)];
        if !end.connected || end.sending || end.shut || part.is_empty() {
            return;
        }
        end.offered += part.len();
        end.sending = true;
        let mut output = self.bench.io.output();
        if share {
            output.push(Buffer::copy_from(part));
        } else {
            output.tail().extend_from_slice(part);
        }
        self.bench.io.send(end.socket, output);
    }

    fn forget(&mut self, token: Token, abort: bool) {
        let Some(end) = self.ends.remove(&token) else { return };
        if abort {
            self.bench.io.abort(end.socket);
        } else {
            self.bench.io.close(end.socket);
        }
    }

    fn hear(&mut self) {
        for completion in std::mem::take(&mut self.bench.seen) {
            let token = completion.token;
            match completion.outcome {
                Outcome::Accepted(socket) if token == LISTENER => self.accepted(socket),
                outcome => self.hear_of(token, outcome),
            }
        }
    }

    /// Connections are accepted in any order; the client is found by its address.
    fn accepted(&mut self, socket: Socket) {
        let address = self.bench.io.peer_address(socket);
        let local = |client: &Token| {
            let end = self.ends.get(client)?;
            self.bench.io.local_address(end.socket)
        };
        let found =
            self.connecting.iter().position(|client| address.is_some() && local(client) == address);
        let Some(found) = found else {
            self.bench.io.close(socket);
            return;
        };
        let client = self.connecting.remove(found);
        let token = self.ends[&client].peer;
        self.bench.io.set_token(socket, token);
        let mut end = End::new(socket, client);
        end.connected = true;
        self.ends.insert(token, end);
    }

    fn hear_of(&mut self, token: Token, outcome: Outcome) {
        let Some(end) = self.ends.get_mut(&token) else {
            // Forgotten while this completion was in the same batch, which `hear` empties at once:
            // only what `hear` itself forgot may still be heard of.
            panic!("a closed socket is heard of: {token:?} {outcome:?}");
        };
        match outcome {
            Outcome::Received(buffer) => {
                let expected = &self.all[end.received..end.received + buffer.len()];
                assert!(*buffer == *expected, "wrong bytes on {token:?}");
                end.received += buffer.len();
                if self.held.len() < 20 && buffer.len() % 3 == 0 {
                    self.held.push(buffer);
                }
            }
            Outcome::Sent(result) => {
                end.sending = false;
                end.shut |= result.is_err();
            }
            Outcome::Connected(result) => {
                end.connected = result.is_ok();
                end.shut |= result.is_err();
            }
            Outcome::Eof | Outcome::RecvFailed(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Bytes of connections that still stand arrive; then all is closed and everything is back.
    fn end(&mut self) {
        self.held.clear();
        let tokens: Vec<_> = self.ends.keys().copied().collect();
        for token in &tokens {
            self.bench.io.recv(self.ends[token].socket);
        }
        let whole = |ends: &HashMap<Token, End>| {
            ends.values().all(|end| {
                let peer = ends.get(&end.peer);
                end.shut || peer.is_none_or(|peer| peer.received == end.offered || peer.shut)
            })
        };
        for _ in 0..2_000 {
            if whole(&self.ends) {
                break;
            }
            self.bench.turn(Duration::from_millis(5));
            self.hear();
            self.held.clear();
        }
        assert!(whole(&self.ends), "bytes are missing");
        for (_, end) in self.ends.drain() {
            self.bench.io.close(end.socket);
        }
        self.bench.io.close(self.bench.listener);
        self.bench.settled(0);
    }
}

impl End {
    fn new(socket: Socket, peer: Token) -> End {
        End { socket, peer, offered: 0, received: 0, sending: false, shut: false, connected: false }
    }
}
