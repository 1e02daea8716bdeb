//! Single rules of the simulated network, one connection at a time, in a world without faults
//! unless the test names one.
//!
//! What it leaves to others: everything at once (`sim_echo.rs`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_io::sim::{Faults, SimIo, World};
use tidegate_io::{Completion, Errno, Io, Outcome, Socket, Token};

const SERVER: Token = Token(1);
const CLIENT: Token = Token(2);
const SECOND: Option<Duration> = Some(Duration::from_secs(1));

fn address() -> SocketAddr {
    "10.0.0.1:80".parse().unwrap()
}

/// A world with a client that is connected to a server. Neither receives yet.
struct Pair {
    world: World,
    server: SimIo,
    client: SimIo,
    listener: Socket,
    /// The server's end.
    there: Socket,
    /// The client's end.
    here: Socket,
}

impl Pair {
    fn new(faults: Faults) -> Pair {
        let world = World::new(1, faults);
        let mut server = world.io("server");
        let mut client = world.io("client");
        let listener = server.listen_at(address(), SERVER).unwrap();
        server.accept(listener);
        let here = client.connect(&address(), CLIENT).unwrap();
        let connected = turn(&mut client);
        assert!(matches!(connected[..], [Completion { outcome: Outcome::Connected(Ok(())), .. }]));
        let [Completion { token: SERVER, outcome: Outcome::Accepted(there) }] =
            turn(&mut server)[..]
        else {
            panic!("nothing accepted")
        };
        Pair { world, server, client, listener, there, here }
    }

    /// What the client hears until a second passes without news.
    fn client_hears(&mut self) -> String {
        words(hear(&mut self.client))
    }

    fn server_hears(&mut self) -> String {
        words(hear(&mut self.server))
    }
}

fn turn(io: &mut SimIo) -> Vec<Completion> {
    let mut completions = Vec::new();
    io.turn(SECOND, &mut completions).unwrap();
    completions
}

fn hear(io: &mut SimIo) -> Vec<Completion> {
    let mut all = Vec::new();
    loop {
        let before = all.len();
        io.turn(SECOND, &mut all).unwrap();
        if all.len() == before {
            return all;
        }
    }
}

/// Completions in short words; bytes that follow bytes are joined.
fn words(completions: Vec<Completion>) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut bytes = 0;
    for Completion { outcome, .. } in completions {
        if let Outcome::Received(buffer) = &outcome {
            if bytes > 0 {
                words.pop();
            }
            bytes += buffer.len();
            words.push(format!("{bytes} bytes"));
            continue;
        }
        bytes = 0;
        words.push(match outcome {
            Outcome::Sent(Err(Errno(libc::ECONNRESET))) => "send reset".into(),
            Outcome::RecvFailed(Errno(libc::ECONNRESET)) => "reset".into(),
            Outcome::Sent(Ok(())) => "sent".into(),
            other => format!("{other:?}"),
        });
    }
    words.join(", ")
}

fn send(io: &mut SimIo, socket: Socket, length: usize) {
    let mut output = io.output();
    output.tail().resize(length, b'x');
    io.send(socket, output);
}

#[test]
fn bytes_wait_for_recv_and_the_end_follows_them() {
    let mut pair = Pair::new(Faults::none());
    send(&mut pair.client, pair.here, 5_000);
    assert_eq!(pair.client_hears(), "sent");
    pair.client.shutdown_write(pair.here);
    assert_eq!(pair.server_hears(), "");
    pair.server.recv(pair.there);
    pair.server.recv(pair.there);
    assert_eq!(pair.server_hears(), "5000 bytes, Eof");
    pair.server.recv(pair.there);
    assert_eq!(pair.server_hears(), "");
}

#[test]
fn a_half_closed_connection_still_carries_bytes_the_other_way() {
    let mut pair = Pair::new(Faults::none());
    pair.client.recv(pair.here);
    pair.server.recv(pair.there);
    pair.client.shutdown_write(pair.here);
    assert_eq!(pair.server_hears(), "Eof");
    send(&mut pair.server, pair.there, 7);
    pair.server_hears();
    pair.server.close(pair.there);
    assert_eq!(pair.client_hears(), "7 bytes, Eof");
}

