//! A simulated origin: gives each request the answer that was planned for it, well or badly.
//!
//! What it leaves to others: the plan (`plan.rs`), and whether what it saw was right (`ledger.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidegate_io::sim::{Actor, NodeId, Random};
use tidegate_io::{Completion, Instant, Outcome as Happened, Socket, Token};

use super::bytes::{Side, body};
use super::config::origin_address;
use super::http2_origin::Http2Connection;
use super::ledger::{Book, Ledger, Sighting};
use super::plan::Id;
use super::script::{Script, Step};
use super::tls_sockets::PeerIo;
use super::wire::{Framing, Head, Parser, Part};

const LISTENER: Token = Token(0);

/// An origin.
pub struct Origin {
    pub io: PeerIo,
    book: Book,
    index: usize,
    listener: Option<Socket>,
    connections: BTreeMap<u64, Connection>,
    /// Those of HTTP/2.
    http2: BTreeMap<u64, Http2Connection>,
    next: u64,
    now: Instant,
    random: Random,
    completions: Vec<Completion>,
}

struct Connection {
    /// What has come, until it is known whether that is HTTP/2.
    first: Option<Vec<u8>>,
    script: Script,
    parser: Parser,
    request: Option<Request>,
    /// It became a tunnel: the exchange, and bytes that have come up.
    tunnel: Option<(Id, usize)>,
    /// The proxy sent FIN into the tunnel.
    eof: bool,
}

/// The request under way.
struct Request {
    id: Id,
    bytes: usize,
    complete: bool,
    answered: bool,
    /// It came on a connection that is about to close: nobody looks at it.
    doomed: bool,
}

impl Origin {
    pub fn new(io: PeerIo, book: Book, index: usize, random: Random) -> Origin {
        let now = io.now().instant;
        let mut origin = Origin {
            io,
            book,
            index,
            listener: None,
            connections: BTreeMap::new(),
            http2: BTreeMap::new(),
            next: 1,
            now,
            random,
            completions: Vec::new(),
        };
        origin.listen();
        origin
    }

    fn is_away(&self) -> bool {
        self.book.borrow().outages.iter().any(|outage| {
            outage.origin == self.index && outage.from <= self.now && self.now < outage.to
        })
    }

    /// When one begins or ends next.
    fn next_outage(&self) -> Option<Instant> {
        let ledger = self.book.borrow();
        let ours = ledger.outages.iter().filter(|outage| outage.origin == self.index);
        ours.flat_map(|outage| [outage.from, outage.to]).filter(|at| *at > self.now).min()
    }

    fn follow_outages(&mut self) {
        match (self.is_away(), self.listener) {
            (true, Some(listener)) => {
                self.io.close(listener);
                self.listener = None;
            }
            (false, None) => self.listen(),
            _ => {}
        }
    }

    fn listen(&mut self) {
        let listener = self.io.listen_at(origin_address(self.index), LISTENER).unwrap();
        self.io.accept(listener);
        self.listener = Some(listener);
    }

    fn handle(&mut self, Completion { token, outcome }: Completion) {
        let key = token.0;
        match outcome {
            Happened::Accepted(socket) => self.accepted(socket),
            Happened::AcceptStopped(_) => {
                if let Some(listener) = self.listener {
                    self.io.accept(listener);
                }
            }
            Happened::Received(buffer) => self.received(key, &buffer),
            Happened::Sent(Ok(())) => {
                if let Some(connection) = self.http2.get_mut(&key) {
                    connection.peer.sending = false;
                }
                if let Some(connection) = self.connections.get_mut(&key) {
                    connection.script.sending = false;
                }
            }
            Happened::Eof if self.tunnel_ends(key) => {}
            Happened::Eof | Happened::RecvFailed(_) | Happened::Sent(Err(_)) => {
                // The proxy has given the connection up, in or between requests.
                if let Some(mut connection) = self.connections.remove(&key) {
                    connection.script.end(&mut self.io, false);
                }
                if let Some(mut connection) = self.http2.remove(&key) {
                    connection.peer.end(&mut self.io, false);
                }
            }
            other => panic!("an origin heard {other:?}"),
        }
    }

