//! The bench on which the suite runs, and the list of its cases.
//!
//! What it leaves to others: the cases themselves, one file per subject.

pub mod accepting;
pub mod buffers;
pub mod chaos;
pub mod closing;
pub mod receiving;
pub mod sending;
pub mod splicing;
pub mod turning;

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_io::{Completion, IoOptions, Now, Outcome, Socket, Token};

use crate::Backend;

pub const LISTENER: Token = Token(1);
pub const CLIENT: Token = Token(2);
pub const SERVER: Token = Token(3);

/// How long a step may take in the backend's own time before the test fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// A backend with a listener that accepts, and what happened so far.
pub struct Bench<B> {
    pub io: B,
    pub listener: Socket,
    pub address: SocketAddr,
    pub seen: Vec<Completion>,
}

impl<B: Backend> Bench<B> {
    pub fn new() -> Option<Bench<B>> {
        Bench::with(&IoOptions::default())
    }

    pub fn with(options: &IoOptions) -> Option<Bench<B>> {
        let mut io = B::make(options)?;
        let (listener, address) = io.listen_anywhere(LISTENER);
        io.accept(listener);
        Some(Bench { io, listener, address, seen: Vec::new() })
    }

    pub fn turn(&mut self, timeout: Duration) -> Now {
        self.io.turn(Some(timeout), &mut self.seen).unwrap()
    }

