//! Naughty clients of HTTP/2 beside the others: each floods one connection, which the proxy has to
//! end.
//!
//! What it leaves to others: that the requests of the others succeed (`ledger.rs`), and that
//! nothing is left behind (`proxy.rs`).

use std::time::Duration;

use tidegate_http::h2::hpack::Encoder;
use tidegate_io::sim::{Actor, NodeId, Random};
use tidegate_io::{Completion, Instant, Outcome as Happened, Token};

use super::bytes::some_us;
use super::config::{ROUTES, proxy_address};
use super::http2_wire::{self as wire, END_HEADERS, END_STREAM, Fields, code, kind};
use super::ledger::Book;
use super::script::{Script, Step};
use super::tls_sockets::PeerIo;

/// What is too much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flood {
    /// CVE-2023-44487
    RapidReset,
    /// Frames that make the proxy reset streams: CVE-2025-8671.
    MadeYouReset,
    /// CVE-2019-9512, and nothing is read.
    Ping,
    /// CVE-2019-9515
    Settings,
    WindowUpdate,
    Priority,
    /// CVE-2019-9518
    EmptyData,
    /// CVE-2024-27316
    Continuation,
    /// More streams than the proxy allows.
    Streams,
}

impl Flood {
    const ALL: [Flood; 9] = [
        Flood::RapidReset,
        Flood::MadeYouReset,
        Flood::Ping,
        Flood::Settings,
        Flood::WindowUpdate,
        Flood::Priority,
        Flood::EmptyData,
        Flood::Continuation,
        Flood::Streams,
    ];

    /// Everything that the client says.
    fn bytes(self, streams_max: u32, random: &mut Random) -> Vec<u8> {
        let mut out = wire::PREFACE.to_vec();
        wire::write_settings(&mut out, &[]);
        let mut requests = Requests { encoder: Encoder::new(4096, true), next: 1 };
        let route = random.index(ROUTES);
        let mut open = |end: bool, out: &mut Vec<u8>| requests.open(route, end, out);
        match self {
            Flood::RapidReset => (0..600).for_each(|_| {
                let id = open(true, &mut out);
                wire::write_word(&mut out, kind::RST_STREAM, id, code::CANCEL);
            }),
            Flood::MadeYouReset => (0..600).for_each(|_| {
                let id = open(true, &mut out);
                wire::write_word(&mut out, kind::WINDOW_UPDATE, id, 0);
            }),
            Flood::Ping => (0..40_000_u64).for_each(|count| {
                wire::write(&mut out, kind::PING, 0, 0, &count.to_be_bytes());
            }),
            Flood::Settings => (0..300).for_each(|_| wire::write_settings(&mut out, &[(4, 1)])),
            Flood::WindowUpdate => {
                (0..300).for_each(|_| wire::write_word(&mut out, kind::WINDOW_UPDATE, 0, 1));
            }
            Flood::Priority => (0..300).for_each(|_| {
                wire::write(&mut out, kind::PRIORITY, 0, 3, &[0, 0, 0, 5, 1]);
            }),
            Flood::EmptyData => {
                let id = open(false, &mut out);
                (0..100).for_each(|_| wire::write(&mut out, kind::DATA, 0, id, &[]));
            }
            Flood::Continuation => {
                wire::write(&mut out, kind::HEADERS, END_STREAM, 1, &[]);
                let part = [0x40, 1, b'a', 1, b'b'].repeat(100);
                (0..300).for_each(|_| wire::write(&mut out, kind::CONTINUATION, 0, 1, &part));
            }
            Flood::Streams => (0..streams_max.min(100) + 40).for_each(|_| {
                open(false, &mut out);
            }),
        }
        out
    }

    /// Whether the proxy ends the connection for it.
    fn is_ended(self) -> bool {
        self != Flood::Streams
    }
}

/// Requests of a flood, which origins answer without a look at them.
struct Requests {
    encoder: Encoder,
    next: u32,
}

