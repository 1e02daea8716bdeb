//! Connections to management servers that are named by a target URI of gRPC.
//!
//! What it leaves to others: what runs over them (`tidegate-xds`), certificates (`transport`).

use crate::config::tls::SentSecrets;
use crate::config::{CallSecret, GoogleGrpc, GoogleTarget};
use crate::transport::ClientContext;
use rustls::time_provider::DefaultTimeProvider;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tidegate_xds::transport::grpc::{Metadata, MetadataValue, Service};
use tidegate_xds::transport::{Connection, Connector};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// gRPC's own: how long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(20);

/// What a stream needs to know of the server.
pub(super) fn service(google: &Arc<GoogleGrpc>, metadata: Vec<Metadata>) -> Service {
    let credentials = google.credentials.iter().map(|one| Metadata {
        name: one.field.clone(),
        value: match &one.secret {
            CallSecret::Text(text) => MetadataValue::Text(format!("{}{text}", one.prefix)),
            CallSecret::File(path) => {
                MetadataValue::File { prefix: one.prefix.clone(), path: path.into() }
            }
        },
    });
    let target = google.clone();
    Service {
        destination: google.uri.clone(),
        connector: Connector::new(move || {
            let target = target.clone();
            Box::pin(async move { connect(&target).await })
        }),
        authority: google.authority.clone(),
        tls: google.tls.is_some(),
        metadata: metadata.into_iter().chain(credentials).collect(),
        connect_timeout: CONNECT_MAX,
        keepalive: None,
    }
}

async fn connect(google: &GoogleGrpc) -> io::Result<Box<dyn Connection>> {
    match &google.target {
        GoogleTarget::Unix(path) => {
            let socket = UnixStream::connect(path).await?;
            secured(google, socket, IpAddr::V4(Ipv4Addr::LOCALHOST)).await
        }
        GoogleTarget::Host(host, port) => {
            let socket = TcpStream::connect((host.as_str(), *port)).await?;
            socket.set_nodelay(true)?;
            let ip = socket.peer_addr()?.ip();
            secured(google, socket, ip).await
        }
    }
}

/// The context is built anew each time: its files may have changed.
async fn secured<S: Connection + 'static>(
    google: &GoogleGrpc,
    socket: S,
    ip: IpAddr,
) -> io::Result<Box<dyn Connection>> {
    let Some(tls) = &google.tls else { return Ok(Box::new(socket)) };
    let failed = |error: crate::transport::TlsError| io::Error::other(error.to_string());
    let material = tls.read(None, &SentSecrets::new()).map_err(failed)?;
    let context = ClientContext::build(material, Arc::new(DefaultTimeProvider)).map_err(failed)?;
    let (config, name) = context.handshake(true, None, "", ip);
    Ok(Box::new(TlsConnector::from(config).connect(name, socket).await?))
}
