//! The HTTP server of the admin thread.
//!
//! What it leaves to others: what to answer (`endpoints`).

use super::pieces::Pieces;
use super::{Admin, Reply, endpoints};
use crate::cli::Failure;
use crate::control::OpenError;
use crate::control::listeners::open_admin;
use crate::log::{self, Component};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, SERVER, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 128;

/// What hyper keeps of a page that is not sent yet.
const BUFFER_MAX: usize = 256 << 10;

/// How long a head may take, and how long a connection may be idle.
const HEAD_MAX: Duration = Duration::from_secs(60);

/// How long to wait after accepting failed, for example when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much less important than the shards the thread is: pages can be long.
const NICENESS: i32 = 10;

/// Starts the admin thread on `address`, and writes the address that was bound into the file at
/// `address_path`.
///
/// # Errors
///
/// When the address cannot be listened on, or the file cannot be written.
pub fn start(
    address: SocketAddr,
    admin: Arc<Admin>,
    address_path: Option<&Path>,
) -> Result<(), Failure> {
    let socket =
        open_admin(address).map_err(|error| Failure::Open(vec![OpenError::Listener(error)]))?;
    let started = |error| Failure::Environment(format!("cannot start the admin thread: {error}"));
    let bound = socket.local_addr().map_err(started)?;
    if let Some(path) = address_path {
        fs::write(path, bound.to_string()).map_err(|error| {
            Failure::Environment(format!("--admin-address-path {}: {error}", path.display()))
        })?;
    }
    spawn(socket, admin).map_err(started)?;
    log::info(Component::Admin, format_args!("admin address: {bound}"));
    Ok(())
}

fn spawn(socket: std::net::TcpListener, admin: Arc<Admin>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _context = runtime.enter();
        TcpListener::from_std(socket)?
    };
    let thread = std::thread::Builder::new().name("admin".to_owned());
    let run = move || {
        step_back();
        runtime.block_on(serve(listener, admin));
    };
    thread.spawn(run).map(drop)
}

/// Makes this thread give way to the shards. Without the right to it everything works, only slower
/// for who shares a CPU.
pub(super) fn step_back() {
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                // One that takes nothing of its page must not keep the connection for ever.
                let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(HEAD_MAX));
                let admin = admin.clone();
                tokio::spawn(async move {
                    serve_connection(stream, admin).await;
                    drop(permit);
                });
            }
            Err(error) => {
                log::warning(Component::Admin, format_args!("accepting: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, admin: Arc<Admin>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let uri = request.uri();
        let reply = endpoints::answer(&admin, request.method(), uri.path(), uri.query());
        async move { Ok::<_, Infallible>(response(reply)) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(BUFFER_MAX);
    // A client that goes away, or sends nonsense, is its own affair.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn response(reply: Reply) -> Response<Pieces> {
    let mut response = Response::new(reply.body);
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(SERVER, HeaderValue::from_static("envoy"));
    response
}
