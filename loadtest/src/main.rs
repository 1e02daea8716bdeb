//! `loadtest`: how long a server takes to answer, how much it can answer, and whether the figures
//! may be believed.
//!
//! What it leaves to others: sockets and waiting (`tidegate-io`), HTTP (`tidegate-http`). It does
//! not know the proxy.
#![forbid(unsafe_code)]

mod cli;
mod compare;
mod engine;
mod import;
mod interleave;
mod machine;
mod origin;
mod phase;
mod plan;
mod report;
mod stats;
mod system_calls;
mod target;
mod units;
mod vegeta;
mod verdict;
mod view;
mod watch;
mod xds;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(std::env::args().collect())
}
