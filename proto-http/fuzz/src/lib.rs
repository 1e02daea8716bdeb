//! What the fuzz targets share: policies from a byte, and a transcript of what a decoder said.
//!
//! What it leaves to others: the properties (`fuzz_targets`).

use tidegate_http::h1::{Event, Options, RequestDecoder, ResponseDecoder};
use tidegate_http::{Headers, HttpError, Limits, RequestHead, ResponseHead};

/// Policies and limits, each chosen by a bit.
pub fn policies(bits: u8) -> (Options, Limits) {
    let options = Options {
        allow_backslash: bits & 1 != 0,
        accept_http_10: bits & 2 != 0,
        reject_absolute_url: bits & 4 != 0,
        enable_trailers: bits & 8 != 0,
        allow_chunked_length: bits & 32 != 0,
        known_methods_only: bits & 64 != 0,
        keep_name_case: bits & 128 != 0,
    };
    let small = Limits {
        head_bytes_max: 200,
        fields_max: 4,
        chunk_extension_bytes_max: 16,
        interim_responses_max: 2,
    };
    (options, if bits & 16 != 0 { small } else { Limits::default() })
}

/// What was said, data joined.
#[derive(PartialEq, Debug)]
pub enum Said {
    Request(String, Vec<(Vec<u8>, Vec<u8>)>),
    Response(String, Vec<(Vec<u8>, Vec<u8>)>),
    Data(Vec<u8>),
    Trailers(Vec<(Vec<u8>, Vec<u8>)>),
    Event(Event),
    Failed(HttpError),
    Resting { is_idle: bool, is_in_head: bool },
}

pub fn pairs(headers: &Headers) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// Everything that a request head says, but for where its bytes lie.
pub fn describe_request(head: &RequestHead) -> Said {
    let text = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {} {} {}",
        head.version,
        head.method,
        head.method_name(),
        head.path(),
        head.authority(),
        head.scheme,
        head.body,
        head.content_length,
        head.close,
        head.expect_continue,
        head.upgrade
    );
    Said::Request(text, pairs(&head.headers))
}

/// Everything that a response head says, but for where its bytes lie.
pub fn describe_response(head: &ResponseHead) -> Said {
    let text = format!(
        "{:?} {} {:?} {:?} {:?} {} {}",
        head.version,
        head.status,
        head.reason(),
        head.body,
        head.content_length,
        head.close,
        head.upgrade
    );
    Said::Response(text, pairs(&head.headers))
}

fn data(transcript: &mut Vec<Said>, bytes: &[u8]) {
    assert!(!bytes.is_empty());
    match transcript.last_mut() {
        Some(Said::Data(data)) => data.extend_from_slice(bytes),
        _ => transcript.push(Said::Data(bytes.to_vec())),
    }
}

/// Reads requests from pieces of input; resumes where the decoder waits.
pub fn read_requests(pieces: &[&[u8]], options: Options, limits: Limits) -> Vec<Said> {
    let mut decoder = RequestDecoder::new(options, limits);
    let mut head = RequestHead::default();
    let mut transcript = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let step = match decoder.decode(rest, &mut head) {
                Ok(step) => step,
                Err(error) => {
                    transcript.push(Said::Failed(error));
                    return transcript;
                }
            };
            match step.event {
                Event::NeedMore if decoder.is_waiting() => {
                    assert_eq!(step.consumed, 0);
                    decoder.resume();
                }
                Event::NeedMore => {
                    assert_eq!(step.consumed, rest.len());
                    break;
                }
                Event::Head => transcript.push(describe_request(&head)),
                Event::Data(range) => data(&mut transcript, &rest[range]),
                Event::Trailers => {
                    transcript.push(Said::Trailers(pairs(decoder.trailers().unwrap())));
                }
                event => {
                    assert_eq!(event, Event::End);
                    transcript.push(Said::Event(event));
                }
            }
            rest = &rest[step.consumed..];
        }
    }
    let (is_idle, is_in_head) = (decoder.is_idle(), decoder.is_in_head());
    assert!(!(is_idle && is_in_head));
    transcript.push(Said::Resting { is_idle, is_in_head });
    transcript
}

/// Reads responses to `request`, announced again after each that ends, from pieces of input.
pub fn read_responses(
    request: &RequestHead,
    pieces: &[&[u8]],
    options: Options,
    limits: Limits,
) -> Vec<Said> {
    let mut decoder = ResponseDecoder::new(options, limits);
    let mut head = ResponseHead::default();
    let mut transcript = Vec::new();
    decoder.expect(request);
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let step = match decoder.decode(rest, &mut head) {
                Ok(step) => step,
                Err(error) => {
                    transcript.push(Said::Failed(error));
                    return transcript;
                }
            };
            match step.event {
                Event::NeedMore => {
                    assert_eq!(step.consumed, rest.len());
                    break;
                }
                Event::Head | Event::InterimHead => transcript.push(describe_response(&head)),
                Event::Data(range) => data(&mut transcript, &rest[range]),
                Event::Trailers => {
                    transcript.push(Said::Trailers(pairs(decoder.trailers().unwrap())));
                }
                Event::End => {
                    transcript.push(Said::Event(Event::End));
                    decoder.expect(request);
                }
                Event::Tunnel => {
                    if !rest.is_empty() {
                        data(&mut transcript, rest);
                    }
                    break;
                }
            }
            rest = &rest[step.consumed..];
        }
    }
    let is_idle = decoder.is_idle();
    match decoder.eof() {
        Ok(event) => transcript.push(Said::Event(event)),
        Err(error) => transcript.push(Said::Failed(error)),
    }
    transcript.push(Said::Resting { is_idle, is_in_head: false });
    transcript
}

/// The head of a request that is known to be good.
pub fn request(text: &[u8]) -> RequestHead {
    let mut head = RequestHead::default();
    let (options, limits) = policies(0);
    let step = RequestDecoder::new(options, limits).decode(text, &mut head).unwrap();
    assert_eq!(step.event, Event::Head);
    head
}
