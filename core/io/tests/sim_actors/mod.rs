//! Programs for simulated worlds: a server that echoes, and clients that check every byte of the
//! echo.
//!
//! What it leaves to others: choosing worlds and faults, and judging the outcome.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use tidegate_io::sim::{Actor, Faults, NodeId, Random, RunEnd, SimIo, World};
use tidegate_io::{Buffer, Completion, Io, Outcome, Socket, Token};

pub const ECHO: &str = "10.0.0.1:7";

pub fn echo_address() -> SocketAddr {
    ECHO.parse().unwrap()
}

const LISTENER: Token = Token(0);

/// Unsent bytes at which the server stops reading.
const QUEUE_BYTES_MAX: usize = 32 << 10;

/// Sends back what it receives; ends a connection when the client has ended it.
pub struct EchoServer {
    pub io: SimIo,
    listener: Socket,
    connections: BTreeMap<u64, Echo>,
    next: u64,
    completions: Vec<Completion>,
    /// Connections closed in this step: only they may be named by what was already in the batch.
    closed: BTreeSet<u64>,
}

struct Echo {
    socket: Socket,
    queue: VecDeque<Buffer>,
    queued: usize,
    paused: bool,
    sending: bool,
    eof: bool,
}

impl EchoServer {
    pub fn new(mut io: SimIo) -> EchoServer {
        let listener = io.listen_at(echo_address(), LISTENER).unwrap();
        io.accept(listener);
        EchoServer {
            io,
            listener,
            connections: BTreeMap::new(),
            next: 1,
            completions: Vec::new(),
            closed: BTreeSet::new(),
        }
    }

