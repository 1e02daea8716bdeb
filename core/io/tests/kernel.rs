//! What only backends on a real kernel can do: descriptors, their limit, ports, queues that
//! overflow.
//!
//! What it leaves to others: the behaviour that all backends share (`tests/contract.rs`).

#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tidegate_io::epoll::Epoll;
use tidegate_io::socket::{ListenOptions, listen};
use tidegate_io::uring::{Uring, probe};
use tidegate_io::{Completion, ConnectOptions, Io, IoOptions, Keepalive, Outcome, Socket, Token};

const LISTENER: Token = Token(1);

/// Tests that count or limit the process's descriptors must not run beside each other.
static DESCRIPTORS: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    DESCRIPTORS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

type Make<'a> = dyn FnMut(&IoOptions) -> Box<dyn Io> + 'a;

fn for_both(test: fn(&mut Make<'_>)) {
    let _guard = alone();
    test(&mut |options| Box::new(Epoll::new(options).unwrap()));
    match probe() {
        Ok(_) => test(&mut |options| Box::new(Uring::new(options).unwrap())),
        Err(unavailable) => eprintln!("SKIPPED, no io_uring here: {unavailable}"),
    }
}

fn listening(io: &mut dyn Io, address: &str) -> (Socket, SocketAddr) {
    let fd = listen(&address.parse().unwrap(), &ListenOptions::default()).unwrap();
    let socket = io.listen(fd, LISTENER).unwrap();
    let address = io.local_address(socket).unwrap();
    io.accept(socket);
    (socket, address)
}

/// Takes turns until `enough`, at most ten seconds.
fn turn_until(
    io: &mut dyn Io,
    seen: &mut Vec<Completion>,
    mut enough: impl FnMut(&mut dyn Io, &mut Vec<Completion>) -> bool,
) {
    let deadline = io.now().instant + Duration::from_secs(10);
    while !enough(io, seen) {
        let now = io.turn(Some(Duration::from_millis(20)), seen).unwrap();
        assert!(now.instant < deadline, "nothing more came: {seen:?} {:?}", io.stats());
    }
}

fn accepted(io: &mut dyn Io, seen: &mut Vec<Completion>) -> Socket {
    let mut socket = None;
    turn_until(io, seen, |_, seen| {
        let position = seen.iter().position(|seen| matches!(seen.outcome, Outcome::Accepted(_)));
        if let Some(Outcome::Accepted(accepted)) = position.map(|at| seen.remove(at).outcome) {
            socket = Some(accepted);
        }
        socket.is_some()
    });
    socket.unwrap()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A lower limit of descriptors until it is dropped.
struct DescriptorLimit(libc::rlimit);

impl DescriptorLimit {
    fn lower(limit: u64) -> DescriptorLimit {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a writable limit.
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut before) };
        let lower = libc::rlimit { rlim_cur: limit, ..before };
        // SAFETY: a readable limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const lower) }, 0);
        DescriptorLimit(before)
    }
}

impl Drop for DescriptorLimit {
    fn drop(&mut self) {
        // SAFETY: a readable limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const self.0) };
    }
}

