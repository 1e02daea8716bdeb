//! What a line of an access log costs a shard.
//!
//! What it leaves to others: the writer's thread, which is on another CPU.
#![allow(clippy::disallowed_methods)] // a benchmark reads the clock itself
#![allow(clippy::panic)]

use std::hint::black_box;
use std::time::Instant;
use tidegate::access_log::{DEFAULT_FORMAT, Format, Record};
use tidegate::reply::ResponseFlags;
use tidegate_http::{RequestHead, ResponseHead};

const ROUNDS: u32 = 500_000;

fn main() {
    let mut request = RequestHead::default();
    request.method_name = request.headers.store(b"GET");
    request.path = request.headers.store(b"/api/users/42?fields=name,address");
    request.authority = request.headers.store(b"www.example.com");
    request.headers.append(b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64)");
    request.headers.append(b"x-forwarded-for", b"192.0.2.2");
    request.headers.append(b"x-request-id", b"5f964514-c5ed-4775-9c5b-5e6c06b0b3b5");
    let record = Record {
        start_unix_us: 1_795_186_498_087_000,
        duration_us: 1_234,
        request: Some(&request),
        response: Some(&ResponseHead::default()),
        status: 200,
        flags: ResponseFlags::NONE,
        details: "via_upstream",
        bytes_received: 0,
        bytes_sent: 241,
        upstream_host: Some(([127, 0, 0, 1], 19_100).into()),
        upstream_cluster: Some("backend"),
        upstream_service_ms: Some(1),
        attempts: 1,
        ..Record::default()
    };
    for format in [DEFAULT_FORMAT, "%RESPONSE_CODE% %DURATION%\n", "%START_TIME%\n"] {
        let compiled = Format::parse(format).unwrap_or_else(|error| panic!("{error}"));
        let mut line = Vec::new();
        let start = Instant::now();
        for _ in 0..ROUNDS {
            line.clear();
            compiled.write(&mut line, black_box(&record));
            black_box(&line);
        }
        let each = start.elapsed().as_nanos() as f64 / f64::from(ROUNDS);
        println!("{each:>7.1} ns for {:>3} bytes: {}", line.len(), format.trim_end());
    }
}