    fn handle(&mut self, Completion { token, outcome }: Completion) {
        if self.closed.contains(&token.0) {
            return;
        }
        match outcome {
            Outcome::Accepted(socket) => {
                assert_eq!(token, LISTENER);
                self.io.set_token(socket, Token(self.next));
                self.io.recv(socket);
                let echo = Echo {
                    socket,
                    queue: VecDeque::new(),
                    queued: 0,
                    paused: false,
                    sending: false,
                    eof: false,
                };
                self.connections.insert(self.next, echo);
                self.next += 1;
            }
            Outcome::AcceptStopped(_) => self.io.accept(self.listener),
            Outcome::Received(buffer) => {
                assert!(!buffer.is_empty());
                let echo = self.connections.get_mut(&token.0).expect("received after close");
                assert!(!echo.eof, "bytes after the end");
                echo.queued += buffer.len();
                echo.queue.push_back(buffer);
                if echo.queued > QUEUE_BYTES_MAX && !echo.paused {
                    echo.paused = true;
                    self.io.pause(echo.socket);
                }
                self.flush(token.0);
            }
            Outcome::Eof => {
                self.connections.get_mut(&token.0).expect("eof after close").eof = true;
                self.flush(token.0);
            }
            Outcome::Sent(Ok(())) => {
                self.connections.get_mut(&token.0).expect("sent after close").sending = false;
                self.flush(token.0);
            }
            Outcome::Sent(Err(_)) | Outcome::RecvFailed(_) => {
                let echo = self.connections.remove(&token.0).expect("failed after close");
                self.io.abort(echo.socket);
                self.closed.insert(token.0);
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn flush(&mut self, key: u64) {
        let echo = self.connections.get_mut(&key).unwrap();
        if echo.sending {
            return;
        }
        if echo.queue.is_empty() {
            if echo.eof {
                self.io.close(echo.socket);
                self.connections.remove(&key);
                self.closed.insert(key);
            }
            return;
        }
        let mut output = self.io.output();
        for buffer in echo.queue.drain(..) {
            output.push(buffer);
        }
        echo.queued = 0;
        echo.sending = true;
        self.io.send(echo.socket, output);
        if echo.paused {
            echo.paused = false;
            self.io.recv(echo.socket);
        }
    }
}

impl Actor for EchoServer {
    fn node(&self) -> NodeId {
        self.io.node()
    }

    fn step(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        self.io.turn(None, &mut completions).unwrap();
        self.closed.clear();
        completions.drain(..).for_each(|completion| self.handle(completion));
        self.completions = completions;
    }

    fn is_busy(&self) -> bool {
        !self.connections.is_empty()
    }
}

/// How a client's connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Everything came back, then the end.
    Whole,
    /// The connection failed; what had come was right.
    Failed,
}

/// Sends chosen bytes in chosen pieces, and checks what comes back. Sometimes it reads nothing for
/// a while, or pauses and goes on at once.
pub struct Client {
    pub io: SimIo,
    socket: Option<Socket>,
    bytes: Vec<u8>,
    sent: usize,
    received: usize,
    sending: bool,
    paused: bool,
    random: Random,
    completions: Vec<Completion>,
    pub end: Option<End>,
}

const CLIENT: Token = Token(0xc11e);

impl Client {
    pub fn new(io: SimIo, bytes_max: usize, mut random: Random) -> Client {
        let length = random.size(bytes_max);
        let bytes = (0..length).map(|_| random.bits() as u8).collect();
        Client {
            io,
            socket: None,
            bytes,
            sent: 0,
            received: 0,
            sending: false,
            paused: false,
            random,
            completions: Vec::new(),
            end: None,
        }
    }

    fn send_some(&mut self) {
        let Some(socket) = self.socket else { return };
        if self.sent == self.bytes.len() {
            return self.io.shutdown_write(socket);
        }
        let count = self.random.size(self.bytes.len() - self.sent);
        let mut output = self.io.output();
        output.tail().extend_from_slice(&self.bytes[self.sent..][..count]);
        self.sent += count;
        self.sending = true;
        self.io.send(socket, output);
    }

    fn handle(&mut self, outcome: Outcome) {
        let Some(socket) = self.socket else { panic!("{outcome:?} after close") };
        match outcome {
            Outcome::Connected(Ok(())) => {
                self.io.recv(socket);
                self.send_some();
            }
            Outcome::Received(buffer) => {
                let expected = &self.bytes[self.received..][..buffer.len()];
                assert!(*expected == *buffer, "the echo differs after byte {}", self.received);
                self.received += buffer.len();
                assert!(self.received <= self.sent);
                if !self.paused && self.random.chance(200) {
                    self.io.pause(socket);
                    self.paused = true;
                    if self.random.chance(500) {
                        self.io.recv(socket);
                        self.paused = false;
                    }
                }
            }
            Outcome::Sent(Ok(())) => {
                assert!(std::mem::take(&mut self.sending), "sent without a send");
                self.send_some();
            }
            Outcome::Eof => {
                assert_eq!(self.received, self.bytes.len(), "the end came early");
                self.finish(End::Whole);
            }
            Outcome::Connected(Err(_)) | Outcome::RecvFailed(_) | Outcome::Sent(Err(_)) => {
                self.finish(End::Failed);
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn finish(&mut self, end: End) {
        if let Some(socket) = self.socket.take() {
            self.io.close(socket);
        }
        self.end = Some(end);
    }
}

impl Actor for Client {
    fn node(&self) -> NodeId {
        self.io.node()
    }

    fn step(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        self.io.turn(Some(Duration::from_millis(10)), &mut completions).unwrap();
        for completion in completions.drain(..) {
            if self.end.is_none() {
                assert_eq!(completion.token, CLIENT);
                self.handle(completion.outcome);
            }
        }
        self.completions = completions;
        match self.socket {
            None if self.end.is_none() => match self.io.connect(&echo_address(), CLIENT) {
                Ok(socket) => self.socket = Some(socket),
                Err(_) => self.end = Some(End::Failed),
            },
            Some(socket) if self.paused && self.random.chance(300) => {
                self.paused = false;
                self.io.recv(socket);
            }
            _ => {}
        }
    }

    fn is_busy(&self) -> bool {
        self.end.is_none()
    }
}

/// What a world of echoes came to.
#[derive(PartialEq, Eq, Debug)]
pub struct Echoes {
    pub hash: u64,
    pub ends: Vec<End>,
}

/// Lets some clients talk to an echo server under `faults`; checks that everything ends and that
/// every socket and buffer comes back.
pub fn run_echoes(seed: u64, clients: usize, bytes_max: usize, faults: Faults) -> Echoes {
    let world = World::new(seed, faults);
    world.print_trace(std::env::var_os("TIDEGATE_SIM_TRACE").is_some());
    let mut random = Random::new(seed ^ 0x00ec_4000);
    let mut server = EchoServer::new(world.io_with_buffers("server", 16, 2048));
    let mut clients: Vec<Client> = (0..clients)
        .map(|_| Client::new(world.io("client"), bytes_max, Random::new(random.bits())))
        .collect();
    let mut actors: Vec<&mut dyn Actor> = vec![&mut server];
    actors.extend(clients.iter_mut().map(|client| client as &mut dyn Actor));
    let end = world.run(&mut actors, Duration::from_secs(1000), 2_000_000);
    assert_eq!(end, RunEnd::Done, "seed {seed}");
    world.run_out();
    assert_eq!(server.io.stats().sockets, 1, "seed {seed}: only the listener is left");
    assert_eq!(server.io.stats().buffers_in_use, 0, "seed {seed}");
    let ends = clients.iter().map(|client| {
        assert_eq!(client.io.stats().sockets, 0, "seed {seed}");
        assert_eq!(client.io.stats().buffers_in_use, 0, "seed {seed}");
        client.end.unwrap()
    });
    Echoes { ends: ends.collect(), hash: world.trace_hash() }
}
