//! Drives a decoder over bytes that are cut in any way, and writes down what it said.
//!
//! What it leaves to others: which bytes, and what they should come to.
#![allow(dead_code, clippy::expect_used, clippy::panic)] // each test file uses its part

use std::fmt::Write;
use tidegate_http::h1::{Event, Options, RequestDecoder, ResponseDecoder};
use tidegate_http::{Headers, HttpError, Limits, RequestHead, ResponseHead};

/// What a decoder said: one line per event, data joined, however it was cut.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transcript {
    pub lines: Vec<String>,
    data: Vec<u8>,
    pub error: Option<HttpError>,
}

impl Transcript {
    fn line(&mut self, line: String) {
        if !self.data.is_empty() {
            let data = std::mem::take(&mut self.data);
            self.lines.push(format!("data {}", data.escape_ascii()));
        }
        self.lines.push(line);
    }

    fn fail(&mut self, error: HttpError) {
        self.line(format!("error {} {:?} {}", error.status, error.fault, error.details));
        self.error = Some(error);
    }

    fn end(&mut self) {
        self.line("need more".into());
    }

    pub fn text(&self) -> String {
        self.lines.join("\n")
    }
}

pub fn fields(headers: &Headers) -> String {
    let mut text = String::new();
    for (name, value) in headers.iter() {
        let _ = write!(text, " [{}: {}]", name.escape_ascii(), value.escape_ascii());
    }
    text
}

pub fn describe_request(head: &RequestHead) -> String {
    format!(
        "request {:?} {} {} at {} {:?} {:?} length {:?} close {} continue {} upgrade {}{}",
        head.version,
        head.method_name().escape_ascii(),
        head.path().escape_ascii(),
        head.authority().escape_ascii(),
        head.scheme,
        head.body,
        head.content_length,
        head.close,
        head.expect_continue,
        head.upgrade,
        fields(&head.headers),
    )
}

pub fn describe_response(head: &ResponseHead) -> String {
    format!(
        "response {:?} {} {} {:?} length {:?} close {} upgrade {}{}",
        head.version,
        head.status,
        head.reason().escape_ascii(),
        head.body,
        head.content_length,
        head.close,
        head.upgrade,
        fields(&head.headers),
    )
}

/// Feeds `input` cut at `cuts` (ascending) and answers with the transcript. Waiting decoders are
/// resumed, so that everything is read as HTTP.
pub fn read_requests(input: &[u8], cuts: &[usize], options: Options, limits: Limits) -> Transcript {
    let mut decoder = RequestDecoder::new(options, limits);
    let mut head = RequestHead::default();
    let mut transcript = Transcript::default();
    for piece in pieces(input, cuts) {
        let mut at = 0;
        loop {
            let rest = &piece[at..];
            let step = match decoder.decode(rest, &mut head) {
                Ok(step) => step,
                Err(error) => {
                    assert_eq!(decoder.decode(rest, &mut head), Err(error), "an error stays");
                    transcript.fail(error);
                    return transcript;
                }
            };
            assert!(step.consumed <= rest.len());
            at += step.consumed;
            match step.event {
                Event::NeedMore if decoder.is_waiting() => {
                    transcript.line("waiting".into());
                    decoder.resume();
                }
                Event::NeedMore => {
                    assert_eq!(at, piece.len(), "all input is consumed or kept");
                    break;
                }
                Event::Head => transcript.line(describe_request(&head)),
                Event::Data(range) => {
                    assert!(!range.is_empty() && range.end <= step.consumed);
                    transcript.data.extend_from_slice(&rest[range]);
                }
                Event::Trailers => {
                    let trailers = decoder.trailers().expect("trailers after their event");
                    transcript.line(format!("trailers{}", fields(trailers)));
                }
                Event::End => transcript.line("end".into()),
                Event::InterimHead | Event::Tunnel => panic!("{:?}", step.event),
            }
        }
    }
    transcript.line(if decoder.is_idle() {
        "idle".into()
    } else if decoder.is_in_head() {
        "in head".into()
    } else {
        "need more".into()
    });
    transcript
}

/// As [`read_requests`], for responses to `request`, which is announced for each response; `eof` at
/// the end.
pub fn read_responses(
    request: &RequestHead,
    input: &[u8],
    cuts: &[usize],
    options: Options,
    limits: Limits,
) -> Transcript {
    let mut decoder = ResponseDecoder::new(options, limits);
    let mut head = ResponseHead::default();
    let mut transcript = Transcript::default();
    decoder.expect(request);
    for piece in pieces(input, cuts) {
        let mut at = 0;
        loop {
            let rest = &piece[at..];
            let step = match decoder.decode(rest, &mut head) {
                Ok(step) => step,
                Err(error) => {
                    assert_eq!(decoder.decode(rest, &mut head), Err(error), "an error stays");
                    transcript.fail(error);
                    return transcript;
                }
            };
            assert!(step.consumed <= rest.len());
            at += step.consumed;
            match step.event {
                Event::NeedMore => {
                    assert_eq!(at, piece.len(), "all input is consumed or kept");
                    break;
                }
                Event::Head => transcript.line(describe_response(&head)),
                Event::InterimHead => {
                    transcript.line(format!("interim {}", describe_response(&head)));
                }
                Event::Data(range) => {
                    assert!(!range.is_empty() && range.end <= step.consumed);
                    transcript.data.extend_from_slice(&rest[range]);
                }
                Event::Trailers => {
                    let trailers = decoder.trailers().expect("trailers after their event");
                    transcript.line(format!("trailers{}", fields(trailers)));
                }
                Event::End => transcript.line("end".into()),
                Event::Tunnel => {
                    transcript.data.extend_from_slice(rest);
                    break;
                }
            }
        }
    }
    match decoder.eof() {
        Ok(event) => transcript.line(format!("eof {event:?}")),
        Err(error) => transcript.fail(error),
    }
    transcript
}

fn pieces<'i>(input: &'i [u8], cuts: &[usize]) -> Vec<&'i [u8]> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for &cut in cuts {
        pieces.push(&input[from..cut]);
        from = cut;
    }
    pieces.push(&input[from..]);
    pieces
}

/// The whole input at once, strictly.
pub fn strict(input: &[u8]) -> Transcript {
    read_requests(input, &[], Options::default(), Limits::default())
}

/// The whole input at once, with these options.
pub fn with(options: Options, input: &[u8]) -> Transcript {
    read_requests(input, &[], options, Limits::default())
}

/// The head of a request, decoded.
pub fn request(text: &str) -> RequestHead {
    let mut decoder = RequestDecoder::new(Options::default(), Limits::default());
    let mut head = RequestHead::default();
    let step = decoder.decode(text.as_bytes(), &mut head).expect("a good request");
    assert_eq!(step.event, Event::Head);
    head
}

/// Responses to a GET, read whole and strictly.
pub fn responses_to_get(input: &[u8]) -> Transcript {
    let get = request("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    read_responses(&get, input, &[], Options::default(), Limits::default())
}
