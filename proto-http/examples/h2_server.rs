//! A server for conformance tools, over plain TCP. Start it with an address, for example
//! `cargo run --example h2_server -- 127.0.0.1:8080`, then `h2spec -p 8080 --strict`. It answers
//! each request with five bytes when it is complete.
//!
//! What it leaves to others: how the proxy drives the codec; time (there are no timeouts).
#![allow(clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use tidegate_http::h2::{Connection, Ending, Event, Options, Send, StreamKey};
use tidegate_http::{BodyLength, RequestHead, ResponseHead};

const BODY: &[u8] = b"xxxxx";

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    for socket in listener.incoming() {
        let socket = socket?;
        std::thread::spawn(move || serve(socket));
    }
    Ok(())
}

fn serve(mut socket: TcpStream) -> std::io::Result<()> {
    let options = Options { stream_error_on_invalid_http_message: true, ..Options::default() };
    let mut connection = Connection::server(options, Duration::ZERO);
    let (mut head, mut input, mut out) = (RequestHead::default(), vec![0; 20_000], Vec::new());
    loop {
        flush(&mut connection, &mut out);
        socket.write_all(&out)?;
        out.clear();
        let length = socket.read(&mut input)?;
        if length == 0 {
            return Ok(());
        }
        let mut rest = &input[..length];
        loop {
            let Ok(step) = connection.decode_request(rest, &mut head, Duration::ZERO) else {
                flush(&mut connection, &mut out);
                socket.write_all(&out)?;
                socket.shutdown(std::net::Shutdown::Write)?;
                // What still comes is read, or our GOAWAY would be lost in a reset.
                while socket.read(&mut input)? > 0 {}
                return Ok(());
            };
            rest = &rest[step.consumed..];
            match step.event {
                Event::NeedMore => break,
                Event::Head { stream, end_stream: true, .. } | Event::Trailers { stream, .. } => {
                    answer(&mut connection, stream, &mut out);
                }
                Event::Data { stream, range, end_stream, .. } => {
                    connection.consumed(stream, range.len());
                    if end_stream {
                        answer(&mut connection, stream, &mut out);
                    }
                }
                _ => {}
            }
        }
    }
}

fn answer(connection: &mut Connection, stream: StreamKey, out: &mut Vec<u8>) {
    let head = ResponseHead { status: 200, ..ResponseHead::default() };
    connection.send_response(stream, &head, BodyLength::Exact(5), false, out);
    connection.queue_data(stream, BODY.len(), Ending::End);
}

fn flush(connection: &mut Connection, out: &mut Vec<u8>) {
    while let Some(send) = connection.next_send(16_384, out) {
        if let Send::Data { length, .. } = send {
            out.extend_from_slice(&BODY[..length]);
        }
    }
    connection.write_control(out);
    connection.handle_sending();
    connection.handle_sent();
}
