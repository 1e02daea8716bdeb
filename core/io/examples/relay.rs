//! A TCP relay over the I/O layer: every connection is joined to one of its own to the upstream.
//!
//! It parses nothing, so what it costs is what the I/O layer and the kernel cost; compare it with a
//! relay written directly against epoll. `relay LISTEN_PORT UPSTREAM_PORT auto|io_uring|epoll
//! [BUFFER_BYTES]`
//!
//! What it leaves to others: measuring.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};

use tidegate_io::backend::{Backend, Chosen};
use tidegate_io::epoll::Epoll;
use tidegate_io::socket::{ListenOptions, listen};
use tidegate_io::uring::Uring;
use tidegate_io::{Completion, Io, IoOptions, Outcome, Output, Socket, Token};

/// Bytes that may wait for a slow receiver before the fast sender is paused.
const WAITING_BYTES_MAX: usize = 256 * 1024;

const LISTENER: Token = Token(u64::MAX);

/// One end of a relayed connection; the other end has the number with the last bit flipped.
struct End {
    socket: Socket,
    /// What waits while a send to this end is in flight.
    waiting: Option<Output>,
    sending: bool,
    paused: bool,
    finished: bool,
}

struct Relay<I: Io> {
    io: I,
    upstream: SocketAddr,
    ends: Vec<Option<End>>,
    free: Vec<usize>,
}

impl<I: Io> Relay<I> {
    fn run(&mut self, listener: Socket) -> Result<(), Box<dyn Error>> {
        self.io.accept(listener);
        let mut completions = Vec::new();
        loop {
            self.io.turn(None, &mut completions)?;
            for Completion { token, outcome } in completions.drain(..) {
                match outcome {
                    Outcome::Accepted(socket) => self.join(socket),
                    Outcome::AcceptStopped(errno) => return Err(errno.to_string().into()),
                    outcome => self.step(token.0 as usize, outcome),
                }
            }
        }
    }

    fn join(&mut self, downstream: Socket) {
        let first = self.free.pop().unwrap_or_else(|| {
            self.ends.extend([None, None]);
            self.ends.len() - 2
        });
        self.io.set_token(downstream, Token(first as u64));
        match self.io.connect(&self.upstream, Token(first as u64 + 1)) {
            Ok(upstream) => {
                self.ends[first] = Some(End::new(downstream));
                self.ends[first + 1] = Some(End::new(upstream));
            }
            Err(error) => {
                eprintln!("connect: {error}");
                self.io.abort(downstream);
                self.free.push(first);
            }
        }
    }

    fn step(&mut self, number: usize, outcome: Outcome) {
        if self.ends[number].is_none() {
            return;
        }
        match outcome {
            Outcome::Received(buffer) => self.forward(number, buffer),
            Outcome::Sent(Ok(())) => self.sent(number),
            Outcome::Connected(Ok(())) => {
                for number in [number, number ^ 1] {
                    if let Some(end) = &self.ends[number] {
                        self.io.recv(end.socket);
                    }
                }
            }
            Outcome::Eof => self.finish(number),
            _ => self.part(number),
        }
    }

    fn forward(&mut self, from: usize, buffer: tidegate_io::Buffer) {
        let Some(to) = &mut self.ends[from ^ 1] else { return };
        if !to.sending {
            let mut output = self.io.output();
            output.push(buffer);
            to.sending = true;
            self.io.send(to.socket, output);
            return;
        }
        let waiting = to.waiting.get_or_insert_with(|| self.io.output());
        waiting.push(buffer);
        let full = waiting.len() > WAITING_BYTES_MAX;
        if full && let Some(end) = &mut self.ends[from] {
            end.paused = true;
            self.io.pause(end.socket);
        }
    }

    fn sent(&mut self, number: usize) {
        let Some(end) = &mut self.ends[number] else { return };
        end.sending = false;
        if let Some(output) = end.waiting.take() {
            end.sending = true;
            self.io.send(end.socket, output);
        }
        let (socket, done) = (end.socket, !end.sending);
        let Some(peer) = &mut self.ends[number ^ 1] else { return };
        if peer.paused {
            peer.paused = false;
            self.io.recv(peer.socket);
        }
        if peer.finished && done {
            self.io.shutdown_write(socket);
            self.part_when_finished(number);
        }
    }

    fn finish(&mut self, number: usize) {
        if let Some(end) = &mut self.ends[number] {
            end.finished = true;
        }
        if let Some(peer) = &self.ends[number ^ 1]
            && !peer.sending
        {
            self.io.shutdown_write(peer.socket);
            self.part_when_finished(number);
        }
    }

    fn part_when_finished(&mut self, number: usize) {
        let over = |end: &Option<End>| end.as_ref().is_none_or(|end| end.finished && !end.sending);
        if over(&self.ends[number]) && over(&self.ends[number ^ 1]) {
            self.part(number);
        }
    }

    fn part(&mut self, number: usize) {
        for number in [number, number ^ 1] {
            if let Some(end) = self.ends[number].take() {
                self.io.close(end.socket);
            }
        }
        self.free.push(number & !1);
    }
}

impl End {
    fn new(socket: Socket) -> End {
        End { socket, waiting: None, sending: false, paused: false, finished: false }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, listen_port, upstream_port, backend, rest @ ..] = &arguments[..] else {
        return Err(
            "usage: relay LISTEN_PORT UPSTREAM_PORT auto|io_uring|epoll [BUFFER_BYTES]".into()
        );
    };
    let at = |port: &str| port.parse().map(|port: u16| (Ipv4Addr::LOCALHOST, port).into());
    let (address, upstream) = (at(listen_port)?, at(upstream_port)?);
    let mut options = IoOptions::default();
    if let Some(bytes) = rest.first() {
        options.buffer_bytes = bytes.parse()?;
    }
    let choice = backend.parse::<Backend>()?.choose()?;
    if let Some(warning) = choice.warning {
        eprintln!("{warning}");
    }
    match choice.backend {
        Chosen::IoUring => relay(Uring::new(&options)?, address, upstream),
        Chosen::Epoll => relay(Epoll::new(&options)?, address, upstream),
    }
}

fn relay<I: Io>(
    mut io: I,
    address: SocketAddr,
    upstream: SocketAddr,
) -> Result<(), Box<dyn Error>> {
    let options = ListenOptions { backlog: 8192, ..ListenOptions::default() };
    let listener = io.listen(listen(&address, &options)?, LISTENER)?;
    Relay { io, upstream, ends: Vec::new(), free: Vec::new() }.run(listener)
}
