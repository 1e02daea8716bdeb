//! One call of `AccessLogService.StreamAccessLogs`, which is open as long as both sides let it be.
//!
//! What it leaves to others: what is said in it, and what happens after it (`service`).

use crate::snapshot::{ClusterEntry, Host};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Method, Request, Version};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const PATH: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
/// How long a service may take no byte of a message.
const STANDSTILL: Duration = Duration::from_secs(10);
/// How long it may take to answer in the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// An open call.
pub(super) struct ServiceStream {
    messages: SendStream<Bytes>,
    is_new: bool,
    /// The service has answered: it takes no more.
    is_over: Arc<AtomicBool>,
    answered: oneshot::Receiver<()>,
    // The connection lives as long as this.
    _requests: SendRequest<Bytes>,
}

impl ServiceStream {
    /// Opens a call to this host.
    pub async fn open(
        cluster: &ClusterEntry,
        host: &Host,
        authority: &str,
    ) -> Option<ServiceStream> {
        let connect = async {
            let socket = TcpStream::connect(host.address).await.ok()?;
            socket.set_nodelay(true).ok()?;
            let Some(tls) = &cluster.tls else { return begin(socket, "http", authority).await };
            let (config, name) = tls.handshake(true, None, &host.hostname, host.address.ip());
            let connector = TlsConnector::from(config);
            begin(connector.connect(name, socket).await.ok()?, "https", authority).await
        };
        timeout(cluster.config.connect_timeout, connect).await.ok()?
    }

    /// Whether nothing was sent in it yet.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether the service takes no more.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Sends a message. Says whether all of it is on its way.
    pub async fn send(&mut self, message: Vec<u8>) -> bool {
        self.is_new = false;
        let mut rest = BytesMut::with_capacity(message.len() + 5);
        rest.put_u8(0); // not compressed
        rest.put_u32(message.len() as u32);
        rest.extend_from_slice(&message);
        let mut rest = rest.freeze();
        while !rest.is_empty() {
            self.messages.reserve_capacity(rest.len());
            let room = poll_fn(|context| self.messages.poll_capacity(context));
            let Ok(Some(Ok(room))) = timeout(STANDSTILL, room).await else { return false };
            let part = rest.split_to(room.min(rest.len()));
            if self.messages.send_data(part, false).is_err() {
                return false;
            }
        }
        !self.is_over()
    }
}

impl ServiceStream {
    /// Says that nothing more comes, and waits a little for the service's answer: it has got
    /// everything then.
    pub async fn finish(mut self) {
        if self.messages.send_data(Bytes::new(), true).is_ok() {
            let _ = timeout(FAREWELL, self.answered).await;
        }
    }
}

async fn begin<S>(socket: S, scheme: &str, authority: &str) -> Option<ServiceStream>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (requests, connection) = h2::client::handshake(socket).await.ok()?;
    let is_over = Arc::<AtomicBool>::default();
    let over = is_over.clone();
    tokio::spawn(async move {
        // Its end is noticed by who uses it.
        let _ = connection.await;
        over.store(true, Ordering::Relaxed);
    });
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("{scheme}://{authority}{PATH}"))
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .header("user-agent", "tidegate")
        .body(())
        .ok()?;
    let mut requests = requests.ready().await.ok()?;
    let (response, messages) = requests.send_request(request, false).ok()?;
    let (answer, answered) = oneshot::channel();
    let over = is_over.clone();
    tokio::spawn(async move {
        watch(response).await;
        over.store(true, Ordering::Relaxed);
        let _ = answer.send(());
    });
    Some(ServiceStream { messages, is_new: true, is_over, answered, _requests: requests })
}

/// Waits for the end of the answer, which is the end of the call.
async fn watch(response: ResponseFuture) {
    if let Ok(response) = response.await {
        let mut body: RecvStream = response.into_body();
        while let Some(Ok(data)) = body.data().await {
            let _ = body.flow_control().release_capacity(data.len());
        }
    }
}