impl Requests {
    fn open(&mut self, route: usize, end: bool, out: &mut Vec<u8>) -> u32 {
        let id = self.next;
        self.next += 2;
        let path = format!("/r{route}/flood");
        let method = if end { "GET" } else { "POST" };
        let fields = Fields::of(&[
            (":method", method),
            (":scheme", "http"),
            (":path", &path),
            (":authority", "sim"),
            ("x-flood", "1"),
        ]);
        let flags = if end { END_STREAM | END_HEADERS } else { END_HEADERS };
        wire::write(out, kind::HEADERS, flags, id, &fields.encode(&mut self.encoder));
        id
    }
}

/// The proxy has this long to end the connection after everything was said.
const PATIENCE: Duration = Duration::from_secs(20);

/// A naughty client.
pub struct Flooder {
    io: PeerIo,
    book: Book,
    flood: Flood,
    bytes: Vec<u8>,
    begins_at: Instant,
    script: Option<Script>,
    /// It gives up then.
    until: Option<Instant>,
    now: Instant,
    is_done: bool,
}

impl Flooder {
    pub fn new(io: PeerIo, book: Book, random: &mut Random) -> Flooder {
        let now = io.now().instant;
        let flood = Flood::ALL[random.index(Flood::ALL.len())];
        let streams_max = book.borrow().weather.versions.options.max_concurrent_streams;
        Flooder {
            io,
            book,
            flood,
            bytes: flood.bytes(streams_max, random),
            begins_at: now + some_us(500_000, random),
            script: None,
            until: None,
            now,
            is_done: false,
        }
    }

    fn advance(&mut self) {
        if self.is_done {
            return;
        }
        if self.script.is_none() && self.begins_at <= self.now {
            self.begins_at = self.now + Duration::from_millis(1);
            if let Ok(socket) = self.io.connect(&proxy_address(), Token(1)) {
                let steps = self.bytes.chunks(20_000).map(|part| Step::Send(part.to_vec()));
                self.script = Some(Script::new(socket, steps.collect()));
                self.until = Some(self.now + Duration::from_secs(300));
            }
        }
        if self.until.is_some_and(|until| until <= self.now) {
            self.give_up();
        }
    }

    /// Goes on with what it has to say; listens when that is said.
    fn talk(&mut self) {
        let Some(script) = &mut self.script else { return };
        script.advance(&mut self.io, self.now);
        if script.steps.is_empty() && !script.sending {
            self.io.recv(script.socket);
            self.until = Some(self.now + PATIENCE);
        }
    }

    /// The proxy did not end the connection.
    fn give_up(&mut self) {
        let mut ledger = self.book.borrow_mut();
        if self.flood.is_ended() {
            ledger.violation(format!("the proxy puts up with {:?}", self.flood));
        }
        drop(ledger);
        self.end();
    }

    fn end(&mut self) {
        self.is_done = true;
        self.until = None;
        if let Some(script) = &mut self.script {
            script.end(&mut self.io, true);
        }
    }

    fn handle(&mut self, outcome: Happened) {
        match outcome {
            _ if self.is_done => {}
            Happened::Connected(Ok(())) => {
                if let Some(script) = self.script.as_ref().filter(|_| self.flood != Flood::Ping) {
                    self.io.recv(script.socket);
                }
                self.talk();
            }
            Happened::Sent(Ok(())) => {
                if let Some(script) = &mut self.script {
                    script.sending = false;
                }
                self.talk();
            }
            Happened::Received(_) => {}
            Happened::Connected(Err(_))
            | Happened::Sent(Err(_))
            | Happened::Eof
            | Happened::RecvFailed(_) => self.end(),
            other => panic!("a flooder heard {other:?}"),
        }
    }
}

impl Actor for Flooder {
    fn node(&self) -> NodeId {
        self.io.node()
    }

    fn step(&mut self) {
        let begins_at = self.script.is_none().then_some(self.begins_at);
        let deadline = [begins_at, self.until].into_iter().flatten().min();
        let timeout = deadline.filter(|_| !self.is_done).map(|at| at.since(self.now));
        let mut completions: Vec<Completion> = Vec::new();
        self.now = self.io.turn(timeout, &mut completions).unwrap().instant;
        completions.into_iter().for_each(|completion| self.handle(completion.outcome));
        self.advance();
    }

    fn is_busy(&self) -> bool {
        !self.is_done
    }
}
