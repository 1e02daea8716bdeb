//! Exchanges with the `h2` crate, as its server and as its client, over memory.
//!
//! What it leaves to others: input that no decent peer sends (`h2_faults`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod h2_common;

use bytes::Bytes;
use h2_common::{Client, EchoServer, Fields, request};
use http::HeaderMap;
use proptest::prelude::*;
use tidegate_http::h2::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// One exchange: its path, a field, what its body is made of, and trailers.
#[derive(Clone, Debug)]
struct Exchange {
    path: String,
    field: String,
    body: Vec<u8>,
    trailers: Option<String>,
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let length = prop_oneof![Just(0usize), 1..100usize, 10_000..20_000usize, 60_000..200_000usize];
    let trailers = proptest::option::of("[a-z]{1,10}");
    ("/[a-z]{0,8}", "[ -~&&[^ ]]{0,3000}", length, any::<u8>(), trailers).prop_map(
        |(path, field, length, first, trailers)| {
            let body = (0..length).map(|at| first.wrapping_add((at % 251) as u8)).collect();
            Exchange { path, field, body, trailers }
        },
    )
}

#[derive(Clone, Debug)]
struct Sizes {
    our_window: u32,
    our_connection_window: u32,
    their_window: u32,
    their_connection_window: u32,
    our_table: u32,
    their_table: u32,
    their_frame: u32,
    pipe: usize,
    huffman: bool,
}

fn sizes() -> impl Strategy<Value = Sizes> {
    let window = || prop_oneof![1..100_000u32, Just(1 << 24)];
    let table = || prop_oneof![Just(0u32), 50..5000u32, Just(4096)];
    let frame = prop_oneof![Just(16_384u32), Just(1 << 20)];
    (
        (window(), 65_535..200_000u32, 5000..100_000u32, 65_535..200_000u32),
        (table(), table(), frame, 100..100_000usize, any::<bool>()),
    )
        .prop_map(|((a, b, c, d), (e, f, g, h, i))| Sizes {
            our_window: a.max(5000),
            our_connection_window: b,
            their_window: c,
            their_connection_window: d,
            our_table: e,
            their_table: f,
            their_frame: g,
            pipe: h,
            huffman: i,
        })
}

fn options(sizes: &Sizes) -> Options {
    Options {
        hpack_table_size: sizes.our_table,
        initial_stream_window_size: sizes.our_window,
        initial_connection_window_size: sizes.our_connection_window,
        huffman: sizes.huffman,
        // The crate announces small windows in small pieces.
        max_inbound_window_update_frames_per_data_frame_sent: 100,
        ..Options::default()
    }
}

fn run<T>(future: impl std::future::Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(std::time::Duration::from_secs(3), future).await.expect("it hangs")
    })
}

/// Carries bytes between a pipe and one side of the codec until `is_done`. It reads and writes at
/// the same time: the crate does not read while it cannot write.
async fn carry(pipe: DuplexStream, out: Vec<u8>, mut turn: impl FnMut(&[u8]) -> (Vec<u8>, bool)) {
    let (mut reader, mut writer) = tokio::io::split(pipe);
    let (sender, mut outputs) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
    sender.send(out).unwrap();
    let write = async move {
        while let Some(out) = outputs.recv().await {
            if writer.write_all(&out).await.is_err() {
                return;
            }
        }
    };
    tokio::task::spawn_local(write);
    let mut input = vec![0; 20_000];
    loop {
        let length = reader.read(&mut input).await.unwrap_or(0);
        let (out, is_done) = turn(&input[..length]);
        if length == 0 || is_done || sender.send(out).is_err() {
            return;
        }
    }
}

