//! gRPC calls as tonic makes them, through a proxy, to an origin that says what became of them.
//!
//!     tonic-calls ORIGIN_ADDRESS PROXY_URL
//!
//! Serves gRPC at the one address until all calls through the other are done; one line for each
//! that went well, and exit code 0 if all did. Under `/early/` the route's `max_stream_duration`
//! must have a `grpc_timeout_header_offset` of 0.5 s, and `grpc-timeout` must not go on.
//!
//! What it leaves to others: starting the proxy (`core/tests/acceptance/test_grpc.py`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod codec;
mod origin;

use codec::Plain;
use origin::Origin;
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(20);
const MESSAGES: usize = 1_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, proxy] = &arguments[..] else { panic!("ORIGIN_ADDRESS PROXY_URL") };
    let origin = Origin::default();
    tokio::spawn(origin.clone().serve(address.parse().expect("an address")));
    let endpoint = Endpoint::from_shared(proxy.clone()).expect("a URL");
    let channel = endpoint.connect().await.expect("a connection");
    let calls = Calls { channel, origin };
    run("a stream of answers", calls.stream_of_answers()).await;
    run("a stream of requests", calls.stream_of_requests()).await;
    run("both ways in turns", calls.both_ways_in_turns()).await;
    run("both ways at once", calls.both_ways_at_once()).await;
    run("many calls at once", calls.many_at_once()).await;
    run("a status with details", calls.status_with_details()).await;
    run("a call that is dropped", calls.dropped("/calls/Begin", true)).await;
    run("a call that is dropped before its answer", calls.dropped("/calls/Wait", false)).await;
    run("a deadline of the client's", calls.deadline_of_client()).await;
    run("a deadline of the proxy's", calls.deadline_of_proxy()).await;
    run("nothing is left", calls.nothing_is_left()).await;
}

async fn run(name: &str, case: impl Future<Output = ()>) {
    tokio::time::timeout(PATIENCE, case).await.unwrap_or_else(|_| panic!("{name}: no end"));
    println!("ok {name}");
}

struct Calls {
    channel: Channel,
    origin: Origin,
}

type Answers = Result<Response<Streaming<Vec<u8>>>, Status>;

impl Calls {
    /// A call with these messages, which are sent while answers come.
    async fn call(&self, path: &'static str, request: Request<ReceiverStream<Vec<u8>>>) -> Answers {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.expect("the channel is ready");
        client.streaming(request, PathAndQuery::from_static(path), Plain).await
    }

