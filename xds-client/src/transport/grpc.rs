//! xDS over gRPC: one bidirectional stream by tonic, over a connection by hyper, made anew whenever
//! it ends.
//!
//! What it leaves to others: what is said (`Client`), how a server is reached (`Connector`).

use super::{Connection, Connector, Handle, Shared, now, sleep_until};
use crate::closed::{End, Ends};
use crate::resource_type::{AGGREGATED_DELTA, AGGREGATED_STREAM};
use crate::{Backoff, Client, Disconnected, Scope, Settings, Variant};
use bytes::{Buf as _, BufMut as _, Bytes};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::client::{Grpc, GrpcService};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::codegen::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use tonic::codegen::http::{self, HeaderName, HeaderValue};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

/// Envoy's words for what fails before a response has begun.
const BEFORE: &str = "upstream connect error or disconnect/reset before headers. reset reason:";

/// One of `grpc_services`.
#[derive(Clone, Debug)]
pub struct Service {
    /// What the log calls it: the cluster of `envoy_grpc`, the `target_uri` of `google_grpc`.
    pub destination: String,
    /// Makes connections to it, TLS included. They must speak HTTP/2 at once.
    pub connector: Connector,
    /// `:authority`: `envoy_grpc.authority` or the cluster's name.
    pub authority: String,
    /// Whether `:scheme` is `https`.
    pub tls: bool,
    /// `initial_metadata` and credentials of calls.
    pub metadata: Vec<Metadata>,
    /// How long a connection may take to make, TLS and the HTTP/2 preface included.
    pub connect_timeout: Duration,
    /// `connection_keepalive` of the cluster: pings.
    pub keepalive: Option<Keepalive>,
}

/// A field of the request's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its name, in lower case.
    pub name: String,
    /// Its value.
    pub value: MetadataValue,
}

/// Where the value of a field comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataValue {
    /// It is this.
    Text(String),
    /// A file is read at each stream: tokens rotate. Space around its text is cut off.
    File {
        /// Stands before the token: `Bearer `.
        prefix: String,
        /// The file.
        path: PathBuf,
    },
}

/// Pings that notice a dead server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// From one ping to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// Starts a stream on the current tokio runtime. With several services the next one is tried when
/// one has brought no response, and the first one again after one has.
///
/// # Panics
///
/// Outside a tokio runtime, or without a service.
#[must_use]
pub fn open(settings: Settings, services: Vec<Service>, backoff: Backoff) -> Handle {
    assert!(!services.is_empty(), "a stream needs a service");
    Handle::start(Client::new(settings), |shared| run(shared, services, backoff))
}

async fn run(shared: Arc<Shared>, services: Vec<Service>, mut backoff: Backoff) {
    let (path, method) = {
        let client = shared.client();
        let path = path_of(client.settings());
        let method = path.rsplit_once('/').map_or("", |(_, method)| method).to_owned();
        (path, method)
    };
    let (mut at, mut ends) = (0, Ends::default());
    while let Some(service) = services.get(at % services.len()) {
        let mut stream = Stream { shared: &shared, service, answered: false };
        let end = stream.run(&path).await;
        let answered = stream.answered;
        at = if answered { 0 } else { at + 1 };
        if answered {
            backoff.reset();
            ends.reset();
        }
        let retry_in = backoff.next_wait();
        let name = format!("{method} gRPC config stream to {}", service.destination);
        let (text, warn) = ends.report(&name, end, now());
        let disconnected = Disconnected { text, warn, failed: !answered, retry_in };
        shared.client().handle_disconnected(disconnected);
        shared.tell();
        shared.with_timers(tokio::time::sleep(retry_in)).await;
    }
}

fn path_of(settings: &Settings) -> String {
    match (settings.scope, settings.variant) {
        (Scope::Aggregated, Variant::StateOfTheWorld) => AGGREGATED_STREAM.to_owned(),
        (Scope::Aggregated, Variant::Delta) => AGGREGATED_DELTA.to_owned(),
        (Scope::Single(kind), Variant::Delta) => kind.delta_path(),
        // VHDS has no such stream, and `Client` refuses all interest in it: any answer will do.
        (Scope::Single(kind), _) => kind.stream_path().unwrap_or_else(|| kind.delta_path()),
    }
}

/// One stream, from its connection to its end.
struct Stream<'a> {
    shared: &'a Shared,
    service: &'a Service,
    answered: bool,
}

