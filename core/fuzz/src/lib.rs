//! What the fuzz targets share: all that `--mode validate` does, and what it may take.
//!
//! What it leaves to others: where the bytes come from (`fuzz_targets`).
#![allow(clippy::panic, reason = "a panic is how a fuzz target says what is wrong")]

pub mod change;
pub mod resource;
pub mod wire;

use tidegate::config::{NetworkFilter, Options, load, read_bytes, render};
use tidegate::snapshot::{ClusterId, RouteTable};

/// The most memory that a configuration may take while it is read and compiled. Counted as it is
/// allocated: what the engine and its counters take is not the configuration's.
const BYTES_MAX: u64 = 256 << 20;

/// Reads a file with this name as a start would, and compiles its routes.
pub fn read(name: &str, bytes: &[u8]) {
    for allow_unsupported in [false, true] {
        let options = Options { allow_unsupported };
        let taken = allocation_counter::measure(|| read_with(name, bytes, &options)).bytes_max;
        assert!(taken <= BYTES_MAX, "{} bytes take {} MiB", bytes.len(), taken >> 20);
    }
}

fn read_with(name: &str, bytes: &[u8], options: &Options) {
    let Ok(source) = read_bytes(name.to_owned(), bytes.to_vec()) else { return };
    let sources = [source];
    match load(&sources, options) {
        Ok((bootstrap, _)) => {
            for chain in bootstrap.listeners.iter().flat_map(|listener| listener.chains()) {
                let NetworkFilter::HttpConnectionManager(manager) = &chain.filter else {
                    continue;
                };
                let routes = manager.route_config.clone();
                drop(RouteTable::compile(routes, |_| Some(ClusterId(0))));
            }
        }
        Err(errors) => {
            assert!(!errors.0.is_empty(), "refused without a reason");
            assert!(!render(&errors, &sources).is_empty(), "refused without a word");
        }
    }
}