    fn accepted(&mut self, socket: Socket) {
        let script = Script::new(socket, VecDeque::new());
        let parser = Parser::requests();
        let first = Some(Vec::new());
        let connection =
            Connection { first, script, parser, request: None, tunnel: None, eof: false };
        self.io.set_token(socket, Token(self.next));
        self.io.recv(socket);
        self.connections.insert(self.next, connection);
        self.next += 1;
    }

    fn received(&mut self, key: u64, bytes: &[u8]) {
        if let Some(connection) = self.http2.get_mut(&key) {
            return connection.received(bytes, &self.book, self.now, &mut self.random);
        }
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let Some(mut first) = connection.first.take() else {
            connection.parser.push(bytes);
            return self.read(key);
        };
        first.extend_from_slice(bytes);
        if first.starts_with(b"PRI") {
            let socket = connection.script.socket;
            self.connections.remove(&key);
            let (book, now, random) = (&self.book, self.now, &mut self.random);
            let mut connection = Http2Connection::new(socket, self.index, book, now, random);
            connection.server_name = self.io.server_name(socket).map(str::to_owned);
            connection.received(&first, book, now, random);
            self.http2.insert(key, connection);
        } else if b"PRI".starts_with(&first) {
            connection.first = Some(first);
        } else {
            connection.parser.push(&first);
            self.read(key);
        }
    }

    /// Whether the FIN is one in a tunnel that brought everything.
    fn tunnel_ends(&mut self, key: u64) -> bool {
        let Some(connection) = self.connections.get_mut(&key) else { return false };
        let Some((id, bytes)) = connection.tunnel else { return false };
        let mut ledger = self.book.borrow_mut();
        let record = &mut ledger.records[id];
        connection.eof = bytes == record.plan.tunnel.unwrap_or_default().0;
        if let Some(sighting) = record.sightings.last_mut() {
            sighting.complete = connection.eof;
        }
        connection.eof
    }

    fn tunnel_bytes(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let Some((id, bytes)) = &mut connection.tunnel else { return };
        let rest = connection.parser.take_rest();
        let range = *bytes..*bytes + rest.len();
        *bytes = range.end;
        if body(*id, Side::Request, range.clone()) != rest {
            let text = format!("tunnel {id} differs on its way up in {range:?}");
            self.book.borrow_mut().violation(text);
        }
    }

    fn read(&mut self, key: u64) {
        while let Some(connection) = self.connections.get_mut(&key) {
            if connection.tunnel.is_some() {
                return self.tunnel_bytes(key);
            }
            let part = match connection.parser.next() {
                Ok(Some(part)) => part,
                Ok(None) => return,
                Err(why) => {
                    let text = format!("origin {} got {why}", self.index);
                    self.book.borrow_mut().violation(text);
                    connection.script.end(&mut self.io, true);
                    self.connections.remove(&key);
                    return;
                }
            };
            match part {
                Part::Head(head) => self.head(key, &head),
                Part::Data(data) => self.data(key, &data),
                Part::End(_) => self.end(key),
            }
        }
    }