    /// The messages that such a call is answered with.
    async fn answers(&self, path: &'static str, messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let (sender, request) = channel();
        let sending = tokio::spawn(async move {
            for message in messages {
                sender.send(message).await.unwrap();
            }
        });
        let mut answers = self.call(path, request).await.unwrap().into_inner();
        let mut all = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            all.push(answer);
        }
        sending.await.unwrap();
        all
    }

    async fn stream_of_answers(&self) {
        let all = self.answers("/calls/Count", vec![MESSAGES.to_string().into_bytes()]).await;
        assert_eq!(all.len(), MESSAGES);
        assert!(all.iter().enumerate().all(|(index, answer)| answer.len() == index));
    }

    async fn stream_of_requests(&self) {
        let all = self.answers("/calls/Sum", vec![vec![7; 1_000]; MESSAGES]).await;
        assert_eq!(all, [(1_000 * MESSAGES).to_string().into_bytes()]);
    }

    async fn both_ways_in_turns(&self) {
        let (sender, request) = channel();
        sender.send(b"0".to_vec()).await.unwrap();
        let mut answers = self.call("/calls/Echo", request).await.unwrap().into_inner();
        for turn in 0..200 {
            let answer = answers.message().await.unwrap().expect("an answer");
            assert_eq!(answer, turn.to_string().into_bytes());
            sender.send((turn + 1).to_string().into_bytes()).await.unwrap();
        }
        drop(sender);
        assert_eq!(answers.message().await.unwrap(), Some(b"200".to_vec()));
        assert_eq!(answers.message().await.unwrap(), None);
    }

    /// More than all windows and buffers together, so that neither side can wait for the other.
    async fn both_ways_at_once(&self) {
        let sent: Vec<_> = (0..64).map(|index| vec![index; 500_000]).collect();
        assert!(self.answers("/calls/Echo", sent.clone()).await == sent, "they are others");
    }

    async fn many_at_once(&self) {
        let calls = (0..200_u32).map(|index| async move {
            let sent = vec![index.to_be_bytes().to_vec(); 20];
            assert_eq!(self.answers("/calls/Echo", sent.clone()).await, sent);
        });
        let mut calls: Vec<_> = calls.map(Box::pin).collect();
        std::future::poll_fn(|context| {
            calls.retain_mut(|call| call.as_mut().poll(context).is_pending());
            if calls.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    async fn status_with_details(&self) {
        let (_sender, request) = channel();
        let status = match self.call("/calls/Fail", request).await {
            Ok(mut answers) => answers.get_mut().message().await.unwrap_err(),
            Err(status) => status,
        };
        assert_eq!((status.code(), status.message()), (Code::NotFound, "not \u{2603} 100% here"));
        assert_eq!(status.details(), b"\0\x01\xff");
        assert_eq!(status.metadata().get("x-more").unwrap(), "yes");
    }

    /// The client is not interested any more: the origin must hear of it.
    async fn dropped(&self, path: &'static str, is_answered: bool) {
        let mut given_up = self.origin.given_up();
        let before = *given_up.borrow_and_update();
        let (sender, request) = channel();
        sender.send(b"x".to_vec()).await.unwrap();
        if is_answered {
            let mut answers = self.call(path, request).await.unwrap().into_inner();
            assert_eq!(answers.message().await.unwrap(), Some(b"begun".to_vec()));
            drop(answers);
        } else {
            let call = self.call(path, request);
            let short = Duration::from_millis(300);
            tokio::time::timeout(short, call).await.expect_err("an answer");
        }
        // Tonic resets a stream only when nothing is to be sent on it any more either.
        drop(sender);
        given_up.wait_for(|count| *count == before + 1).await.unwrap();
    }

    /// The client's own clock ends the call.
    async fn deadline_of_client(&self) {
        let mut given_up = self.origin.given_up();
        let before = *given_up.borrow_and_update();
        let (sender, mut request) = channel();
        request.set_timeout(Duration::from_millis(300));
        let status = self.call("/calls/Wait", request).await.expect_err("an answer");
        assert!(matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded), "{status}");
        drop(sender);
        given_up.wait_for(|count| *count == before + 1).await.unwrap();
    }

    /// The proxy's clock is half a second before the client's.
    async fn deadline_of_proxy(&self) {
        let mut given_up = self.origin.given_up();
        let before = *given_up.borrow_and_update();
        let (sender, mut request) = channel();
        sender.send(b"x".to_vec()).await.unwrap();
        request.set_timeout(Duration::from_millis(1_000));
        let mut answers = self.call("/early/Begin", request).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap(), Some(b"begun".to_vec()));
        answers.message().await.expect_err("the stream is cut off");
        let (_sender, mut request) = channel();
        request.set_timeout(Duration::from_millis(1_000));
        let status = self.call("/early/Wait", request).await.expect_err("an answer");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert_eq!(status.message(), "downstream duration timeout");
        given_up.wait_for(|count| *count == before + 2).await.unwrap();
    }

    /// The channel is still good, and the origin has no call under way.
    async fn nothing_is_left(&self) {
        let answers = self.answers("/calls/Echo", vec![b"last".to_vec()]).await;
        assert_eq!(answers, [b"last".to_vec()]);
        self.origin.active().wait_for(|count| *count == 0).await.unwrap();
    }
}

/// Where messages of a request are put, and the request.
fn channel() -> (mpsc::Sender<Vec<u8>>, Request<ReceiverStream<Vec<u8>>>) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, Request::new(ReceiverStream::new(receiver)))
}
