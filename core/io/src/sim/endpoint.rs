//! The data of simulated sockets: one end of a TCP connection, and a listener.
//!
//! What it leaves to others: moving bytes (`network.rs`) and accepting (`listener.rs`).

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::{Errno, Output};

/// An index into the world's endpoints, which are never reused.
pub(super) type EndpointId = usize;

/// Where a connection's end is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The handshake runs; bytes are neither sent nor reported.
    Connecting,
    /// Established, half-closed included.
    Open,
    /// Reset, or never established. What arrived before may still be read.
    Dead,
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub node: usize,
    /// The slot of its socket; none before it is accepted and after it is closed.
    pub slot: Option<u32>,
    /// Its owner closed it (or its listener, before it was accepted).
    pub closed: bool,
    pub phase: Phase,
    pub peer: Option<EndpointId>,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub sending: Option<Sending>,
    /// A [`super::event::Event::Send`] is planned: the rest waits for it.
    pub send_planned: bool,
    /// Bytes that may be between our send and the peer's reads.
    pub window: usize,
    /// Bytes that are there now. Not above `window`.
    pub unread: usize,
    /// A FIN was sent.
    pub write_shut: bool,
    /// What is on its way to the peer, in order of arrival.
    pub wire: VecDeque<Segment>,
    /// When the last of it arrives; what follows arrives no earlier.
    pub wire_until: u64,
    /// The connection is cut once this many more bytes were sent.
    pub cut_after: Option<u64>,
    /// The cut has happened: nothing more is sent.
    pub cut: bool,
    pub reset_sent: bool,
    /// What arrived and was not reported.
    pub inbox: VecDeque<u8>,
    pub receiving: bool,
    /// The most that the one receive that is wanted may bring; 0: as many and as much as come.
    pub recv_bytes_max: usize,
    /// What arrives goes to another connection.
    pub splicing: Option<Splicing>,
    /// What is sent comes from another connection.
    pub spliced_from: Option<EndpointId>,
    /// Counts [`crate::Io::recv`] calls, so that a late pause does not undo a newer one.
    pub recv_calls: u32,
    /// Waits for a free buffer; listed in its node's `starved`.
    pub starved: bool,
    pub fin_arrived: bool,
    /// Eof or RecvFailed was reported: nothing more is.
    pub read_ended: bool,
    /// The reset that ended it.
    pub error: Option<Errno>,
}

/// Where what arrives goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Splicing {
    pub to: EndpointId,
    /// Bytes that are still to be moved.
    pub left: u64,
}

/// A send in flight. The bytes are copied once; the [`Output`] is held until they are all taken, as
/// a kernel would hold it.
#[derive(Debug)]
pub(super) struct Sending {
    pub bytes: Vec<u8>,
    /// Bytes taken. Below `bytes.len()`.
    pub done: usize,
    pub output: Output,
}

/// Something on its way.
#[derive(Debug)]
pub(super) struct Segment {
    pub at: u64,
    pub content: Content,
}

/// What a segment carries.
#[derive(Debug)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub address: SocketAddr,
    pub accepting: bool,
    pub backlog: VecDeque<EndpointId>,
}

impl Endpoint {
    pub fn new(node: usize, local: SocketAddr, remote: SocketAddr, window: usize) -> Endpoint {
        Endpoint {
            node,
            slot: None,
            closed: false,
            phase: Phase::Connecting,
            peer: None,
            local,
            remote,
            sending: None,
            send_planned: false,
            window,
            unread: 0,
            write_shut: false,
            wire: VecDeque::new(),
            wire_until: 0,
            cut_after: None,
            cut: false,
            reset_sent: false,
            inbox: VecDeque::new(),
            receiving: false,
            recv_bytes_max: 0,
            splicing: None,
            spliced_from: None,
            recv_calls: 0,
            starved: false,
            fin_arrived: false,
            read_ended: false,
            error: None,
        }
    }
}