    fn head(&mut self, key: u64, head: &Head) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if head.get("x-flood").is_some() {
            let delay = Duration::from_micros(self.random.below(50_000));
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
            return connection.script.steps.extend([Step::Wait(delay), Step::Send(answer)]);
        }
        let mut ledger = self.book.borrow_mut();
        if let Some(request) = &connection.request {
            let text = format!("a request behind the unfinished {} at an origin", request.id);
            ledger.violation(text);
        }
        let id = head.get("x-id").and_then(|id| id.parse().ok()).unwrap_or(usize::MAX);
        let doomed = !connection.script.steps.is_empty();
        let at = self.now;
        let sighting = Sighting { at, origin: self.index, complete: false, doomed, refused: false };
        ledger.sight(id, sighting);
        check_head(&mut ledger, id, head);
        ledger.check_server_name(id, self.io.server_name(connection.script.socket));
        connection.request =
            Some(Request { id, bytes: 0, complete: false, answered: false, doomed });
        let Some(record) = ledger.records.get(id) else { return };
        let plan = record.plan.clone();
        drop(ledger);
        if plan.tunnel.is_some() && !doomed {
            connection.tunnel = Some((id, 0));
        }
        if (plan.answer.early || plan.tunnel.is_some()) && !doomed {
            connection.script.steps = plan.answer.steps(&plan, &mut self.random);
        }
    }

    fn data(&mut self, key: u64, data: &[u8]) {
        let connection = self.connections.get_mut(&key);
        let Some(request) = connection.and_then(|it| it.request.as_mut()) else { return };
        let range = request.bytes..request.bytes + data.len();
        request.bytes = range.end;
        if body(request.id, Side::Request, range.clone()) != data {
            let text = format!("the body of request {} differs in {range:?}", request.id);
            self.book.borrow_mut().violation(text);
        }
    }

    fn end(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let Some(request) = &mut connection.request else { return };
        let mut ledger = self.book.borrow_mut();
        request.complete = true;
        let Some(record) = ledger.records.get_mut(request.id) else { return };
        if let Some(sighting) = record.sightings.last_mut() {
            sighting.complete = true;
        }
        let plan = record.plan.clone();
        if request.bytes != plan.body.unwrap_or(0) {
            let text = format!("request {} has {} bytes", plan.id, request.bytes);
            ledger.violation(text);
        }
        drop(ledger);
        if request.answered {
            connection.request = None;
        } else if !plan.answer.early && !request.doomed {
            connection.script.steps = plan.answer.steps(&plan, &mut self.random);
        }
    }

    fn advance(&mut self) {
        let (io, now) = (&mut self.io, self.now);
        self.connections.retain(|_, connection| {
            for _ in connection.script.advance(io, now) {
                if let Some(request) = &mut connection.request {
                    request.answered = true;
                    if request.complete {
                        connection.request = None;
                    }
                }
            }
            let done = connection.script.steps.is_empty() && !connection.script.sending;
            if connection.eof && done {
                connection.script.end(io, false);
            }
            !connection.script.closed
        });
        self.http2.retain(|_, connection| {
            connection.advance(io, &self.book, now);
            !connection.peer.closed
        });
    }
}

fn check_head(ledger: &mut Ledger, id: Id, head: &Head) {
    let Some(record) = ledger.records.get(id) else { return };
    let plan = &record.plan;
    let mut wrong = Vec::new();
    if head.words[0] != plan.method {
        wrong.push("another method");
    }
    if head.words[1] != format!("/r{}/{id}", plan.route) {
        wrong.push("another path");
    }
    if head.get("host") != Some("sim") || head.get("x-keep") != Some("a, b") {
        wrong.push("host or x-keep was changed");
    }
    if head.get("x-drop").is_some() || head.get("expect").is_some() {
        wrong.push("a field of the client's connection came through");
    }
    let framing = match plan.body {
        // Trailers are known to follow, or not, behind the head.
        None if plan.trailers && record.http2 => Framing::Chunked,
        // A length for every method that commonly has a body.
        None if plan.method == "OPTIONS" => Framing::Length(0),
        None => Framing::None,
        Some(_) if plan.chunked => Framing::Chunked,
        Some(length) => Framing::Length(length),
    };
    let is_same = head.framing == framing
        || (head.framing, framing) == (Framing::None, Framing::Length(0))
        || record.http2 && plan.body == Some(0);
    if !is_same {
        wrong.push("another framing");
    }
    if !wrong.is_empty() {
        ledger.violation(format!("request {id} at its origin: {wrong:?}: {head:?}"));
    }
}

impl Actor for Origin {
    fn node(&self) -> NodeId {
        self.io.node()
    }

    fn step(&mut self) {
        let deadlines = self.connections.values().filter_map(|it| it.script.deadline());
        let deadlines = deadlines.chain(self.http2.values().filter_map(Http2Connection::deadline));
        let timeout =
            deadlines.chain(self.next_outage()).min().map(|deadline| deadline.since(self.now));
        let mut completions = std::mem::take(&mut self.completions);
        self.now = self.io.turn(timeout, &mut completions).unwrap().instant;
        completions.drain(..).for_each(|completion| self.handle(completion));
        self.completions = completions;
        self.advance();
        self.follow_outages();
    }

    /// While a tunnel lasts, whose client may be gone before its last bytes have come up.
    fn is_busy(&self) -> bool {
        self.connections.values().any(|it| it.tunnel.is_some() && !it.eof)
    }
}
