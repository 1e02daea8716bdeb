//! The origin: answers calls by the last part of their path, and counts those that are given up.
//!
//! What it leaves to others: what is asked (`main`).

use crate::codec::Plain;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tonic::body::Body;
use tonic::codegen::http::{Request as HttpRequest, Response as HttpResponse};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{BoxFuture, Context, Poll, Service};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, StreamingService};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

/// What became of calls.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    given_up: Arc<watch::Sender<usize>>,
    active: Arc<watch::Sender<usize>>,
}

/// A call under way. One that goes away before it is `done` was given up by its client.
struct Call {
    origin: Origin,
    done: bool,
}

impl Origin {
    /// Serves at this address for ever.
    pub async fn serve(self, address: SocketAddr) {
        Server::builder().serve(address, self).await.expect("the address is free");
    }

    /// How many calls were given up.
    pub fn given_up(&self) -> watch::Receiver<usize> {
        self.given_up.subscribe()
    }

    /// How many calls there are now.
    pub fn active(&self) -> watch::Receiver<usize> {
        self.active.subscribe()
    }

    fn begin(&self) -> Call {
        self.active.send_modify(|count| *count += 1);
        Call { origin: self.clone(), done: false }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.origin.active.send_modify(|count| *count -= 1);
        if !self.done {
            self.origin.given_up.send_modify(|count| *count += 1);
        }
    }
}

impl Service<HttpRequest<Body>> for Origin {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = BoxFuture<HttpResponse<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let handler = Handler { origin: self.clone(), method };
        Box::pin(async move { Ok(Grpc::new(Plain).streaming(handler, request).await) })
    }
}

struct Handler {
    origin: Origin,
    method: String,
}

type Answers = ReceiverStream<Result<Vec<u8>, Status>>;

impl StreamingService<Vec<u8>> for Handler {
    type Response = Vec<u8>;
    type ResponseStream = Answers;
    type Future = BoxFuture<Response<Answers>, Status>;

    fn call(&mut self, request: Request<Streaming<Vec<u8>>>) -> Self::Future {
        let (call, method) = (self.origin.begin(), self.method.clone());
        Box::pin(answer(call, method, request.into_inner()))
    }
}

async fn answer(
    mut call: Call,
    method: String,
    requests: Streaming<Vec<u8>>,
) -> Result<Response<Answers>, Status> {
    match method.as_str() {
        "Wait" => std::future::pending().await,
        "Fail" => {
            call.done = true;
            let mut more = MetadataMap::new();
            more.insert("x-more", "yes".parse().expect("a value"));
            let (message, details) = ("not \u{2603} 100% here", b"\0\x01\xff"[..].into());
            Err(Status::with_details_and_metadata(Code::NotFound, message, details, more))
        }
        _ => {
            let (sender, answers) = mpsc::channel(1);
            tokio::spawn(stream(call, method, requests, sender));
            Ok(Response::new(ReceiverStream::new(answers)))
        }
    }
}

/// Answers a call that has a stream of answers.
async fn stream(
    mut call: Call,
    method: String,
    mut requests: Streaming<Vec<u8>>,
    answers: mpsc::Sender<Result<Vec<u8>, Status>>,
) {
    let mut sum = 0;
    while let Ok(Some(message)) = requests.message().await {
        match method.as_str() {
            "Sum" => sum += message.len(),
            "Count" => {
                let count = String::from_utf8_lossy(&message).parse().expect("a number");
                for length in 0..count {
                    let _ = answers.send(Ok(vec![0; length])).await;
                }
            }
            "Begin" => {
                let _ = answers.send(Ok(b"begun".to_vec())).await;
                // Until nobody wants more, which only a client that gives up can say.
                return answers.closed().await;
            }
            _ => {
                let _ = answers.send(Ok(message)).await;
            }
        }
    }
    if method == "Sum" {
        let _ = answers.send(Ok(sum.to_string().into_bytes())).await;
    }
    call.done = true;
}
