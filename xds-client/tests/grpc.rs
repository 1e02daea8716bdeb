//! Streams over real sockets to a scripted server by tonic: conversations, reconnects, what fails
//! and how it is told, large responses, applications that are slow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod server;

use common::*;
use server::{Server, Stream, backoff, service, soon};
use std::net::SocketAddr;
use std::time::Duration;
use tidegate_xds::transport::grpc::{Keepalive, Metadata, MetadataValue, open};
use tidegate_xds::transport::{Connector, Handle};
use tidegate_xds::{Disconnected, Event, Interest, Limits, Response, Scope, Settings, Variant};
use tokio::net::TcpListener;
use tonic::Status;

async fn event(handle: &mut Handle) -> Event {
    soon(handle.event()).await
}

#[track_caller]
fn response(event: Event) -> Response {
    match event {
        Event::Response(response) => response,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn disconnected(event: Event) -> Disconnected {
    match event {
        Event::Disconnected(disconnected) => disconnected,
        other => panic!("{other:?}"),
    }
}

/// A handle that wants all clusters, and the server's side of its stream behind its first request.
async fn begin(server: &mut Server, settings: Settings) -> (Handle, Stream) {
    let mut handle = open(settings, vec![service(server.address)], backoff());
    handle.set_interest(CDS, Interest::Wildcard, TIMEOUT);
    let mut stream = server.stream().await;
    assert_eq!(event(&mut handle).await, Event::Connected);
    assert_eq!(stream.request().await, "CDS node");
    (handle, stream)
}

#[tokio::test]
async fn a_conversation_over_state_of_the_world_and_a_reconnect() {
    let mut server = Server::start().await;
    let (mut handle, mut stream) = begin(&mut server, settings(Variant::StateOfTheWorld)).await;
    stream.send(sotw(CDS, "c-1", "s1n1", &["c1", "c2"])).await;
    let clusters = response(event(&mut handle).await);
    handle.set_interest(EDS, names(&["c1", "c2"]), TIMEOUT);
    handle.answer(clusters.id, accepted(&["c1", "c2"]));
    assert_eq!(stream.request().await, "EDS [c1 c2]");
    assert_eq!(stream.request().await, "CDS version=c-1 nonce=s1n1");
    stream.send(sotw(EDS, "e-1", "s1n2", &["c1"])).await;
    let bad = response(event(&mut handle).await);
    assert!(!handle.answer(clusters.id, accepted(&[])));
    handle.answer(bad.id, refused("c1: no"));
    assert_eq!(stream.request().await, "EDS nonce=s1n2 [c1 c2] error=13 c1: no");
    assert_eq!(handle.inspect(|client| client.control_plane().to_owned()), "mock");

    // The server closes in good order.
    drop(stream);
    let end = disconnected(event(&mut handle).await);
    let text = "StreamAggregatedResources gRPC config stream to xds_cluster closed: 0, ";
    assert_eq!((end.text.as_str(), end.warn, end.failed), (text, false, false));
    assert!(end.retry_in < Duration::from_millis(10));
    let mut stream = server.stream().await;
    assert_eq!(event(&mut handle).await, Event::Connected);
    assert_eq!(stream.request().await, "CDS node version=c-1");
    assert_eq!(stream.request().await, "EDS [c1 c2]");
    // The handle goes, and the stream with it.
    drop(handle);
    stream.ended().await;
}

#[tokio::test]
async fn a_conversation_over_delta_with_metadata_that_rotates() {
    let mut server = Server::start().await;
    let path = std::env::temp_dir().join(format!("tidegate-xds-token-{}", std::process::id()));
    std::fs::write(&path, "one\n").unwrap();
    let mut service = service(server.address);
    let file = MetadataValue::File { prefix: "Bearer ".to_owned(), path: path.clone() };
    service.metadata = vec![
        Metadata { name: "x-tenant".to_owned(), value: MetadataValue::Text("blue".to_owned()) },
        Metadata { name: "authorization".to_owned(), value: file },
    ];
    let mut handle = open(settings(Variant::Delta), vec![service], backoff());
    handle.set_interest(CDS, Interest::Wildcard, TIMEOUT);
    let mut stream = server.stream().await;
    assert_eq!(stream.metadata.get("x-tenant").unwrap(), "blue");
    assert_eq!(stream.metadata.get("authorization").unwrap(), "Bearer one");
    assert_eq!(event(&mut handle).await, Event::Connected);
    assert_eq!(stream.request().await, "CDS node");
    stream.send(delta_of(CDS, "n1", &["c1@1"], &[])).await;
    let clusters = response(event(&mut handle).await);
    handle.answer(clusters.id, accepted(&["c1"]));
    assert_eq!(stream.request().await, "CDS nonce=n1");

    std::fs::write(&path, "two").unwrap();
    stream.fail(Status::unauthenticated("too old")).await;
    let end = disconnected(event(&mut handle).await);
    assert!(end.warn && !end.failed && end.text.ends_with("closed: 16, too old"), "{end:?}");
    let mut stream = server.stream().await;
    assert_eq!(stream.metadata.get("authorization").unwrap(), "Bearer two");
    assert_eq!(stream.request().await, "CDS node have=c1@1");

    // Without its token there is no stream.
    std::fs::remove_file(&path).unwrap();
    drop(stream);
    assert_eq!(event(&mut handle).await, Event::Connected);
    disconnected(event(&mut handle).await);
    let end = disconnected(event(&mut handle).await);
    assert!(end.failed && end.text.contains("cannot read"), "{end:?}");
}

#[tokio::test]
async fn a_server_that_dies_is_found_again_with_all_that_is_wanted() {
    let mut server = Server::start().await;
    let (mut handle, stream) = begin(&mut server, settings(Variant::StateOfTheWorld)).await;
    stream.send(sotw(CDS, "c-1", "n1", &["c1"])).await;
    let clusters = response(event(&mut handle).await);
    handle.answer(clusters.id, accepted(&["c1"]));
    let address = server.stop().await;
    drop(stream);
    let first = disconnected(event(&mut handle).await);
    assert!(!first.failed && !first.warn && first.text.contains("closed: 13, "), "{first:?}");
    // Nobody listens now.
    let mut tries = 0;
    for _ in 0..5 {
        let end = disconnected(event(&mut handle).await);
        assert!(end.failed && end.text.contains("closed: 14, upstream connect error"), "{end:?}");
        assert!(end.text.contains("Connection refused"), "{end:?}");
        assert!(end.retry_in < Duration::from_millis(50));
        tries += 1;
    }
    assert_eq!(tries, 5);
    handle.set_interest(EDS, names(&["c1"]), None);
    let mut server = Server::start_at(address).await;
    let mut stream = server.stream().await;
    assert_eq!(stream.request().await, "CDS node version=c-1");
    assert_eq!(stream.request().await, "EDS [c1]");
}

#[tokio::test]
async fn a_server_that_never_answers_lets_the_first_fetch_time_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut service = service(listener.local_addr().unwrap());
    service.keepalive = Some(Keepalive {
        interval: Duration::from_millis(300),
        timeout: Duration::from_millis(200),
    });
    let mut handle = open(settings(Variant::Delta), vec![service], backoff());
    handle.set_interest(CDS, Interest::Wildcard, Some(Duration::from_millis(50)));
    let (_socket, _) = soon(listener.accept()).await.unwrap();
    assert_eq!(event(&mut handle).await, Event::Connected);
    let timed_out = Event::FetchTimedOut { kind: CDS, names: vec!["*".to_owned()] };
    assert_eq!(event(&mut handle).await, timed_out);
    // Pings notice that it is dead.
    let end = disconnected(event(&mut handle).await);
    let text = "closed: 14, upstream connect error or disconnect/reset before headers. \
                reset reason: connection termination, transport failure reason: ";
    assert!(end.failed && end.text.contains(text), "{end:?}");
}

#[tokio::test]
async fn a_connection_that_is_never_made_times_out() {
    let mut service = service(SocketAddr::from(([127, 0, 0, 1], 1)));
    service.connector = Connector::new(|| Box::pin(std::future::pending()));
    service.connect_timeout = Duration::from_millis(20);
    let mut handle = open(settings(Variant::Delta), vec![service], backoff());
    handle.set_interest(CDS, Interest::Wildcard, Some(Duration::from_millis(1)));
    for _ in 0..3 {
        // The first fetch has not begun: nothing else is told.
        let end = disconnected(event(&mut handle).await);
        assert!(end.failed && end.text.ends_with("reset reason: connection timeout"), "{end:?}");
    }
}

#[tokio::test]
async fn services_are_tried_in_turn_and_the_first_one_is_preferred() {
    let refused = Server::start().await.stop().await;
    let mut server = Server::start().await;
    let mut first = service(refused);
    first.destination = "first".to_owned();
    let services = vec![first, service(server.address)];
    let mut handle = open(settings(Variant::Delta), services, backoff());
    handle.set_interest(CDS, Interest::Wildcard, TIMEOUT);
    for round in 0..2 {
        let end = disconnected(event(&mut handle).await);
        assert!(end.text.contains("stream to first closed"), "{end:?}");
        assert_eq!(event(&mut handle).await, Event::Connected);
        let stream = server.stream().await;
        stream.send(delta_of(CDS, &format!("n{round}"), &[], &[])).await;
        response(event(&mut handle).await);
        drop(stream);
        let end = disconnected(event(&mut handle).await);
        assert!(end.text.contains("stream to xds_cluster closed"), "{end:?}");
    }
}

#[tokio::test]
async fn a_large_response_is_taken_and_one_too_large_ends_the_stream() {
    let mut server = Server::start().await;
    let limits = Limits { message_bytes_max: 20 << 20, ..Limits::default() };
    let settings = Settings { limits, ..settings(Variant::StateOfTheWorld) };
    let (mut handle, stream) = begin(&mut server, settings).await;
    let names: Vec<String> = (0..100_000).map(|n| format!("{n:0>100}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let bytes = sotw(CDS, "c-1", "n1", &names);
    assert!(bytes.len() > 10 << 20);
    stream.send(bytes).await;
    let large = response(event(&mut handle).await);
    assert_eq!(large.resources.len(), 100_000);
    handle.answer(large.id, accepted(&names));
    stream.send(sotw(CDS, "c-2", "n2", &["x".repeat(20 << 20).as_str()])).await;
    let end = disconnected(event(&mut handle).await);
    assert!(end.warn && !end.failed && end.text.contains("closed: 11, "), "{end:?}");
    let mut stream = server.stream().await;
    assert_eq!(stream.request().await, "CDS node version=c-1");
}

#[tokio::test]
async fn a_slow_application_holds_the_server_back_and_loses_nothing() {
    let mut server = Server::start().await;
    let (mut handle, stream) = begin(&mut server, settings(Variant::StateOfTheWorld)).await;
    let body = "x".repeat(1 << 20);
    let mut sent = 0;
    while stream.has_room_for(sotw(CDS, &format!("c-{sent}"), "n", &[&body])).await {
        sent += 1;
        assert!(sent < 50, "everything is taken");
    }
    for at in 0..=sent {
        let next = response(event(&mut handle).await);
        assert_eq!(next.version, format!("c-{at}"));
        handle.answer(next.id, accepted(&[]));
        if at == sent - 1 {
            stream.send(sotw(CDS, &format!("c-{sent}"), "n", &[])).await;
        }
    }
    assert_eq!(handle.inspect(|client| client.version(CDS).to_owned()), format!("c-{sent}"));
}

#[tokio::test]
async fn a_type_of_its_own_stream_has_its_own_method() {
    // This server has only ADS: it says that it does not know the method.
    let server = Server::start().await;
    let scope = Scope::Single(EDS);
    for (variant, method) in
        [(Variant::StateOfTheWorld, "StreamEndpoints"), (Variant::Delta, "DeltaEndpoints")]
    {
        let settings = Settings { scope, ..settings(variant) };
        let mut handle = open(settings, vec![service(server.address)], backoff());
        handle.set_interest(EDS, names(&["c1"]), TIMEOUT);
        assert_eq!(event(&mut handle).await, Event::Connected);
        let end = disconnected(event(&mut handle).await);
        let start = format!("{method} gRPC config stream to xds_cluster closed: 12, ");
        assert!(end.warn && end.failed && end.text.starts_with(&start), "{end:?}");
    }
}
