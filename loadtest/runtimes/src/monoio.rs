//! The byte relay on monoio: two tasks for each connection, which receive into a buffer of their
//! own and send it. `relay-monoio LISTEN_PORT UPSTREAM_PORT [default]`
//!
//! Its ring has the flags of ours, which it does not set by itself: they are a third of its CPU.
//! With `default` it is as it comes.
//!
//! What it leaves to others: measuring.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::{TcpListener, TcpStream};

const BUFFER_BYTES: usize = 16 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let [listen, upstream] = addresses()?;
    let mut ring = io_uring::IoUring::builder();
    if !std::env::args().any(|argument| argument == "default") {
        ring.setup_single_issuer().setup_defer_taskrun();
    }
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .uring_builder(ring)
        .with_entries(4096)
        .build()?;
    Ok(runtime.block_on(serve(listen, upstream))?)
}

/// `LISTEN_PORT UPSTREAM_PORT`.
fn addresses() -> Result<[SocketAddr; 2], Box<dyn Error>> {
    let ports: Vec<u16> = std::env::args().skip(1).take(2).flat_map(|port| port.parse()).collect();
    let [listen, upstream] = ports[..] else { return Err("LISTEN_PORT UPSTREAM_PORT".into()) };
    Ok([listen, upstream].map(|port| (Ipv4Addr::LOCALHOST, port).into()))
}

async fn serve(listen: SocketAddr, upstream: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    loop {
        let (downstream, _) = listener.accept().await?;
        monoio::spawn(async move {
            if let Err(error) = join(downstream, upstream).await {
                eprintln!("connect: {error}");
            }
        });
    }
}

async fn join(downstream: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    let upstream = TcpStream::connect_addr(upstream).await?;
    downstream.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (down_read, down_write) = downstream.into_split();
    let (up_read, up_write) = upstream.into_split();
    monoio::spawn(copy(down_read, up_write));
    copy(up_read, down_write).await;
    Ok(())
}

/// Until the one side ends, or the other goes.
async fn copy(mut from: impl AsyncReadRent, mut to: impl AsyncWriteRent) {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let (read, full) = from.read(buffer).await;
        if !read.is_ok_and(|bytes| bytes > 0) {
            break;
        }
        let (written, empty) = to.write_all(full).await;
        if written.is_err() {
            return;
        }
        buffer = empty;
        buffer.clear();
    }
    let _ = to.shutdown().await;
}
