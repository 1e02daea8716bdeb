//! One place for a connection: what it is doing, and the request that it carries.
//!
//! ```text
//!   Empty --start--> Connecting --Connected--> Busy --answer--> Idle --start--> Busy
//!     ^ ^                |                      |                |
//!     | '----fault-------'-----------fault------'                |
//!     '------------closed by either side-------------------------'
//! ```
//!
//! What it leaves to others: sockets and time.

use tidegate_http::Limits;
use tidegate_http::h1::{Options, ResponseDecoder};
use tidegate_http::h2::StreamKey;
use tidegate_io::{Socket, Token};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// No connection.
    Empty,
    Connecting,
    /// A connection without a request.
    Idle,
    /// A request was sent.
    Busy,
}

#[derive(Debug)]
pub struct Slot {
    pub state: State,
    pub socket: Option<Socket>,
    /// Counts the sockets that this place has had: a completion of an earlier one is dropped.
    pub generation: u32,
    pub decoder: ResponseDecoder,
    /// The request that it carries, when `carries` is set.
    pub request: Request,
    pub carries: bool,
    /// The kernel has not taken all of the last request yet.
    pub sending: bool,
    /// The answer is complete, but the request is not sent yet.
    pub answered_early: bool,
    pub closes: bool,
    pub status: u16,
    pub body_in: u64,
    /// On HTTP/2: the stream of the request, and what of its body was sent.
    pub stream: Option<StreamKey>,
    pub body_out: usize,
    /// Requests that this connection has served.
    pub served: u32,
    /// When it became free.
    pub free_since: u64,
    /// Connects that failed in a row.
    pub failed_connects: u32,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// When it should have been sent.
    pub intended: u64,
    /// When it was taken up: given to the kernel, or a connect was begun for it.
    pub sent: u64,
    pub target: u32,
}

impl Slot {
    pub fn new() -> Slot {
        Slot {
            state: State::Empty,
            socket: None,
            generation: 0,
            decoder: ResponseDecoder::new(Options::default(), Limits::default()),
            request: Request::default(),
            carries: false,
            sending: false,
            answered_early: false,
            closes: false,
            status: 0,
            body_in: 0,
            stream: None,
            body_out: 0,
            served: 0,
            free_since: 0,
            failed_connects: 0,
        }
    }

    /// The token of its present socket.
    pub fn token(&self, index: usize) -> Token {
        Token(u64::from(self.generation) << 32 | index as u64)
    }

    /// Forgets the connection; its completions are stale from here on.
    pub fn leave(&mut self) -> Option<Socket> {
        self.generation = self.generation.wrapping_add(1);
        self.state = State::Empty;
        self.decoder = ResponseDecoder::new(Options::default(), Limits::default());
        self.sending = false;
        self.answered_early = false;
        self.closes = false;
        self.served = 0;
        self.socket.take()
    }
}