#[test]
fn a_sender_waits_for_a_reader_that_does_not_read() {
    let faults = Faults { window_bytes: (1000, 1000), ..Faults::none() };
    let mut pair = Pair::new(faults);
    send(&mut pair.client, pair.here, 1000);
    assert_eq!(pair.client_hears(), "sent");
    send(&mut pair.client, pair.here, 1);
    assert_eq!(pair.client_hears(), "");
    pair.server.recv(pair.there);
    assert_eq!(pair.server_hears(), "1001 bytes");
    assert_eq!(pair.client_hears(), "sent");
}

#[test]
fn a_paused_receiver_loses_nothing() {
    let mut pair = Pair::new(Faults::none());
    pair.server.recv(pair.there);
    pair.server.pause(pair.there);
    send(&mut pair.client, pair.here, 3);
    assert_eq!(pair.server_hears(), "");
    pair.server.recv(pair.there);
    assert_eq!(pair.server_hears(), "3 bytes");
}

#[test]
fn a_late_pause_still_reports_and_a_newer_recv_wins() {
    let faults = Faults { late_pause: 1000, latency_us: (10, 10), split: 0, ..Faults::none() };
    let mut pair = Pair::new(faults);
    pair.server.recv(pair.there);
    send(&mut pair.client, pair.here, 3);
    pair.server.pause(pair.there);
    assert_eq!(pair.server_hears(), "3 bytes", "the bytes were on their way");
    pair.client_hears();
    send(&mut pair.client, pair.here, 4);
    assert_eq!(pair.server_hears(), "", "by now it is paused");
    pair.client_hears();
    pair.server.recv(pair.there);
    pair.server.pause(pair.there);
    pair.server.recv(pair.there);
    assert_eq!(pair.server_hears(), "4 bytes");
    send(&mut pair.client, pair.here, 0x1000);
    pair.client_hears();
    assert_eq!(pair.server_hears(), "4096 bytes", "the old pause is void");
}

#[test]
fn nothing_is_reported_after_close_although_it_was_complete() {
    for abort in [false, true] {
        let mut pair = Pair::new(Faults::none());
        pair.server.recv(pair.there);
        send(&mut pair.client, pair.here, 3);
        send(&mut pair.server, pair.there, 3);
        let [Completion { outcome: Outcome::Sent(Ok(())), .. }] = turn(&mut pair.client)[..] else {
            panic!("not sent")
        };
        // Time passes in this thread only; the other has its completions pending.
        assert_eq!(pair.client_hears(), "");
        match abort {
            true => pair.server.abort(pair.there),
            false => pair.server.close(pair.there),
        }
        assert_eq!(pair.server_hears(), "");
        assert_eq!(pair.server.stats().sockets, 1);
        pair.server.recv(pair.there);
        send(&mut pair.server, pair.there, 1);
        pair.server.shutdown_write(pair.there);
        pair.server.close(pair.there);
        assert_eq!(pair.server_hears(), "", "a stale handle is harmless");
        assert_eq!(pair.server.peer_address(pair.there), None);
    }
}

#[test]
fn an_abort_is_a_reset_and_a_close_is_an_end() {
    let mut pair = Pair::new(Faults::none());
    pair.client.recv(pair.here);
    pair.server.abort(pair.there);
    assert_eq!(pair.client_hears(), "reset");
    send(&mut pair.client, pair.here, 1);
    assert_eq!(pair.client_hears(), "Sent(Err(Errno(32)))");

    let mut pair = Pair::new(Faults::none());
    pair.client.recv(pair.here);
    pair.server.close(pair.there);
    assert_eq!(pair.client_hears(), "Eof");
    send(&mut pair.client, pair.here, 1);
    assert_eq!(pair.client_hears(), "sent", "the first write after the peer's close is taken");
    send(&mut pair.client, pair.here, 1);
    assert_eq!(pair.client_hears(), "Sent(Err(Errno(32)))", "and it was answered by a reset");
}

