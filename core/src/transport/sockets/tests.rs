//! Sockets against each other over a simulated network that cuts records anywhere.
//!
//! What it leaves to others: what certificates are worth (`transport/tests.rs`), kernels
//! (`tests/acceptance/test_tls_handshakes.py`).

use super::*;
use crate::transport::tests::{authority, certificate, contexts, dns, identity, params};
use tidegate_io::sim::{Faults, SimIo, World};

const LISTENER: Token = Token(1);
const CLIENT: Token = Token(2);
const SERVER: Token = Token(3);
/// Turns after which a world is taken to have come to a standstill.
const TURNS_MAX: usize = 200_000;

/// Cuts and delays, but no loss.
fn rough() -> Faults {
    Faults {
        latency_us: (1, 500),
        split: 400,
        merge: 100,
        short_write: 200,
        window_bytes: (4 << 10, 64 << 10),
        no_buffers: 50,
        rearm: 50,
        late_pause: 300,
        late_fin: 300,
        reorder: 100,
        ..Faults::none()
    }
}

/// One end of a connection.
#[derive(Default)]
struct End {
    socket: Option<Socket>,
    connected: Option<Result<(), Errno>>,
    received: Vec<u8>,
    sent: usize,
    sending: bool,
    end: Option<Outcome>,
}

struct Pair {
    sockets: Sockets<SimIo>,
    ends: [End; 2],
    length: usize,
    seen: Vec<Completion>,
}

fn pattern(at: usize) -> u8 {
    (at * 7 + at / 251) as u8
}

impl Pair {
    fn new(seed: u64, faults: Faults, versions: &str, length: usize) -> Pair {
        let ca = authority("ca");
        let own = identity(&ca, &params(&[dns("a.test")]));
        let server = format!("common_tls_context: {{ tls_certificates: [{}] }}", certificate(&own));
        let client = format!("common_tls_context: {{ tls_params: {{ {versions} }} }}");
        let (server, client) = contexts(&server, &client).unwrap();
        let io = World::new(seed, faults).io("both");
        let mut sockets = Sockets::new(io);
        let address = "10.0.0.1:443".parse().unwrap();
        let listener = sockets.inner().listen_at(address, LISTENER).unwrap();
        sockets.accept(listener);
        let socket = sockets.connect(&address, CLIENT).unwrap();
        let name = ServerName::try_from("a.test").unwrap();
        sockets.secure_client(socket, client.config(false), name, CLIENT).unwrap();
        let mut pair = Pair { sockets, ends: Default::default(), length, seen: Vec::new() };
        pair.ends[0].socket = Some(socket);
        if length == 0 {
            // Nobody says anything, nor that it is over.
            pair.ends.iter_mut().for_each(|end| end.sent = 1);
        }
        pair.until(|pair| pair.ends[1].socket.is_some(), &server);
        pair.until(|pair| pair.ends.iter().all(|end| end.connected.is_some()), &server);
        pair
    }

    /// Takes turns until something holds.
    fn until(&mut self, done: impl Fn(&Pair) -> bool, server: &Arc<ServerContext>) {
        for _ in 0..TURNS_MAX {
            if done(self) {
                return;
            }
            let mut seen = std::mem::take(&mut self.seen);
            self.sockets.turn(Some(Duration::from_secs(1)), &mut seen).unwrap();
            for completion in seen.drain(..) {
                self.apply(completion, server);
            }
            self.seen = seen;
            self.send_more();
        }
        panic!("nothing goes on");
    }

    fn apply(&mut self, completion: Completion, server: &Arc<ServerContext>) {
        if let Outcome::Accepted(socket) = completion.outcome {
            self.sockets.set_token(socket, SERVER);
            self.sockets.secure_server(socket, server, SERVER, None).unwrap();
            self.sockets.recv(socket);
            self.ends[1].socket = Some(socket);
            return;
        }
        let end = &mut self.ends[usize::from(completion.token == SERVER)];
        match completion.outcome {
            Outcome::Connected(result) => {
                assert!(end.connected.replace(result).is_none(), "connected once");
            }
            Outcome::Received(buffer) => {
                assert_eq!(end.connected, Some(Ok(())), "nothing comes before the handshake's end");
                end.received.extend_from_slice(&buffer);
            }
            Outcome::Sent(result) => {
                result.unwrap();
                end.sending = false;
            }
            outcome => assert!(end.end.replace(outcome).is_none(), "it ends once"),
        }
    }