/// Out of descriptors: said once, no spinning, others are served, and it goes on when there are
/// some.
#[test]
fn accepting_stops_without_descriptors_and_recovers() {
    for_both(|make| {
        let mut io = make(&IoOptions::default());
        let io = io.as_mut();
        let mut seen = Vec::new();
        let (listener, address) = listening(io, "127.0.0.1:0");
        let mut first = TcpStream::connect(address).unwrap();
        let server = accepted(io, &mut seen);
        io.recv(server);
        // The clients' descriptors exist before the limit falls.
        let late: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let early: Vec<_> = (0..3).map(|_| accepted(io, &mut seen)).collect();
        let highest = std::fs::File::open("/").unwrap();
        let next = std::os::fd::AsRawFd::as_raw_fd(&highest) as u64;
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        drop(highest);
        // io_uring takes note of the limit when an accept starts, so it is started under the new
        // one.
        io.pause(listener);
        turn_until(io, &mut seen, |io, _| io.stats().turns % 8 == 0);
        let limit = DescriptorLimit::lower(next);
        io.accept(listener);
        socket.connect(&address.into()).unwrap();
        turn_until(io, &mut seen, |_, seen| !seen.is_empty());
        assert!(
            matches!(seen[..], [Completion { token: LISTENER, outcome: Outcome::AcceptStopped(e) }]
                if e.0 == libc::EMFILE),
            "{seen:?}"
        );
        seen.clear();
        let turns = io.stats().enters;
        let end = io.now().instant + Duration::from_millis(50);
        while io.now().instant < end {
            io.turn(Some(Duration::from_millis(50)), &mut seen).unwrap();
        }
        assert!(io.stats().enters - turns < 10, "it spins");
        assert!(seen.is_empty(), "{seen:?}");
        // Accepting again without a descriptor stops again.
        io.accept(listener);
        turn_until(io, &mut seen, |_, seen| !seen.is_empty());
        assert!(matches!(seen.remove(0).outcome, Outcome::AcceptStopped(_)));
        first.write_all(b"still there").unwrap();
        turn_until(io, &mut seen, |_, seen| !seen.is_empty());
        assert!(
            matches!(&seen[0].outcome, Outcome::Received(buffer) if **buffer == *b"still there")
        );
        seen.clear();
        drop(limit);
        io.accept(listener);
        io.close(early[0]);
        let recovered = accepted(io, &mut seen);
        assert_eq!(io.peer_address(recovered), socket.local_addr().unwrap().as_socket());
        drop(late);
    });
}

/// Ten thousand connections, closed in every way: all descriptors, sockets and buffers come back.
#[test]
fn ten_thousand_connections_leave_nothing() {
    for_both(|make| {
        let mut io = make(&IoOptions::default());
        let io = io.as_mut();
        let mut seen = Vec::new();
        let (_, address) = listening(io, "127.0.0.1:0");
        let base = descriptors();
        for round in 0..100_u32 {
            let clients: Vec<_> =
                (0..100).map(|_| io.connect(&address, Token(2)).unwrap()).collect();
            let mut servers = Vec::new();
            let mut connected = 0;
            turn_until(io, &mut seen, |io, seen| {
                for completion in seen.drain(..) {
                    match completion.outcome {
                        Outcome::Accepted(server) => {
                            io.set_token(server, Token(3));
                            io.recv(server);
                            servers.push(server);
                        }
                        Outcome::Connected(result) => {
                            result.unwrap();
                            connected += 1;
                        }
                        other => panic!("{other:?}"),
                    }
                }
                servers.len() == 100 && connected == 100
            });
            for (i, &client) in clients.iter().enumerate() {
                let mut output = io.output();
                output.tail().extend_from_slice(&[i as u8; 100]);
                io.send(client, output);
            }
            for _ in 0..round % 5 {
                io.turn(Some(Duration::ZERO), &mut seen).unwrap();
            }
            seen.clear();
            // The client resets, so that ports are not used up by TIME_WAIT.
            for (i, (&client, &server)) in clients.iter().zip(&servers).enumerate() {
                if i % 2 == 0 {
                    io.close(server);
                }
                io.abort(client);
                if i % 2 == 1 {
                    io.close(server);
                }
            }
            turn_until(io, &mut seen, |io, seen| {
                seen.retain(|seen| matches!(seen.outcome, Outcome::Accepted(_)));
                io.stats().sockets == 1 && io.stats().buffers_in_use == 0
            });
            assert_eq!(descriptors(), base, "round {round}");
        }
        let stats = io.stats();
        assert_eq!((stats.sockets, stats.buffers_in_use), (1, 0));
    });
}

#[test]
fn a_dropped_backend_gives_its_descriptors_back() {
    for_both(|make| {
        let before = descriptors();
        for _ in 0..5 {
            let mut io = make(&IoOptions::default());
            let io = io.as_mut();
            let mut seen = Vec::new();
            let (_, address) = listening(io, "127.0.0.1:0");
            let _client = io.connect(&address, Token(2)).unwrap();
            let server = accepted(io, &mut seen);
            io.recv(server);
            io.turn(Some(Duration::ZERO), &mut seen).unwrap();
        }
        assert_eq!(descriptors(), before);
    });
}