async fn ask(
    mut sender: h2::client::SendRequest<Bytes>,
    exchange: Exchange,
) -> Result<(), h2::Error> {
    let request = http::Request::builder()
        .method(if exchange.body.is_empty() { "GET" } else { "POST" })
        .uri(format!("http://a.example{}", exchange.path))
        .header("x-field", &exchange.field)
        .header("cookie", "a=b")
        .header("cookie", "c=d")
        .body(())
        .unwrap();
    futures_ready(&mut sender).await?;
    let end = exchange.body.is_empty() && exchange.trailers.is_none();
    let (response, mut body) = sender.send_request(request, end)?;
    if !exchange.body.is_empty() {
        body.send_data(exchange.body.clone().into(), exchange.trailers.is_none())?;
    }
    if let Some(value) = &exchange.trailers {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-trailer", value.parse().unwrap());
        body.send_trailers(trailers)?;
    }
    let response = response.await?;
    assert_eq!(response.status(), 200);
    let method = if exchange.body.is_empty() { "GET" } else { "POST" };
    assert_eq!(response.headers()["x-asked"], format!("{method} {}", exchange.path));
    assert_eq!(response.headers()["x-authority"], "a.example");
    assert_eq!(response.headers()["x-field"], exchange.field);
    // Crumbs are joined for us and split again.
    let cookies: Vec<_> = response.headers().get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=b", "c=d"]);
    let mut body = response.into_body();
    let mut received = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        received.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    assert!(received == exchange.body, "the body is another one");
    let trailers = body.trailers().await?.map(|t| t["x-trailer"].to_str().unwrap().to_owned());
    assert_eq!(trailers, exchange.trailers);
    Ok(())
}

async fn futures_ready(sender: &mut h2::client::SendRequest<Bytes>) -> Result<(), h2::Error> {
    *sender = sender.clone().ready().await?;
    Ok(())
}

fn as_server(sizes: &Sizes, exchanges: Vec<Exchange>) {
    let (ours, theirs) = tokio::io::duplex(sizes.pipe);
    let mut server = EchoServer::new(options(sizes));
    let sizes = sizes.clone();
    run(async move {
        let local = tokio::task::LocalSet::new();
        local.spawn_local(carry(ours, Vec::new(), move |input| {
            let out = server.turn(input);
            assert_eq!(server.log.iter().find(|line| line.starts_with("error")), None);
            (out, false)
        }));
        local
            .run_until(async move {
                let (sender, connection) = h2::client::Builder::new()
                    .initial_window_size(sizes.their_window)
                    .initial_connection_window_size(sizes.their_connection_window)
                    .header_table_size(sizes.their_table)
                    .max_frame_size(sizes.their_frame)
                    .handshake::<_, Bytes>(theirs)
                    .await
                    .unwrap();
                tokio::task::spawn_local(connection);
                let tasks: Vec<_> = exchanges
                    .into_iter()
                    .map(|exchange| tokio::task::spawn_local(ask(sender.clone(), exchange)))
                    .collect();
                for task in tasks {
                    task.await.unwrap().unwrap();
                }
            })
            .await;
    });
}

/// The crate's server, which sends back what it gets.
async fn serve(theirs: DuplexStream, sizes: Sizes) {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(sizes.their_window)
        .initial_connection_window_size(sizes.their_connection_window)
        .max_frame_size(sizes.their_frame)
        .handshake::<_, Bytes>(theirs)
        .await
        .unwrap();
    while let Some(accepted) = connection.accept().await {
        let Ok((request, mut respond)) = accepted else { return };
        tokio::task::spawn_local(async move {
            assert_eq!(request.uri().authority().unwrap(), "a.example");
            let response = http::Response::builder()
                .header("x-asked", request.uri().path())
                .header("x-field", &request.headers()["x-field"])
                .body(())
                .unwrap();
            let mut body = request.into_body();
            let end = body.is_end_stream();
            let mut send = respond.send_response(response, end).unwrap();
            if end {
                return;
            }
            while let Some(piece) = body.data().await {
                let piece = piece.unwrap();
                body.flow_control().release_capacity(piece.len()).unwrap();
                send.send_data(piece, false).unwrap();
            }
            match body.trailers().await.unwrap() {
                Some(trailers) => send.send_trailers(trailers).unwrap(),
                None => send.send_data(Bytes::new(), true).unwrap(),
            }
        });
    }
}