    /// Each end sends its bytes by pieces of different sizes, and then that it is over.
    fn send_more(&mut self) {
        for end in &mut self.ends {
            let Some(socket) = end.socket.filter(|_| end.connected == Some(Ok(()))) else {
                continue;
            };
            if end.sending || end.sent > self.length {
                continue;
            }
            if end.sent == self.length {
                end.sent += 1;
                self.sockets.shutdown_write(socket);
                continue;
            }
            let piece = (1 + end.sent * 13 % 40_000).min(self.length - end.sent);
            let mut output = self.sockets.output();
            output.tail().extend((end.sent..end.sent + piece).map(pattern));
            end.sent += piece;
            end.sending = true;
            self.sockets.send(socket, output);
        }
    }
}

fn any_context() -> std::sync::Arc<super::super::ServerContext> {
    let ca = authority("ca");
    let own = identity(&ca, &params(&[dns("a.test")]));
    let server = format!("common_tls_context: {{ tls_certificates: [{}] }}", certificate(&own));
    contexts(&server, "common_tls_context: {}").unwrap().0
}

#[test]
fn bytes_are_right_and_ends_are_heard_wherever_records_are_cut() {
    let unused = any_context();
    for seed in 0..40 {
        let version = if seed % 2 == 0 { "TLSv1_3" } else { "TLSv1_2" };
        let versions = format!("tls_maximum_protocol_version: {version}");
        let mut pair = Pair::new(seed, rough(), &versions, 100_000);
        pair.until(|pair| pair.ends.iter().all(|end| end.end.is_some()), &unused);
        for end in &pair.ends {
            assert_eq!(end.received.len(), pair.length, "seed {seed}");
            assert!(end.received.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
            assert!(matches!(end.end, Some(Outcome::Eof)), "seed {seed}: {:?}", end.end);
        }
        for socket in pair.ends.iter().filter_map(|end| end.socket).collect::<Vec<_>>() {
            pair.sockets.close(socket);
        }
        pair.until(|pair| pair.sockets.stats().sockets == 1, &unused);
        assert!(pair.sockets.secured.is_empty());
    }
}

#[test]
fn every_byte_may_come_by_itself() {
    let unused = any_context();
    let byte_by_byte = Faults { split: 1000, ..Faults::none() };
    let mut pair = Pair::new(7, byte_by_byte, "tls_maximum_protocol_version: TLSv1_3", 3_000);
    pair.until(|pair| pair.ends.iter().all(|end| end.end.is_some()), &unused);
    assert!(pair.ends.iter().all(|end| end.received.len() == 3_000));
}

#[test]
fn a_connection_that_is_cut_ends_as_one_on_the_clients_side() {
    let unused = any_context();
    let mut pair = Pair::new(3, Faults::none(), "tls_maximum_protocol_version: TLSv1_3", 0);
    // FIN without close_notify, as of somebody who wants a response to look whole.
    let server = pair.ends[1].socket.unwrap();
    let key = pair.sockets.key_of(server).unwrap();
    let is_sending =
        |pair: &Pair| pair.sockets.secured.get(key).is_some_and(|it| it.sending.is_some());
    pair.until(|pair| !is_sending(pair), &unused);
    pair.sockets.forget(key);
    pair.sockets.inner().shutdown_write(server);
    pair.ends[1].end = Some(Outcome::Eof);
    pair.until(|pair| pair.ends[0].end.is_some(), &unused);
    assert!(matches!(pair.ends[0].end, Some(Outcome::RecvFailed(_))), "{:?}", pair.ends[0].end);
}
