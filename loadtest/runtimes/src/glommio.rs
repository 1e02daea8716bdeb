//! The byte relay on glommio: both directions of a connection in one task, each with a buffer of
//! its own. `relay-glommio LISTEN_PORT UPSTREAM_PORT`
//!
//! What it leaves to others: measuring.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use futures_util::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{GlommioError, LocalExecutorBuilder, Placement};

const BUFFER_BYTES: usize = 16 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let [listen, upstream] = addresses()?;
    let executor = LocalExecutorBuilder::new(Placement::Unbound).ring_depth(1024).make()?;
    Ok(executor.run(serve(listen, upstream)).map_err(|error| error.to_string())?)
}

/// `LISTEN_PORT UPSTREAM_PORT`.
fn addresses() -> Result<[SocketAddr; 2], Box<dyn Error>> {
    let ports: Vec<u16> = std::env::args().skip(1).take(2).flat_map(|port| port.parse()).collect();
    let [listen, upstream] = ports[..] else { return Err("LISTEN_PORT UPSTREAM_PORT".into()) };
    Ok([listen, upstream].map(|port| (Ipv4Addr::LOCALHOST, port).into()))
}

async fn serve(listen: SocketAddr, upstream: SocketAddr) -> Result<(), GlommioError<()>> {
    let listener = TcpListener::bind(listen)?;
    loop {
        let downstream = listener.accept().await?;
        let joined = async move {
            if let Err(error) = join(downstream, upstream).await {
                eprintln!("connect: {error}");
            }
        };
        glommio::spawn_local(joined).detach();
    }
}

async fn join(downstream: TcpStream, upstream: SocketAddr) -> Result<(), GlommioError<()>> {
    let upstream = TcpStream::connect(upstream).await?;
    downstream.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (down_read, down_write) = downstream.split();
    let (up_read, up_write) = upstream.split();
    let _ = futures_util::join!(copy(down_read, up_write), copy(up_read, down_write));
    Ok(())
}

/// Until the one side ends, or the other goes.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let bytes = from.read(&mut buffer).await?;
        if bytes == 0 {
            return to.close().await;
        }
        to.write_all(&buffer[..bytes]).await?;
    }
}
