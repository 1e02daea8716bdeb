//! What a seed asks of peers that speak HTTP/2: how they treat windows and settings, and what they
//! do on a connection besides requests and answers.
//!
//! What it leaves to others: the exchanges (`plan.rs`), and doing it.

use std::time::Duration;

use tidegate::config::{Http2Options, UpstreamProtocol};
use tidegate_io::sim::Random;

use super::bytes::{Side, some_us};
use super::http2_output::Out;
use super::http2_wire::{Fields, setting};
use super::plan::{Exchange, Id, Weather};

/// Who speaks HTTP/2 in a world.
#[derive(Clone, Debug)]
pub struct Versions {
    /// Clients that do, of ten.
    pub clients: u64,
    pub upstream: UpstreamProtocol,
    /// How the proxy itself speaks it, with clients and with origins.
    pub options: Http2Options,
    pub upstream_options: Http2Options,
}

impl Versions {
    pub fn new(random: &mut Random) -> Versions {
        let upstreams =
            [UpstreamProtocol::Http1, UpstreamProtocol::Http2, UpstreamProtocol::SameAsDownstream];
        Versions {
            clients: [0, 0, 5, 5, 10][random.index(5)],
            upstream: upstreams[[0, 0, 1, 1, 2][random.index(5)]],
            options: options(random),
            upstream_options: options(random),
        }
    }

    /// Whether a request that came by HTTP/2, or not, goes on by it.
    pub fn is_upstream_http2(&self, is_http2: bool) -> bool {
        match self.upstream {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::SameAsDownstream => is_http2,
        }
    }
}

/// How a peer treats windows and settings.
#[derive(Clone, Debug)]
pub struct Manners {
    pub initial_window: u32,
    /// What it opens a stream's window to, and the connection's, when half is used up.
    pub window: i64,
    pub connection_window: i64,
    /// It takes so long for that.
    pub delay: Duration,
    /// It opens no window at all.
    pub starves: bool,
    pub max_concurrent: Option<u32>,
    pub table_size: Option<u32>,
    /// The most bytes in one of its DATA frames.
    pub data_max: usize,
    pub pads: bool,
    pub huffman: bool,
    pub accepts_connect: bool,
}

impl Manners {
    pub fn new(random: &mut Random) -> Manners {
        let window = 1_500 + random.size(64_000) as i64;
        Manners {
            initial_window: [0, 1, 100, 65_535, 65_535, 1 << 20][random.index(6)],
            window,
            connection_window: 65_535.max(window * random.between(1, 8) as i64),
            delay: some_us(5_000, random),
            starves: false,
            max_concurrent: None,
            table_size: [None, None, Some(0), Some(100)][random.index(4)],
            data_max: [16_384, 16_384, 1_000 + random.size(10_000)][random.index(3)],
            pads: random.chance(300),
            huffman: random.chance(500),
            accepts_connect: false,
        }
    }

    /// As an origin's: streams may be few, and none for a while.
    pub fn of_origin(random: &mut Random) -> Manners {
        let max_concurrent = [None, None, Some(100), Some(3), Some(1), Some(0)][random.index(6)];
        Manners { max_concurrent, ..Manners::new(random) }
    }

    /// The first SETTINGS.
    pub fn settings(&self) -> Vec<(u16, u32)> {
        let mut settings = vec![(setting::INITIAL_WINDOW_SIZE, self.initial_window)];
        settings.extend(self.max_concurrent.map(|max| (setting::MAX_CONCURRENT_STREAMS, max)));
        settings.extend(self.table_size.map(|size| (setting::HEADER_TABLE_SIZE, size)));
        settings.extend(self.accepts_connect.then_some((setting::ENABLE_CONNECT_PROTOCOL, 1)));
        settings
    }
}

/// What a peer does on a connection, at a time.
#[derive(Clone, Debug)]
pub enum Deed {
    Settings(Vec<(u16, u32)>),
    /// It takes no further stream. Of those that it has begun nothing with, it disowns some.
    GoAway {
        disowns: usize,
    },
    /// It closes the connection, or aborts it.
    Leave {
        abort: bool,
    },
}

/// What an origin does on a connection, each after a time from its beginning.
pub fn origin_deeds(
    weather: &Weather,
    manners: &Manners,
    random: &mut Random,
) -> Vec<(Duration, Deed)> {
    let mut deeds = Vec::new();
    let soon = |random: &mut Random| some_us(1_000_000, random);
    if random.chance(300) {
        let window = [0, 1, 100, 20_000, 65_535, 200_000][random.index(6)];
        let settings = vec![(setting::INITIAL_WINDOW_SIZE, window)];
        deeds.push((soon(random), Deed::Settings(settings)));
    }
    if manners.max_concurrent == Some(0) || random.chance(200) {
        let mut last = Duration::ZERO;
        for _ in 0..random.between(0, 2) {
            let settings = vec![(setting::MAX_CONCURRENT_STREAMS, random.below(4) as u32)];
            last += soon(random);
            deeds.push((last, Deed::Settings(settings)));
        }
        let settings = vec![(setting::MAX_CONCURRENT_STREAMS, random.between(1, 100) as u32)];
        deeds.push((last + soon(random), Deed::Settings(settings)));
    }
    if weather.goaways && random.chance(400) {
        deeds.push((soon(random), Deed::GoAway { disowns: random.index(5) }));
    }
    if weather.silent_closes && random.chance(100) {
        deeds.push((soon(random), Deed::Leave { abort: random.chance(500) }));
    }
    deeds.sort_by_key(|(after, _)| *after);
    deeds
}