    /// Takes turns until something like `wanted` was seen, and takes the first of it out.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Completion) -> bool) -> Completion {
        let deadline = self.io.now().instant + PATIENCE;
        loop {
            if let Some(at) = self.seen.iter().position(&wanted) {
                return self.seen.remove(at);
            }
            let now = self.turn(Duration::from_millis(100));
            assert!(now.instant < deadline, "{what} did not come; seen: {:?}", self.seen);
        }
    }

    pub fn outcome(&mut self, token: Token, what: &str, wanted: fn(&Outcome) -> bool) -> Outcome {
        self.until(what, |seen| seen.token == token && wanted(&seen.outcome)).outcome
    }

    /// Takes turns for a while.
    pub fn rest(&mut self, duration: Duration) {
        let end = self.io.now().instant + duration;
        while self.io.now().instant < end {
            self.turn(end.since(self.io.now().instant));
        }
    }

    /// Nothing of `token` happens for a while.
    pub fn quiet(&mut self, token: Token) {
        self.rest(Duration::from_millis(30));
        let heard: Vec<_> = self.seen.iter().filter(|seen| seen.token == token).collect();
        assert!(heard.is_empty(), "{heard:?}");
    }

    pub fn accepted(&mut self) -> Socket {
        let accepted = |outcome: &Outcome| matches!(outcome, Outcome::Accepted(_));
        match self.outcome(LISTENER, "an accepted connection", accepted) {
            Outcome::Accepted(socket) => socket,
            other => panic!("{other:?}"),
        }
    }

    pub fn connected(&mut self, token: Token) -> Result<(), tidegate_io::Errno> {
        let connected = |outcome: &Outcome| matches!(outcome, Outcome::Connected(_));
        match self.outcome(token, "the end of a connect", connected) {
            Outcome::Connected(result) => result,
            other => panic!("{other:?}"),
        }
    }

    /// A connection: the client's end and the server's.
    pub fn pair(&mut self) -> (Socket, Socket) {
        self.pair_of(CLIENT, SERVER)
    }

    pub fn pair_of(&mut self, client_token: Token, server_token: Token) -> (Socket, Socket) {
        let client = self.io.connect(&self.address, client_token).unwrap();
        self.connected(client_token).unwrap();
        let server = self.accepted();
        self.io.set_token(server, server_token);
        (client, server)
    }

    pub fn send(&mut self, socket: Socket, bytes: &[u8]) {
        let mut output = self.io.output();
        output.tail().extend_from_slice(bytes);
        self.io.send(socket, output);
    }

    pub fn sent(&mut self, token: Token) -> Result<(), tidegate_io::Errno> {
        match self.outcome(token, "the end of a send", |seen| matches!(seen, Outcome::Sent(_))) {
            Outcome::Sent(result) => result,
            other => panic!("{other:?}"),
        }
    }

    /// Sends and waits until the kernel has taken it.
    pub fn send_whole(&mut self, socket: Socket, token: Token, bytes: &[u8]) {
        self.send(socket, bytes);
        self.sent(token).unwrap();
    }

    /// The next `count` bytes of `token`, however they are cut. Exactly so many have come.
    pub fn bytes(&mut self, token: Token, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let received = |outcome: &Outcome| matches!(outcome, Outcome::Received(_));
            match self.outcome(token, "bytes", received) {
                Outcome::Received(buffer) => {
                    assert!(!buffer.is_empty());
                    bytes.extend_from_slice(&buffer);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(bytes.len(), count);
        bytes
    }

    pub fn eof(&mut self, token: Token) {
        self.outcome(token, "the end of the stream", |seen| matches!(seen, Outcome::Eof));
    }

    /// Waits until all sockets but `sockets` of them are gone, and all buffers are back.
    pub fn settled(&mut self, sockets: u64) {
        self.seen.clear();
        let deadline = self.io.now().instant + PATIENCE;
        loop {
            let stats = self.io.stats();
            if stats.sockets == sockets && stats.buffers_in_use == 0 {
                return;
            }
            let now = self.turn(Duration::from_millis(20));
            self.seen.clear();
            assert!(now.instant < deadline, "not settled: {stats:?}");
        }
    }
}

/// Bytes that are different everywhere, so that a lost or doubled piece is seen.
pub fn pattern(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// Makes a module of tests, one per case, for one backend.
#[macro_export]
macro_rules! contract_suite {
    ($module:ident, $backend:ty) => {
        mod $module {
            $crate::contract_suite!(@cases $backend, accepting:
                a_connection_is_accepted_with_the_listeners_token
                several_connections_are_accepted
                a_paused_listener_accepts_later
                a_closed_listener_reports_nothing
                a_refused_connect_says_so
                addresses_of_both_ends_agree
            );
            $crate::contract_suite!(@cases $backend, receiving:
                nothing_is_received_before_it_is_wanted
                wanting_twice_is_wanting_once
                small_messages_arrive_in_order
                a_megabyte_arrives_whole_both_ways
                a_paused_socket_loses_nothing
                pause_and_recv_work_in_every_interleaving
                the_end_of_a_stream_comes_once_and_after_the_bytes
                the_end_of_a_stream_is_seen_when_it_came_before_recv
                a_reset_is_reported
                a_new_token_is_used_at_once
            );
            $crate::contract_suite!(@cases $backend, sending:
                pieces_are_sent_in_order
                a_slow_reader_gets_everything
                sending_goes_on_after_the_peer_has_finished
                the_last_bytes_arrive_with_the_end
                a_received_buffer_can_be_sent_on
                a_send_to_a_closed_socket_is_dropped
                two_sends_at_once_are_a_mistake
                an_empty_send_is_a_mistake
                sending_to_a_peer_that_is_gone_fails
                many_pieces_are_sent_in_order
            );
            $crate::contract_suite!(@cases $backend, splicing:
                so_many_bytes_are_moved_and_the_rest_stays
                bytes_that_come_later_are_moved_too
                a_splice_waits_for_a_slow_reader
                a_splice_ends_with_its_source
                a_reset_of_the_source_ends_it
                a_target_that_is_gone_ends_it
                closing_either_end_is_silent_and_leaves_nothing
                both_ends_are_free_after_a_splice
                one_splice_at_a_time
                a_paused_socket_can_be_spliced_from
                receiving_and_splicing_is_a_mistake
            );
            $crate::contract_suite!(@cases $backend, closing:
                a_closed_socket_is_silent
                a_stale_handle_is_ignored
                an_aborted_socket_is_reset
                a_closed_socket_is_finished_for_its_peer
                closing_while_a_send_waits_gives_everything_back
                closing_while_connecting_is_fine
                closing_a_paused_or_ended_socket_is_fine
                a_storm_of_pauses_and_closes_leaves_nothing
                a_backend_can_be_dropped_in_any_state
            );
            $crate::contract_suite!(@cases $backend, buffers:
                running_out_of_buffers_loses_nothing_and_does_not_spin
                a_closed_socket_does_not_wait_for_buffers
                one_free_buffer_is_offered_to_everybody_who_waits
                buffers_outlive_their_socket_and_backend
                outputs_are_used_again
            );
            $crate::contract_suite!(@cases $backend, chaos:
                whatever_is_done_when_bytes_are_right_and_everything_comes_back
            );
            $crate::contract_suite!(@cases $backend, turning:
                a_turn_waits_as_long_as_it_is_told
                a_turn_without_wait_returns
                what_gathers_is_not_kept
                a_wake_is_heard_once_per_turn
                wakes_from_another_thread_are_never_lost
                time_goes_forward
                a_random_mixture_is_carried_whole
            );
        }
    };
    (@cases $backend:ty, $file:ident: $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                if let Some(bench) = $crate::contract_cases::Bench::<$backend>::new() {
                    $crate::contract_cases::$file::$case(bench);
                }
            }
        )*
    };
}