/// The kernel lets go of a listener's port when the gauge says that the socket is gone.
#[test]
fn a_closed_listener_frees_its_port() {
    for_both(|make| {
        let mut io = make(&IoOptions::default());
        let io = io.as_mut();
        let mut seen = Vec::new();
        let (listener, address) = listening(io, "127.0.0.1:0");
        io.turn(Some(Duration::ZERO), &mut seen).unwrap();
        io.close(listener);
        turn_until(io, &mut seen, |io, _| io.stats().sockets == 0);
        let alone = ListenOptions { reuse_port: false, ..ListenOptions::default() };
        listen(&address, &alone).unwrap();
    });
}

#[test]
fn ipv6_works_where_there_is_any() {
    for_both(|make| {
        if TcpListener::bind("[::1]:0").is_err() {
            eprintln!("SKIPPED: no IPv6 loopback here");
            return;
        }
        let mut io = make(&IoOptions::default());
        let io = io.as_mut();
        let mut seen = Vec::new();
        let (_, address) = listening(io, "[::1]:0");
        let client = io.connect(&address, Token(2)).unwrap();
        let server = accepted(io, &mut seen);
        assert_eq!(io.peer_address(server), io.local_address(client));
        assert!(io.peer_address(server).unwrap().is_ipv6());
    });
}

/// Receiving and sending may be asked for before the connect has finished.
#[test]
fn requests_before_the_connect_has_finished_wait_for_it() {
    for_both(|make| {
        let mut io = make(&IoOptions::default());
        let io = io.as_mut();
        let mut seen = Vec::new();
        let (_, address) = listening(io, "127.0.0.1:0");
        let client = io.connect(&address, Token(2)).unwrap();
        io.recv(client);
        let mut output = io.output();
        output.tail().extend_from_slice(b"eager");
        io.send(client, output);
        let server = accepted(io, &mut seen);
        io.set_token(server, Token(3));
        io.recv(server);
        let mut answer = io.output();
        answer.tail().extend_from_slice(b"answer");
        io.send(server, answer);
        let (mut eager, mut answered, mut first) = (false, false, None);
        turn_until(io, &mut seen, |_, seen| {
            for completion in seen.drain(..) {
                first.get_or_insert(completion.token);
                match (completion.token, completion.outcome) {
                    (Token(3), Outcome::Received(buffer)) => eager = *buffer == *b"eager",
                    (Token(2), Outcome::Received(buffer)) => answered = *buffer == *b"answer",
                    (_, Outcome::Sent(result) | Outcome::Connected(result)) => result.unwrap(),
                    other => panic!("{other:?}"),
                }
            }
            eager && answered
        });
    });
}

/// A peer that has other habits than we have: an ordinary blocking client and server.
#[test]
fn ordinary_sockets_are_served() {
    for_both(|make| {
        let mut io = make(&IoOptions::default());
        let io = io.as_mut();
        let mut seen = Vec::new();
        let (_, address) = listening(io, "127.0.0.1:0");
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let mut echoed = Vec::new();
            for length in [1, 10, 1000, 100_000] {
                stream.write_all(&vec![length as u8; length]).unwrap();
                let mut answer = vec![0; length];
                stream.read_exact(&mut answer).unwrap();
                echoed.extend(answer);
            }
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            echoed.len()
        });
        let server = accepted(io, &mut seen);
        assert!(io.peer_address(server).is_some());
        io.recv(server);
        let (mut waiting, mut sending, mut ended) = (Vec::new(), false, false);
        turn_until(io, &mut seen, |io, seen| {
            for completion in seen.drain(..) {
                match completion.outcome {
                    Outcome::Received(buffer) => waiting.push(buffer),
                    Outcome::Sent(result) => {
                        result.unwrap();
                        sending = false;
                    }
                    Outcome::Eof => ended = true,
                    other => panic!("{other:?}"),
                }
            }
            if !sending && !waiting.is_empty() {
                let mut output = io.output();
                waiting.drain(..).for_each(|buffer| output.push(buffer));
                io.send(server, output);
                sending = true;
            }
            ended && !sending
        });
        io.close(server);
        turn_until(io, &mut seen, |io, _| io.stats().sockets == 1);
        assert_eq!(client.join().unwrap(), 101_011);
    });
}

