//! gRPC: streams of both protocols on one port, and changes for all of them.
//!
//! What it leaves to others: what is sent (`stream`), and what comes of it (`book`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tidegate_io::Now;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::StreamExt as _;
use tonic::codegen::tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::book::{Book, Reason};
use super::stream::{Asked, Portion, Stream, Wire};
use super::world::{Kind, World};

/// What all streams share. One thread uses it, and never across a wait.
#[derive(Debug)]
struct Shared {
    world: World,
    book: Book,
    clients: Vec<Client>,
    next_client: u64,
}

/// A stream, and the way to its client.
#[derive(Debug)]
struct Client {
    number: u64,
    stream: Stream,
    outgoing: Outgoing,
}

#[derive(Clone, Debug)]
enum Outgoing {
    Delta(mpsc::UnboundedSender<Result<DeltaDiscoveryResponse, Status>>),
    WholeState(mpsc::UnboundedSender<Result<DiscoveryResponse, Status>>),
}

/// A management server.
#[derive(Clone, Debug)]
pub struct Server {
    shared: Arc<Mutex<Shared>>,
}

fn now() -> Duration {
    Duration::from_nanos(Now::read().instant.0)
}

impl Server {
    pub fn new(world: World) -> Server {
        let shared = Shared { world, book: Book::new(), clients: Vec::new(), next_client: 0 };
        Server { shared: Arc::new(Mutex::new(shared)) }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what was written down.
    pub fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.lock().book)
    }

    /// Whether every resource was acknowledged, and nothing waits for an answer.
    pub fn is_settled(&self) -> bool {
        let shared = self.lock();
        let all_known = |kind: Kind| shared.book.known(kind) == shared.world.all(kind).len();
        Kind::ALL.into_iter().all(all_known) && shared.book.waiting() == 0
    }

    /// Changes one resource, and tells whoever wants it.
    pub fn change(&self, kind: Kind) {
        let shared = &mut *self.lock();
        let Some(name) = shared.world.change(kind) else { return };
        for client in &mut shared.clients {
            let portions = client.stream.changed(kind, &name, &shared.world);
            client.send(portions, Reason::Changed, &shared.world, &mut shared.book);
            // A cluster that has changed is not warm before its endpoints were sent once more.
            if kind == Kind::Clusters {
                let portions = client.stream.changed(Kind::Endpoints, &name, &shared.world);
                client.send(portions, Reason::Follows, &shared.world, &mut shared.book);
            }
        }
    }

    /// Answers connections until it is dropped.
    pub async fn serve(self, listener: TcpListener) {
        let service =
            AggregatedDiscoveryServiceServer::new(self).max_decoding_message_size(usize::MAX);
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            let service = TowerToHyperService::new(service.clone());
            let http2 = http2::Builder::new(TokioExecutor::new());
            let connection = http2.serve_connection(TokioIo::new(socket), service);
            tokio::spawn(async move { drop(connection.await) });
        }
    }

    fn join(&self, wire: Wire, outgoing: Outgoing) -> u64 {
        let mut shared = self.lock();
        shared.next_client += 1;
        let number = shared.next_client;
        shared.clients.push(Client { number, stream: Stream::new(wire), outgoing });
        number
    }

    fn leave(&self, number: u64) {
        self.lock().clients.retain(|client| client.number != number);
    }

    fn handle(&self, number: u64, type_url: &str, asked: Asked, error: Option<&str>) {
        let shared = &mut *self.lock();
        shared.book.receive(&asked.nonce, error, now());
        let Some(kind) = Kind::of_type(type_url) else { return };
        let Some(client) = shared.clients.iter_mut().find(|it| it.number == number) else { return };
        let portions = client.stream.handle(kind, asked, &shared.world);
        client.send(portions, Reason::Asked, &shared.world, &mut shared.book);
    }
}

impl Client {
    fn send(&mut self, portions: Vec<Portion>, reason: Reason, world: &World, book: &mut Book) {
        for Portion { kind, names } in portions {
            let nonce = book.send(kind, &names, reason, now());
            self.stream.sent(kind, &nonce);
            let resources = names.iter().filter_map(|name| world.get(kind, name)).cloned();
            let type_url = kind.type_url().to_owned();
            // Who has gone leaves its response without an answer.
            match &self.outgoing {
                Outgoing::Delta(sender) => {
                    let resource = |it: super::world::Resource| Resource {
                        name: it.name,
                        version: it.version.to_string(),
                        resource: Some(it.body),
                        ..Resource::default()
                    };
                    let _ = sender.send(Ok(DeltaDiscoveryResponse {
                        system_version_info: nonce.clone(),
                        resources: resources.map(resource).collect(),
                        type_url,
                        nonce,
                        ..DeltaDiscoveryResponse::default()
                    }));
                }
                Outgoing::WholeState(sender) => {
                    let _ = sender.send(Ok(DiscoveryResponse {
                        version_info: nonce.clone(),
                        resources: resources.map(|it| it.body).collect(),
                        type_url,
                        nonce,
                        ..DiscoveryResponse::default()
                    }));
                }
            }
        }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Server {
    type StreamAggregatedResourcesStream =
        UnboundedReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream =
        UnboundedReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let number = self.join(Wire::WholeState, Outgoing::WholeState(sender));
        let (server, mut incoming) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Some(Ok(request)) = incoming.next().await {
                let asked = Asked {
                    subscribe: request.resource_names,
                    unsubscribe: Vec::new(),
                    nonce: request.response_nonce,
                };
                let error = request.error_detail.map(|error| error.message);
                server.handle(number, &request.type_url, asked, error.as_deref());
            }
            server.leave(number);
        });
        Ok(Response::new(UnboundedReceiverStream::new(receiver)))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let number = self.join(Wire::Delta, Outgoing::Delta(sender));
        let (server, mut incoming) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Some(Ok(request)) = incoming.next().await {
                let asked = Asked {
                    subscribe: request.resource_names_subscribe,
                    unsubscribe: request.resource_names_unsubscribe,
                    nonce: request.response_nonce,
                };
                let error = request.error_detail.map(|error| error.message);
                server.handle(number, &request.type_url, asked, error.as_deref());
            }
            server.leave(number);
        });
        Ok(Response::new(UnboundedReceiverStream::new(receiver)))
    }
}
