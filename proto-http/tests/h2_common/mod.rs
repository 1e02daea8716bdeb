//! Endpoints over the codec: a server that sends back what it gets, and a client that keeps what
//! it is answered.
//!
//! What it leaves to others: how bytes get from one to the other.
// Each test file uses its part.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

pub mod wire;

use std::collections::HashMap;
use std::time::Duration;
use tidegate_http::h2::{Cause, Connection, Ending, Event, Options, Send, StreamKey};
use tidegate_http::{BodyLength, Headers, RequestHead, ResponseHead};

pub type Fields = Vec<(String, String)>;

/// The most that one frame may have. All that can be written is written in each turn: nobody tells
/// these endpoints when more could be.
const FRAME_MAX: usize = 1 << 20;

pub fn fields_of(headers: &Headers) -> Fields {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers.iter().map(|(name, value)| (text(name), text(value))).collect()
}

pub fn headers_of(fields: &Fields) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in fields {
        headers.append(name.as_bytes(), value.as_bytes());
    }
    headers
}

/// Bodies on their way out.
#[derive(Default)]
struct Bodies {
    waiting: HashMap<StreamKey, (Vec<u8>, Fields)>,
}

impl Bodies {
    fn add(&mut self, connection: &mut Connection, stream: StreamKey, data: &[u8], then: Ending) {
        self.waiting.entry(stream).or_default().0.extend_from_slice(data);
        connection.queue_data(stream, data.len(), then);
    }

    /// Writes what may be written; answers how much of which stream was.
    fn write(&mut self, connection: &mut Connection, out: &mut Vec<u8>) -> Vec<(StreamKey, usize)> {
        let mut written = Vec::new();
        while let Some(send) = connection.next_send(FRAME_MAX, out) {
            match send {
                Send::Data { stream, length, .. } => {
                    let body = &mut self.waiting.get_mut(&stream).unwrap().0;
                    out.extend(body.drain(..length));
                    written.push((stream, length));
                }
                Send::Trailers { stream, .. } => {
                    let trailers = headers_of(&self.waiting[&stream].1);
                    assert!(connection.send_trailers(stream, &trailers, out));
                }
            }
        }
        written
    }
}

/// Answers each request with its own body and trailers, and says in a field what it asked for.
pub struct EchoServer {
    pub connection: Connection,
    head: RequestHead,
    bodies: Bodies,
    /// What happened besides: resets and such.
    pub log: Vec<String>,
}

impl EchoServer {
    pub fn new(options: Options) -> EchoServer {
        EchoServer {
            connection: Connection::server(options, Duration::ZERO),
            head: RequestHead::default(),
            bodies: Bodies::default(),
            log: Vec::new(),
        }
    }

    /// Takes input; answers what is to be sent. An error is in the log.
    pub fn turn(&mut self, input: &[u8]) -> Vec<u8> {
        let (mut rest, mut out) = (input, Vec::new());
        loop {
            let step = match self.connection.decode_request(rest, &mut self.head, Duration::ZERO) {
                Ok(step) => step,
                Err(error) => {
                    self.log.push(format!("error {error}"));
                    break;
                }
            };
            let input = rest;
            rest = &rest[step.consumed..];
            if !self.handle(step.event, input, &mut out) {
                break;
            }
        }
        self.flush(&mut out);
        out
    }

    fn handle(&mut self, event: Event, input: &[u8], out: &mut Vec<u8>) -> bool {
        match event {
            Event::NeedMore => return false,
            Event::Head { stream, end_stream, .. } => {
                let mut response = ResponseHead { status: 200, ..ResponseHead::default() };
                let head = &self.head;
                let asked = [head.method_name(), b" ", head.path()].concat();
                response.headers.append(b"x-asked", &asked);
                response.headers.append(b"x-authority", head.authority());
                for (name, value) in head.headers.iter().filter(|(name, _)| *name != b"host") {
                    response.headers.append(name, value);
                }
                let body = if end_stream { BodyLength::None } else { BodyLength::Chunked };
                let connection = &mut self.connection;
                assert!(connection.send_response(stream, &response, body, end_stream, out));
            }
            Event::Data { stream, range, end_stream, .. } => {
                let then = if end_stream { Ending::End } else { Ending::Open };
                self.bodies.add(&mut self.connection, stream, &input[range], then);
            }
            Event::Trailers { stream, .. } => {
                let trailers = fields_of(self.connection.trailers());
                self.bodies.waiting.entry(stream).or_default().1 = trailers;
                self.connection.queue_data(stream, 0, Ending::Trailers);
            }
            Event::InterimHead { .. } => panic!("a request has no interim head"),
            event => self.log.push(format!("{event:?}")),
        }
        true
    }