#[test]
fn closing_with_unread_bytes_resets_as_linux_does() {
    let mut pair = Pair::new(Faults::none());
    pair.client.recv(pair.here);
    send(&mut pair.client, pair.here, 10);
    pair.client_hears();
    pair.server.close(pair.there);
    assert_eq!(pair.client_hears(), "reset");
}

#[test]
fn a_send_in_flight_fails_when_the_peer_resets() {
    let mut pair = Pair::new(Faults { window_bytes: (10, 10), ..Faults::none() });
    send(&mut pair.client, pair.here, 1000);
    assert_eq!(pair.client_hears(), "");
    pair.server.abort(pair.there);
    assert_eq!(pair.client_hears(), "send reset");
    pair.client.recv(pair.here);
    assert_eq!(pair.client_hears(), "reset", "whoever asks later learns it too");
}

#[test]
fn what_was_sent_before_a_close_arrives_and_the_rest_of_a_cancelled_send_does_not() {
    let mut pair = Pair::new(Faults { window_bytes: (10, 10), ..Faults::none() });
    send(&mut pair.server, pair.there, 1000);
    pair.server.close(pair.there);
    pair.client.recv(pair.here);
    assert_eq!(pair.client_hears(), "10 bytes, Eof");
}

#[test]
fn a_cut_strikes_after_its_byte_and_both_ends_see_it() {
    let faults = Faults { reset: 1000, reset_within_bytes: 0, ..Faults::none() };
    let mut pair = Pair::new(faults);
    pair.server.recv(pair.there);
    send(&mut pair.client, pair.here, 10);
    assert_eq!(pair.server_hears(), "reset");
    assert_eq!(pair.client_hears(), "send reset");
}

#[test]
fn connects_are_refused_time_out_and_fail_at_once() {
    let world = World::new(3, Faults::none());
    let mut io = world.io("client");
    io.connect(&address(), CLIENT).unwrap();
    assert_eq!(words(hear(&mut io)), "Connected(Err(Errno(111)))");
    world.set_faults(Faults { blackhole: 1000, ..Faults::none() });
    let before = io.now().instant;
    io.connect(&address(), CLIENT).unwrap();
    let mut completions = Vec::new();
    let now = io.turn(None, &mut completions).unwrap();
    assert_eq!(words(completions), "Connected(Err(Errno(110)))");
    assert_eq!(now.instant.since(before), Duration::from_secs(127));
    world.set_faults(Faults { connect_error: 1000, ..Faults::none() });
    assert!(io.connect(&address(), CLIENT).is_err());
}

#[test]
fn a_stopped_accept_goes_on_when_asked_and_loses_no_connection() {
    let world = World::new(4, Faults::none());
    let mut server = world.io("server");
    server.set_sockets_max(1);
    let mut client = world.io("client");
    let listener = server.listen_at(address(), SERVER).unwrap();
    server.accept(listener);
    client.connect(&address(), CLIENT).unwrap();
    assert_eq!(words(hear(&mut server)), "AcceptStopped(Errno(24))");
    assert_eq!(words(hear(&mut server)), "");
    assert_eq!(words(hear(&mut client)), "Connected(Ok(()))");
    assert!(server.connect(&address(), CLIENT).is_err());
    server.set_sockets_max(9);
    server.accept(listener);
    assert!(matches!(hear(&mut server)[..], [Completion { outcome: Outcome::Accepted(_), .. }]));
    server.pause(listener);
    client.connect(&address(), CLIENT).unwrap();
    assert_eq!(words(hear(&mut server)), "");
    server.accept(listener);
    assert!(matches!(hear(&mut server)[..], [Completion { outcome: Outcome::Accepted(_), .. }]));
}

