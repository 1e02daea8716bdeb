//! `loadtest origin`: threads that answer as the query of each request says.
//!
//! What it leaves to others: answering (`origin`).

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser;
use tidegate_io::backend::{Backend, Chosen};
use tidegate_io::epoll::Epoll;
use tidegate_io::uring::Uring;
use tidegate_io::{IoOptions, cpu};

use super::{Failure, stop_signal};
use crate::machine;
use crate::origin::{Answer, Origin, bind};
use crate::units;

#[derive(Parser, Debug)]
#[command(
    name = "loadtest origin",
    about = "Answers as each request's query says",
    after_help = "Query: s=1k (bytes), t=5ms (delay), j=2ms (more of it, up to), status=503, \
                        close, stall=1s (nobody is answered for so long)"
)]
pub struct OriginArguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(short, long, default_value = "127.0.0.1:9000")]
    listen: String,
    #[arg(short, long, default_value_t = 1)]
    threads: usize,
    /// Bytes of a body.
    #[arg(long, default_value = "1k", value_parser = units::bytes)]
    size: u64,
    /// Time before an answer.
    #[arg(long, default_value = "0", value_parser = units::duration)]
    delay: Duration,
    /// Up to so much more.
    #[arg(long, default_value = "0", value_parser = units::duration)]
    jitter: Duration,
    #[arg(long, default_value_t = 200)]
    status: u16,
    /// auto, io_uring or epoll.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    io_backend: Backend,
}

pub fn command(arguments: &OriginArguments) -> Result<ExitCode, Failure> {
    let text = match arguments.listen.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => arguments.listen.clone(),
    };
    let address: SocketAddr =
        text.parse().map_err(|_| format!("`{text}` is no address: 127.0.0.1:9000"))?;
    let failed = |error: std::io::Error| Failure::Failed(format!("{text}: {error}"));
    let first = TcpListener::from(bind(&address).map_err(failed)?);
    let address = first.local_addr().map_err(failed)?;
    let mut listeners = vec![first.into()];
    for _ in 1..arguments.threads {
        listeners.push(bind(&address).map_err(failed)?);
    }
    let choice = arguments.io_backend.choose().map_err(|e| Failure::Failed(e.to_string()))?;
    let stop = stop_signal();
    machine::allow_files(1 << 20);
    super::run::print(&format!("listening on {address}\n"));
    let answer = Answer {
        size: arguments.size,
        delay: arguments.delay,
        jitter: arguments.jitter,
        status: arguments.status,
        ..Answer::default()
    };
    let threads: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || serve(choice.backend, answer, listener, &stop))
        })
        .collect();
    for thread in threads {
        match thread.join() {
            Ok(done) => done.map_err(failed)?,
            Err(_) => return Err(Failure::Failed("a thread died".to_owned())),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(
    backend: Chosen,
    answer: Answer,
    listener: std::os::fd::OwnedFd,
    stop: &Arc<AtomicBool>,
) -> std::io::Result<()> {
    // Delays end in time.
    let _ = cpu::set_timer_slack(Duration::from_nanos(1));
    let options = IoOptions { gather: Duration::ZERO, ..IoOptions::default() };
    match backend {
        Chosen::IoUring => Origin::new(Uring::new(&options)?, answer).serve(listener, stop),
        Chosen::Epoll => Origin::new(Epoll::new(&options)?, answer).serve(listener, stop),
    }
}