/// A client's habits on one connection of HTTP/2.
#[derive(Clone, Debug)]
pub struct Http2Visit {
    pub exchanges: Vec<Id>,
    /// Streams at once.
    pub depth: usize,
    pub manners: Manners,
    /// Requests that are given up, per mille, and after which time at most.
    pub resets: (u32, usize),
    pub deeds: Vec<(Duration, Deed)>,
    /// It stops reading for this long when an answer begins.
    pub slow_reader: Option<Duration>,
    /// It rests this long before it connects.
    pub rest: Duration,
    /// Between requests.
    pub think: Duration,
    /// It keeps its connection until the proxy closes it.
    pub stays: bool,
}

impl Http2Visit {
    pub fn new(exchanges: Vec<Id>, weather: &Weather, random: &mut Random) -> Http2Visit {
        let mut manners = Manners::new(random);
        let mut deeds = Vec::new();
        let soon = |random: &mut Random| some_us(500_000, random);
        if random.chance(300) {
            let window = [0, 1, 100, 20_000, 65_535, 200_000][random.index(6)];
            let settings = vec![(setting::INITIAL_WINDOW_SIZE, window)];
            deeds.push((soon(random), Deed::Settings(settings)));
        }
        if random.chance(100) {
            deeds.push((soon(random), Deed::GoAway { disowns: 0 }));
        }
        let leaves = weather.bad_clients && random.chance(250);
        manners.starves = leaves && random.chance(300);
        if leaves {
            let abort = random.chance(500);
            deeds.push((soon(random), Deed::Leave { abort }));
        }
        deeds.sort_by_key(|(after, _)| *after);
        Http2Visit {
            exchanges,
            depth: random.size(16),
            manners,
            resets: match weather.bad_clients && random.chance(400) {
                true => (random.between(100, 1000) as u32, random.size(200_000)),
                false => (0, 0),
            },
            deeds,
            slow_reader: random.chance(150).then(|| Duration::from_micros(random.below(100_000))),
            rest: some_us(300_000, random),
            think: match random.chance(300) {
                true => some_us(300_000, random),
                false => Duration::ZERO,
            },
            stays: false,
        }
    }
}

/// The head of a request.
pub fn request(plan: &Exchange) -> Fields {
    let path = format!("/r{}/{}", plan.route, plan.id);
    let mut fields = Fields::of(&[
        (":method", plan.method),
        (":scheme", "http"),
        (":path", &path),
        (":authority", "sim"),
        ("x-keep", "a, b"),
    ]);
    fields.add("x-id", plan.id);
    if let Some(name) = plan.server_name() {
        fields.add("x-name", name);
    }
    if plan.expect {
        fields.add("expect", "100-continue");
    }
    if let Some(length) = plan.body.filter(|_| !plan.chunked) {
        fields.add("content-length", length);
    }
    fields
}

/// Its body and trailers.
pub fn rest_of_request(plan: &Exchange, random: &mut Random) -> Vec<Out> {
    let mut steps = Vec::new();
    let length = plan.body.unwrap_or(0);
    let mut at = 0;
    for _ in 0..random.below(4) {
        let to = at + random.size(length - at);
        steps.push(Out::Data { id: plan.id, side: Side::Request, range: at..to, end: false });
        steps.push(Out::Wait(some_us(3_000, random)));
        at = to;
    }
    let end = !plan.trailers;
    steps.push(Out::Data { id: plan.id, side: Side::Request, range: at..length, end });
    if plan.trailers {
        let mut fields = Fields::default();
        fields.add("x-trailer", plan.id);
        steps.push(Out::Trailers(fields));
    }
    steps
}

/// How the proxy itself speaks HTTP/2.
fn options(random: &mut Random) -> Http2Options {
    let stream = [65_535, 65_535, 100_000, 1 << 24][random.index(4)];
    Http2Options {
        hpack_table_size: [4096, 4096, 0, 100][random.index(4)],
        max_concurrent_streams: [1024, 1024, 100, 4, 1][random.index(5)],
        initial_stream_window_size: stream,
        initial_connection_window_size: [65_535, stream, 1 << 24][random.index(3)],
        stream_error: random.chance(500),
        huffman: random.chance(500),
        ..Http2Options::default()
    }
}