#[test]
fn a_closed_listener_resets_what_it_had_not_handed_over() {
    let mut pair = Pair::new(Faults::none());
    let accepted = pair.client.connect(&address(), CLIENT).unwrap();
    pair.client.recv(accepted);
    hear(&mut pair.client); // accepted by now, and not reported
    pair.server.pause(pair.listener);
    let waiting = pair.client.connect(&address(), CLIENT).unwrap();
    pair.client.recv(waiting);
    hear(&mut pair.client);
    assert_eq!(pair.server.stats().sockets, 3);
    pair.server.close(pair.listener);
    assert_eq!(pair.server_hears(), "");
    assert_eq!(pair.server.stats().sockets, 1, "the socket that nobody knew is closed");
    assert_eq!(pair.client_hears(), "reset, reset");
    pair.client.connect(&address(), CLIENT).unwrap();
    assert_eq!(pair.client_hears(), "Connected(Err(Errno(111)))");
}

#[test]
fn listeners_that_share_an_address_share_its_connections() {
    let world = World::new(5, Faults::none());
    let descriptor = world.listener_fd(address()).unwrap();
    let mut servers: Vec<SimIo> = (0..2).map(|_| world.io("shard")).collect();
    for server in &mut servers {
        let listener = server.listen(descriptor.try_clone().unwrap(), SERVER).unwrap();
        assert_eq!(server.local_address(listener), Some(address()));
        server.accept(listener);
    }
    let mut client = world.io("client");
    for _ in 0..100 {
        client.connect(&address(), CLIENT).unwrap();
    }
    hear(&mut client);
    let counts: Vec<usize> = servers.iter_mut().map(|server| hear(server).len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 100);
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
}

#[test]
fn only_our_descriptors_are_listeners() {
    let mut io = World::new(6, Faults::none()).io("server");
    let other = std::fs::File::open("/dev/null").unwrap();
    assert!(io.listen(other.into(), SERVER).is_err());
}

#[test]
fn addresses_are_those_of_the_connection() {
    let pair = Pair::new(Faults::none());
    assert_eq!(pair.client.peer_address(pair.here), Some(address()));
    assert_eq!(pair.server.local_address(pair.there), Some(address()));
    let client = pair.client.local_address(pair.here);
    assert!(client.is_some());
    assert_eq!(pair.server.peer_address(pair.there), client);
}

#[test]
fn a_waker_wakes_once_with_its_token() {
    let mut io = World::new(7, Faults::none()).io("server");
    io.set_waker_token(Token(77));
    let waker = io.waker();
    std::thread::spawn(move || {
        waker.wake();
        waker.wake();
    })
    .join()
    .unwrap();
    let woken = hear(&mut io);
    assert!(matches!(woken[..], [Completion { token: Token(77), outcome: Outcome::Woken }]));
}

#[test]
fn time_passes_only_in_turns() {
    let mut io = World::new(8, Faults::none()).io("server");
    let before = io.now();
    assert_eq!(io.now(), before);
    let after = io.turn(SECOND, &mut Vec::new()).unwrap();
    assert_eq!(after.instant.since(before.instant), Duration::from_secs(1));
    assert_eq!(after.unix_us - before.unix_us, 1_000_000);
    assert!(io.turn(None, &mut Vec::new()).is_err(), "a wait without end is reported");
}

#[test]
fn a_dropped_io_ends_its_connections() {
    let mut pair = Pair::new(Faults::none());
    pair.client.recv(pair.here);
    drop(pair.server);
    let heard = words(hear(&mut pair.client));
    assert_eq!(heard, "Eof");
    pair.world.run_out();
}

#[test]
#[should_panic(expected = "in flight")]
fn a_second_send_is_our_own_mistake() {
    let mut pair = Pair::new(Faults { window_bytes: (1, 1), ..Faults::none() });
    send(&mut pair.client, pair.here, 2);
    send(&mut pair.client, pair.here, 2);
}

#[test]
#[should_panic(expected = "empty")]
fn an_empty_send_is_our_own_mistake() {
    let mut pair = Pair::new(Faults::none());
    send(&mut pair.client, pair.here, 0);
}
