//! A management server by tonic on a real socket, which does what a test tells it: the test holds
//! each of its streams.
#![allow(dead_code, reason = "each test binary uses its own part")]

use discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use prost::Message;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;
use tidegate_xds::transport::grpc::Service;
use tidegate_xds::transport::{Connection, Connector};
use tidegate_xds::{Backoff, Request};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::codegen::tokio_stream::StreamExt as _;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status, Streaming};

/// How long anything may take that must happen.
const SOON: Duration = Duration::from_secs(20);

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it did not happen")
}

/// One stream, from the server's side.
pub struct Stream {
    pub metadata: MetadataMap,
    requests: mpsc::Receiver<Result<Request, Status>>,
    responses: mpsc::Sender<Result<Vec<u8>, Status>>,
}

impl Stream {
    pub async fn request(&mut self) -> String {
        let request = soon(self.requests.recv()).await.expect("a request").unwrap();
        crate::common::line(&request)
    }

    /// The client has gone.
    pub async fn ended(mut self) {
        while soon(self.requests.recv()).await.is_some_and(|request| request.is_ok()) {}
    }

    pub async fn send(&self, bytes: Vec<u8>) {
        soon(self.responses.send(Ok(bytes))).await.unwrap();
    }

    /// Whether one more response found room between server and client.
    pub async fn has_room_for(&self, bytes: Vec<u8>) -> bool {
        let sent = self.responses.send(Ok(bytes));
        tokio::time::timeout(Duration::from_millis(300), sent).await.is_ok()
    }

    pub async fn fail(self, status: Status) {
        soon(self.responses.send(Err(status))).await.unwrap();
    }
}

#[derive(Clone)]
struct Ads {
    streams: mpsc::UnboundedSender<Stream>,
}

impl Ads {
    /// Answers when the first response is there: so do servers in Go.
    async fn open<In, Out>(
        &self,
        request: tonic::Request<Streaming<In>>,
        wrap: fn(In) -> Request,
    ) -> Result<Response<ReceiverStream<Result<Out, Status>>>, Status>
    where
        In: Send + 'static,
        Out: Message + Default + 'static,
    {
        let (metadata, _, mut incoming) = request.into_parts();
        let (requests_in, requests) = mpsc::channel(100);
        let (responses, mut responses_out) = mpsc::channel::<Result<Vec<u8>, Status>>(1);
        let _ = self.streams.send(Stream { metadata, requests, responses });
        tokio::spawn(async move {
            while let Some(request) = incoming.next().await {
                let ended = request.is_err();
                if requests_in.send(request.map(wrap)).await.is_err() || ended {
                    break;
                }
            }
        });
        let (out, outgoing) = mpsc::channel(1);
        let first = responses_out.recv().await;
        tokio::spawn(async move {
            let mut next = first;
            while let Some(response) = next {
                let response = response.map(|bytes| Out::decode(bytes.as_slice()).unwrap());
                if out.send(response).await.is_err() {
                    break;
                }
                next = responses_out.recv().await;
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        self.open(request, Request::StateOfTheWorld).await
    }

    async fn delta_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.open(request, Request::Delta).await
    }
}

/// A server; dropping it closes its connections and its port.
pub struct Server {
    pub address: SocketAddr,
    streams: mpsc::UnboundedReceiver<Stream>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::unbounded_channel();
        let ads = AggregatedDiscoveryServiceServer::new(Ads { streams: sender });
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((socket, _)) = listener.accept().await else { return };
                let service = TowerToHyperService::new(ads.clone());
                connections.spawn(
                    http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), service),
                );
            }
        });
        Self { address, streams, task }
    }

    pub async fn stream(&mut self) -> Stream {
        soon(self.streams.recv()).await.expect("a stream")
    }

    pub async fn stop(self) -> SocketAddr {
        let address = self.address;
        drop(self);
        // Its task has dropped the listener when it is gone.
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn connector(address: SocketAddr) -> Connector {
    Connector::new(move || {
        Box::pin(async move {
            let socket = TcpStream::connect(address).await?;
            Ok(Box::new(socket) as Box<dyn Connection>)
        })
    })
}

pub fn service(address: SocketAddr) -> Service {
    Service {
        destination: "xds_cluster".to_owned(),
        connector: connector(address),
        authority: "xds.test".to_owned(),
        tls: false,
        metadata: Vec::new(),
        connect_timeout: Duration::from_secs(5),
        keepalive: None,
    }
}

/// So short that no test waits for it.
pub fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(10), Duration::from_millis(50), 1)
}