impl Stream<'_> {
    async fn run(&mut self, path: &str) -> End {
        let connected = self.shared.with_timers(self.connect()).await;
        let mut grpc = match connected {
            Ok(grpc) => grpc,
            Err(end) => return end,
        };
        let Ok(path) = PathAndQuery::try_from(path) else {
            return End::unavailable(format!("{path} is no path"));
        };
        let (requests, stream) = mpsc::channel(1);
        let request = match self.head(ReceiverStream::new(stream)) {
            Ok(request) => request,
            Err(text) => return End::unavailable(text),
        };
        self.shared.client().handle_connected();
        self.shared.tell();
        let opening = grpc.streaming(request, path, RawCodec);
        tokio::pin!(opening);
        // Many servers send their head with their first response only: requests go out meanwhile.
        let mut streaming = None;
        loop {
            let full = self.send(&requests);
            let (next, readable) = {
                let client = self.shared.client();
                (client.poll_timeout(), !client.has_events())
            };
            tokio::select! {
                opened = &mut opening, if streaming.is_none() => match opened {
                    Ok(response) => streaming = Some(response.into_inner()),
                    Err(status) => return end_of(&status, false),
                },
                message = read(&mut streaming), if streaming.is_some() && readable => {
                    if let Err(end) = self.receive(message) {
                        return end;
                    }
                }
                _ = requests.reserve(), if full => {}
                () = sleep_until(next) => {}
                () = self.shared.changed.notified() => {}
            }
            self.shared.expire();
        }
    }

    /// Hands on requests until the stream takes no more; answers whether it is full.
    fn send(&self, requests: &mpsc::Sender<Bytes>) -> bool {
        loop {
            let Ok(permit) = requests.try_reserve() else { return !requests.is_closed() };
            let Some(request) = self.shared.client().poll_request(now()) else { return false };
            permit.send(Bytes::from(request.encode()));
        }
    }

    fn receive(&mut self, message: Result<Option<Bytes>, Status>) -> Result<(), End> {
        let bytes = match message {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(End { code: 0, message: String::new() }),
            Err(status) => return Err(end_of(&status, true)),
        };
        let handled = self.shared.client().handle_message(&bytes, now());
        self.answered |= handled.is_ok();
        self.shared.tell();
        handled.map_err(|message| End { code: tonic::Code::Internal as i32, message })
    }

    async fn connect(&self) -> Result<Grpc<Http2>, End> {
        let failed = |error: &dyn std::fmt::Display| {
            let cause = "remote connection failure, transport failure reason";
            End::unavailable(format!("{BEFORE} {cause}: {error}"))
        };
        let service = self.service;
        let origin = Uri::builder()
            .scheme(if service.tls { Scheme::HTTPS } else { Scheme::HTTP })
            .authority(Authority::try_from(service.authority.as_str()).map_err(|e| failed(&e))?)
            .path_and_query("/")
            .build()
            .map_err(|error| failed(&error))?;
        let connect = async {
            let connected = service.connector.connect(service.connect_timeout).await;
            let connection = connected.map_err(|error| match error.kind() {
                std::io::ErrorKind::TimedOut => {
                    End::unavailable(format!("{BEFORE} connection timeout"))
                }
                _ => failed(&error),
            })?;
            Http2::handshake(connection, service.keepalive).await.map_err(|error| failed(&error))
        };
        let max = self.shared.client().settings().limits.message_bytes_max;
        Ok(Grpc::with_origin(connect.await?, origin).max_decoding_message_size(max))
    }

    /// The request's head; token files are read for it.
    fn head<T>(&self, stream: T) -> Result<Request<T>, String> {
        let mut fields = http::HeaderMap::new();
        for Metadata { name, value } in &self.service.metadata {
            let text = match value {
                MetadataValue::Text(text) => text.clone(),
                MetadataValue::File { prefix, path } => {
                    let token = std::fs::read_to_string(path)
                        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                    format!("{prefix}{}", token.trim())
                }
            };
            let value = HeaderValue::try_from(text);
            let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), value) else {
                return Err(format!("metadata {name} is no field of HTTP"));
            };
            fields.append(name, value);
        }
        let mut request = Request::new(stream);
        *request.metadata_mut() = MetadataMap::from_headers(fields);
        Ok(request)
    }
}

/// How a stream failed; by what the server said, or, where a status has a cause, by a connection
/// that broke: for that Envoy's codes are 14 before the response's head and 13 after it.
fn end_of(status: &Status, opened: bool) -> End {
    let (code, message) = (status.code() as i32, status.message().to_owned());
    let broke = std::error::Error::source(status).is_some();
    match (broke, opened) {
        (false, _) => End { code, message },
        (true, true) => End { code: tonic::Code::Internal as i32, message },
        (true, false) => {
            let reason = "connection termination, transport failure reason";
            End::unavailable(format!("{BEFORE} {reason}: {message}"))
        }
    }
}

async fn read(streaming: &mut Option<Streaming<Bytes>>) -> Result<Option<Bytes>, Status> {
    match streaming {
        Some(streaming) => streaming.message().await,
        None => std::future::pending().await,
    }
}

/// One connection of HTTP/2, which its drop closes.
struct Http2 {
    sender: http2::SendRequest<tonic::body::Body>,
    driver: JoinHandle<()>,
}

impl Http2 {
    async fn handshake(
        connection: Box<dyn Connection>,
        keepalive: Option<Keepalive>,
    ) -> hyper::Result<Self> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        if let Some(Keepalive { interval, timeout }) = keepalive {
            builder.keep_alive_interval(interval).keep_alive_timeout(timeout);
            builder.keep_alive_while_idle(true);
        }
        let (sender, connection) = builder.handshake(TokioIo::new(connection)).await?;
        // What went wrong is told to the stream.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driver })
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl GrpcService<tonic::body::Body> for Http2 {
    type ResponseBody = Incoming;
    type Error = hyper::Error;
    type Future =
        Pin<Box<dyn Future<Output = Result<http::Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}

/// Messages as bytes: `Client` decodes them, within its limits.
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