/// Far more operations at once than both queues hold: nothing is lost, and overflows are counted.
#[test]
fn queues_that_overflow_lose_nothing() {
    let _guard = alone();
    if let Err(unavailable) = probe() {
        eprintln!("SKIPPED, no io_uring here: {unavailable}");
        return;
    }
    let small = IoOptions {
        submission_entries: 32,
        completion_entries: 128,
        buffer_bytes: 1024,
        ..IoOptions::default()
    };
    let mut uring = Uring::new(&small).unwrap();
    let mut seen = Vec::new();
    let (_, address) = listening(&mut uring, "127.0.0.1:0");
    let mut pairs = Vec::new();
    for i in 0..300 {
        let client = uring.connect(&address, Token(1000 + i)).unwrap();
        let server = accepted(&mut uring, &mut seen);
        uring.set_token(server, Token(2000 + i));
        pairs.push((client, server));
    }
    let connects = |seen: &Completion| matches!(seen.outcome, Outcome::Connected(Ok(())));
    turn_until(&mut uring, &mut seen, |_, seen| {
        seen.iter().filter(|seen| connects(seen)).count() == 300
    });
    seen.clear();
    let mut sums = vec![0_u64; 300];
    for round in 0..10_u64 {
        for &(client, server) in &pairs {
            uring.recv(server);
            let mut output = uring.output();
            output.tail().extend_from_slice(&[1 + round as u8; 3000]);
            uring.send(client, output);
        }
        let (mut sent, mut received) = (0, 0);
        turn_until(&mut uring, &mut seen, |uring, seen| {
            for completion in seen.drain(..) {
                match completion.outcome {
                    Outcome::Sent(result) => {
                        result.unwrap();
                        sent += 1;
                    }
                    Outcome::Received(buffer) => {
                        received += buffer.len();
                        let sum: u64 = buffer.iter().map(|&byte| u64::from(byte)).sum();
                        sums[(completion.token.0 - 2000) as usize] += sum;
                    }
                    other => panic!("{other:?}"),
                }
            }
            if round % 2 == 1 {
                for &(_, server) in &pairs[..50] {
                    uring_pause_and_recv(uring, server);
                }
            }
            sent == 300 && received == 300 * 3000
        });
    }
    assert!(sums.iter().all(|&sum| sum == (1..=10).sum::<u64>() * 3000), "{sums:?}");
    assert!(uring.stats().overflows > 0, "{:?}", uring.stats());
}

fn uring_pause_and_recv(uring: &mut dyn Io, socket: Socket) {
    uring.pause(socket);
    uring.recv(socket);
}

#[test]
fn a_connection_comes_from_the_address_that_it_is_bound_to() {
    for_both(|make| {
        let mut io = make(&IoOptions::default());
        let mut seen = Vec::new();
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = peer.local_addr().unwrap();
        let source = Some("127.0.0.7:0".parse().unwrap());
        let keepalive = Keepalive { probes: Some(3), time_s: Some(10), interval_s: Some(5) };
        let options = ConnectOptions { source, keepalive: Some(keepalive), freebind: true };
        let socket = io.connect_with(&to, &options, Token(9)).unwrap();
        turn_until(&mut *io, &mut seen, |_, seen| !seen.is_empty());
        assert!(matches!(seen[0].outcome, Outcome::Connected(Ok(()))), "{seen:?}");
        let (_, from) = peer.accept().unwrap();
        assert_eq!(from.ip().to_string(), "127.0.0.7");
        io.close(socket);
        let source = Some("192.0.2.1:0".parse().unwrap());
        let error = io
            .connect_with(&to, &ConnectOptions { source, ..ConnectOptions::default() }, Token(9))
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
    });
}