    pub fn flush(&mut self, out: &mut Vec<u8>) {
        let written = self.bodies.write(&mut self.connection, out);
        for (stream, length) in written {
            self.connection.consumed(stream, length);
        }
        self.connection.write_control(out);
        self.connection.handle_sending();
        self.connection.handle_sent();
    }
}

/// What a client was answered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub interim: Vec<u16>,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    pub is_complete: bool,
    pub reset: Option<String>,
}

/// Sends requests, keeps answers.
pub struct Client {
    pub connection: Connection,
    head: ResponseHead,
    bodies: Bodies,
    pub answers: HashMap<StreamKey, Answer>,
    pub log: Vec<String>,
}

pub fn request(method: &str, path: &str, fields: &Fields) -> RequestHead {
    let mut head = RequestHead { headers: headers_of(fields), ..RequestHead::default() };
    head.method = tidegate_http::Method::of(method.as_bytes());
    head.method_name = head.headers.store(method.as_bytes());
    head.set_path(path.as_bytes());
    head.set_authority(b"a.example");
    head
}

impl Client {
    pub fn new(options: Options) -> Client {
        Client {
            connection: Connection::client(options, Duration::ZERO),
            head: ResponseHead::default(),
            bodies: Bodies::default(),
            answers: HashMap::new(),
            log: Vec::new(),
        }
    }

    pub fn send(&mut self, head: &RequestHead, body: &[u8], trailers: &Fields, out: &mut Vec<u8>) {
        let end_stream = body.is_empty() && trailers.is_empty();
        let length = match body.len() {
            0 => BodyLength::None,
            _ if trailers.is_empty() => BodyLength::Exact(body.len() as u64),
            _ => BodyLength::Chunked,
        };
        let stream = self.connection.open(head, length, end_stream, 7, out).unwrap();
        self.answers.insert(stream, Answer::default());
        if !end_stream {
            let then = if trailers.is_empty() { Ending::End } else { Ending::Trailers };
            self.bodies.waiting.insert(stream, (Vec::new(), trailers.clone()));
            self.bodies.add(&mut self.connection, stream, body, then);
        }
    }

    pub fn turn(&mut self, input: &[u8]) -> Vec<u8> {
        let mut rest = input;
        loop {
            let step = match self.connection.decode_response(rest, &mut self.head, Duration::ZERO) {
                Ok(step) => step,
                Err(error) => {
                    self.log.push(format!("error {error}"));
                    break;
                }
            };
            let input = rest;
            rest = &rest[step.consumed..];
            if !self.handle(step.event, input) {
                break;
            }
        }
        let mut out = Vec::new();
        self.flush(&mut out);
        out
    }

    fn handle(&mut self, event: Event, input: &[u8]) -> bool {
        match event {
            Event::NeedMore => return false,
            Event::InterimHead { stream, .. } => {
                self.answers.get_mut(&stream).unwrap().interim.push(self.head.status);
            }
            Event::Head { stream, end_stream, .. } => {
                let answer = self.answers.get_mut(&stream).unwrap();
                answer.status = self.head.status;
                answer.fields = fields_of(&self.head.headers);
                answer.is_complete = end_stream;
            }
            Event::Data { stream, range, end_stream, .. } => {
                let answer = self.answers.get_mut(&stream).unwrap();
                answer.body.extend_from_slice(&input[range.clone()]);
                answer.is_complete = end_stream;
                self.connection.consumed(stream, range.len());
            }
            Event::Trailers { stream, .. } => {
                let answer = self.answers.get_mut(&stream).unwrap();
                answer.trailers = fields_of(self.connection.trailers());
                answer.is_complete = true;
            }
            Event::Reset { stream, tag, code, cause } => {
                assert_eq!(tag, 7);
                let unprocessed = cause == Cause::Unprocessed;
                let answer = self.answers.get_mut(&stream).unwrap();
                answer.reset = Some(format!("{} {unprocessed}", code.0));
            }
            event => self.log.push(format!("{event:?}")),
        }
        true
    }

    pub fn flush(&mut self, out: &mut Vec<u8>) {
        self.bodies.write(&mut self.connection, out);
        self.connection.write_control(out);
        self.connection.handle_sending();
        self.connection.handle_sent();
    }

    /// Whether every request has its answer.
    pub fn is_done(&self) -> bool {
        self.answers.values().all(|answer| answer.is_complete || answer.reset.is_some())
    }
}
