//! Polls over real sockets, against a scripted server by hyper: `rest_polling.txt`, refusals,
//! failures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::*;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use tidegate_xds::transport::rest::{Settings, poll};
use tidegate_xds::transport::{Connection, Connector, Handle};
use tidegate_xds::{Body, Disconnected, Event, Interest, Limits, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

/// A poll that waits for its answer.
struct Poll {
    path: String,
    headers: hyper::HeaderMap,
    body: Value,
    answer: oneshot::Sender<(u16, String)>,
}

struct Server {
    address: SocketAddr,
    polls: mpsc::UnboundedReceiver<Poll>,
}

async fn answer(
    request: hyper::Request<Incoming>,
    polls: mpsc::UnboundedSender<Poll>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (sender, receiver) = oneshot::channel();
    let _ = polls.send(Poll {
        path: format!("{} {}", head.method, head.uri),
        headers: head.headers,
        body: serde_json::from_slice(&body).unwrap(),
        answer: sender,
    });
    let (status, text) = receiver.await.unwrap_or((500, String::new()));
    Ok(hyper::Response::builder().status(status).body(Full::new(Bytes::from(text))).unwrap())
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, polls) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let sender = sender.clone();
                let service = service_fn(move |request| answer(request, sender.clone()));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self { address, polls }
    }

    async fn poll(&mut self) -> Poll {
        let next = tokio::time::timeout(Duration::from_secs(20), self.polls.recv());
        next.await.expect("no poll").unwrap()
    }
}

impl Poll {
    fn gets(self, status: u16, body: &Value) {
        self.answer.send((status, body.to_string())).unwrap();
    }
}

fn settings(kind: tidegate_xds::ResourceType, address: SocketAddr) -> Settings {
    Settings {
        kind,
        host: "xds".to_owned(),
        connector: Connector::new(move || {
            Box::pin(async move {
                let socket = TcpStream::connect(address).await?;
                Ok(Box::new(socket) as Box<dyn Connection>)
            })
        }),
        node: json!({"id": "lab-node", "cluster": "lab"}),
        refresh_delay: Duration::from_millis(20),
        request_timeout: Duration::from_secs(1),
        rate_limit: None,
        limits: Limits::default(),
        seed: 7,
    }
}

async fn event(handle: &mut Handle) -> Event {
    tokio::time::timeout(Duration::from_secs(20), handle.event()).await.expect("no event")
}

async fn response(handle: &mut Handle) -> Response {
    match event(handle).await {
        Event::Response(response) => response,
        other => panic!("{other:?}"),
    }
}

async fn failure(handle: &mut Handle) -> Disconnected {
    match event(handle).await {
        Event::Disconnected(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn polls_are_envoys() {
    let mut server = Server::start().await;
    let mut handle = poll(settings(CDS, server.address));
    handle.set_interest(CDS, Interest::Wildcard, TIMEOUT);
    let first = server.poll().await;
    assert_eq!(first.path, "POST /v3/discovery:clusters");
    assert_eq!(first.headers["host"], "xds");
    assert_eq!(first.headers["content-type"], "application/json");
    assert_eq!(first.headers["x-envoy-expected-rq-timeout-ms"], "1000");
    let node = json!({"id": "lab-node", "cluster": "lab"});
    let type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    assert_eq!(first.body, json!({"node": node, "type_url": type_url}));
    let cluster = json!({"@type": type_url, "name": "r1"});
    first.gets(200, &json!({"version_info": "c1", "resources": [cluster]}));
    let clusters = response(&mut handle).await;
    assert!(clusters.whole);
    assert_eq!(clusters.resources[0].body, Body::Json(cluster));
    handle.answer(clusters.id, accepted(&["r1"]));
    // Unchanged: nobody is told.
    let second = server.poll().await;
    assert_eq!(second.body["version_info"], "c1");
    second.gets(304, &json!(null));
    // A refusal is a poll with the old version.
    let third = server.poll().await;
    third.gets(200, &json!({"version_info": "c2", "resources": []}));
    let empty = response(&mut handle).await;
    assert!(empty.whole && empty.resources.is_empty());
    handle.answer(empty.id, refused("no"));
    let fourth = server.poll().await;
    assert_eq!(fourth.body["version_info"], "c1");
    // sovereign has no resources: a failure, and all stays as it is.
    fourth.gets(404, &json!({"detail": "No resources found"}));
    let failed = failure(&mut handle).await;
    assert!(failed.failed && failed.text.ends_with("from xds: status 404"), "{failed:?}");
    assert!(failed.retry_in >= Duration::from_millis(20));
    assert!(failed.retry_in < Duration::from_millis(40));
    assert_eq!(server.poll().await.body["version_info"], "c1");
}

#[tokio::test]
async fn new_names_are_polled_for_at_once() {
    let mut server = Server::start().await;
    let mut settings = settings(EDS, server.address);
    settings.refresh_delay = Duration::from_secs(1000);
    let mut handle = poll(settings);
    handle.set_interest(EDS, names(&["a"]), TIMEOUT);
    let first = server.poll().await;
    assert_eq!(first.path, "POST /v3/discovery:endpoints");
    assert_eq!(first.body["resource_names"], json!(["a"]));
    first.gets(200, &json!({"version_info": "e1"}));
    let assignments = response(&mut handle).await;
    // Not before the last one has its answer.
    handle.set_interest(EDS, names(&["a", "b"]), TIMEOUT);
    let none = tokio::time::timeout(Duration::from_millis(100), server.polls.recv()).await;
    assert!(none.is_err());
    handle.answer(assignments.id, accepted(&[]));
    let second = server.poll().await;
    assert_eq!(second.body["resource_names"], json!(["a", "b"]));
    // To the server a version stands for all names: `b` is not among what `e1` held.
    assert_eq!(second.body.get("version_info"), None);
    second.gets(200, &json!({"version_info": "e1"}));
    let assignments = response(&mut handle).await;
    handle.answer(assignments.id, accepted(&[]));
    handle.set_interest(EDS, names(&["a"]), TIMEOUT);
    assert_eq!(server.poll().await.body["version_info"], "e1");
}

#[tokio::test]
async fn what_fails_is_told_and_tried_again() {
    let mut server = Server::start().await;
    let mut settings = settings(CDS, server.address);
    settings.request_timeout = Duration::from_millis(200);
    settings.limits.message_bytes_max = 1000;
    let mut handle = poll(settings);
    handle.set_interest(CDS, Interest::Wildcard, None);
    // No answer; no JSON; too much of it; then all is well.
    let silent = server.poll().await;
    let text = failure(&mut handle).await.text;
    assert!(text.ends_with("no answer within 200 ms"), "{text}");
    drop(silent);
    server.poll().await.answer.send((200, "rubbish".to_owned())).unwrap();
    let text = failure(&mut handle).await.text;
    assert!(text.contains("the response is no JSON"), "{text}");
    server.poll().await.gets(200, &json!({"version_info": "x".repeat(2000)}));
    let text = failure(&mut handle).await.text;
    assert!(text.contains("length limit exceeded"), "{text}");
    server.poll().await.gets(200, &json!({"version_info": "1"}));
    assert_eq!(event(&mut handle).await, Event::Connected);
    response(&mut handle).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut handle = poll(settings(CDS, address));
    handle.set_interest(CDS, Interest::Wildcard, None);
    for _ in 0..3 {
        let text = failure(&mut handle).await.text;
        assert!(text.contains("Connection refused"), "{text}");
    }
}