fn ask_all(client: &mut Client, exchanges: &[Exchange], out: &mut Vec<u8>) {
    for exchange in exchanges {
        let method = if exchange.body.is_empty() { "GET" } else { "POST" };
        let fields = vec![("x-field".to_owned(), exchange.field.clone())];
        let head = request(method, &exchange.path, &fields);
        client.send(&head, &exchange.body, &trailers_of(exchange), out);
    }
    client.flush(out);
}

fn as_client(sizes: &Sizes, exchanges: Vec<Exchange>) {
    let (ours, theirs) = tokio::io::duplex(sizes.pipe);
    let mut client = Client::new(options(sizes));
    let mut out = Vec::new();
    client.flush(&mut out);
    let sizes = sizes.clone();
    run(async move {
        let local = tokio::task::LocalSet::new();
        local.spawn_local(serve(theirs, sizes));
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut sender = Some(sender);
        // Requests follow the server's SETTINGS. The crate would stall otherwise: when a smaller
        // initial window comes into force after data has come and was consumed, it announces
        // nothing.
        let mut is_asked = false;
        let check = move |input: &[u8]| {
            let mut out = client.turn(input);
            if !is_asked && client.log.iter().any(|line| line == "Settings") {
                is_asked = true;
                ask_all(&mut client, &exchanges, &mut out);
            }
            assert_eq!(client.log.iter().find(|line| line.starts_with("error")), None);
            if is_asked && client.is_done() {
                for (index, exchange) in exchanges.iter().enumerate() {
                    let id = 2 * index as u32 + 1;
                    let (_, answer) =
                        client.answers.iter().find(|(key, _)| key.id() == id).unwrap();
                    assert_eq!((answer.status, &answer.reset), (200, &None));
                    assert!(answer.body == exchange.body, "the body is another one");
                    assert_eq!(answer.trailers, trailers_of(exchange));
                    assert!(answer.fields.contains(&("x-asked".into(), exchange.path.clone())));
                    assert!(answer.fields.contains(&("x-field".into(), exchange.field.clone())));
                }
                if let Some(sender) = sender.take() {
                    sender.send(()).unwrap();
                }
            }
            (out, is_asked && client.is_done())
        };
        local.spawn_local(carry(ours, out, check));
        local.run_until(async move { receiver.await.expect("the client has failed") }).await;
    });
}

fn trailers_of(exchange: &Exchange) -> Fields {
    exchange.trailers.iter().map(|value| ("x-trailer".to_owned(), value.clone())).collect()
}

const DEFAULTS: Sizes = Sizes {
    our_window: 65_535,
    our_connection_window: 65_535,
    their_window: 65_535,
    their_connection_window: 65_535,
    our_table: 4096,
    their_table: 4096,
    their_frame: 16_384,
    pipe: 10_000,
    huffman: false,
};

fn small() -> Vec<Exchange> {
    let body = b"some body".to_vec();
    let with_body = Exchange { path: "/".into(), field: "1".into(), body, trailers: None };
    let without = Exchange { path: "/a".into(), body: Vec::new(), ..with_body.clone() };
    let with_trailers = Exchange { trailers: Some("t".into()), ..with_body.clone() };
    let large = Exchange { body: vec![7; 200_000], ..with_trailers.clone() };
    vec![without.clone(), with_body, with_trailers, large, without]
}

#[test]
fn a_few_exchanges_as_server() {
    as_server(&DEFAULTS, small());
}

#[test]
fn a_few_exchanges_as_client() {
    as_client(&DEFAULTS, small());
}

fn exchanges() -> impl Strategy<Value = Vec<Exchange>> {
    prop::collection::vec(exchange(), 1..12)
}

/// A case that hangs takes seconds, so few are tried to make it smaller.
fn config() -> ProptestConfig {
    ProptestConfig { cases: 40, max_shrink_iters: 6, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn its_client_is_served(sizes in sizes(), exchanges in exchanges()) {
        as_server(&sizes, exchanges);
    }

    #[test]
    fn its_server_is_asked(sizes in sizes(), exchanges in exchanges()) {
        as_client(&sizes, exchanges);
    }
}
