//! The byte relay on compio with what the ring can do: multishot receives into provided buffers,
//! which are sent as they came, and the ring's flags as ours has them.
//! `relay-compio LISTEN_PORT UPSTREAM_PORT [default]`
//!
//! With `default` the ring is as it comes.
//!
//! What it leaves to others: measuring.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZero;

use compio::driver::ProactorBuilder;
use compio::io::{AsyncReadMulti, AsyncWrite, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::RuntimeBuilder;
use futures_util::StreamExt as _;

const BUFFER_BYTES: usize = 16 * 1024;
const BUFFERS: NonZero<u16> = NonZero::new(512).unwrap();

fn main() -> Result<(), Box<dyn Error>> {
    let [listen, upstream] = addresses()?;
    let mut proactor = ProactorBuilder::new();
    proactor.capacity(4096).buffer_pool_size(BUFFERS).buffer_pool_buffer_len(BUFFER_BYTES);
    if !std::env::args().any(|argument| argument == "default") {
        proactor.single_issuer(true).defer_taskrun(true);
    }
    let runtime = RuntimeBuilder::new().with_proactor(proactor).build()?;
    Ok(runtime.block_on(serve(listen, upstream))?)
}

/// `LISTEN_PORT UPSTREAM_PORT`.
fn addresses() -> Result<[SocketAddr; 2], Box<dyn Error>> {
    let ports: Vec<u16> = std::env::args().skip(1).take(2).flat_map(|port| port.parse()).collect();
    let [listen, upstream] = ports[..] else { return Err("LISTEN_PORT UPSTREAM_PORT".into()) };
    Ok([listen, upstream].map(|port| (Ipv4Addr::LOCALHOST, port).into()))
}

async fn serve(listen: SocketAddr, upstream: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (downstream, _) = listener.accept().await?;
        let joined = async move {
            if let Err(error) = join(downstream, upstream).await {
                eprintln!("connect: {error}");
            }
        };
        compio::runtime::spawn(joined).detach();
    }
}

async fn join(downstream: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    let upstream = TcpStream::connect(upstream).await?;
    downstream.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let _ = futures_util::join!(copy(&downstream, &upstream), copy(&upstream, &downstream));
    Ok(())
}

/// Until the one side ends, or the other goes. A receive that found no buffer ends its stream, and
/// the next one goes on.
async fn copy(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    loop {
        let mut came = false;
        let mut buffers = std::pin::pin!(from.read_multi(BUFFER_BYTES));
        while let Some(buffer) = buffers.next().await {
            let buffer = buffer?;
            came = true;
            to.write_all(buffer).await.0?;
        }
        if !came {
            return to.shutdown().await;
        }
    }
}
