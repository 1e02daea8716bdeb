//! The whole proxy in a simulated world: shards, origins, clients and configuration changes from a
//! seed.
//!
//! `TIDEGATE_SIM_SEEDS` chooses the seeds: a count (`2000`) or a range (`17..18`). With
//! `TIDEGATE_SIM_TRACE=1` everything that happens is printed. A failing seed prints the command
//! that runs it again.
//!
//! What it leaves to others: single functions (unit tests) and real kernels (the acceptance
//! scripts).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answer;
mod bytes;
mod client;
mod config;
mod flood;
mod http2_client;
mod http2_origin;
mod http2_output;
mod http2_peer;
mod http2_plan;
mod http2_windows;
mod http2_wire;
mod ledger;
mod operator;
mod origin;
mod plan;
mod proxy;
mod relay;
#[cfg(debug_assertions)]
mod sabotage;
mod script;
mod tls;
mod tls_sockets;
mod updates;
mod wire;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of a plain `cargo test`.
const SEEDS_DEFAULT: u64 = 100;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("TIDEGATE_SIM_SEEDS") else { return 0..SEEDS_DEFAULT };
    let number = |text: &str| text.parse().expect("TIDEGATE_SIM_SEEDS is a count or a range");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&text),
    }
}

/// Runs one seed; what was wrong, a panic included.
fn failures(seed: u64) -> Vec<String> {
    let trace = std::env::var_os("TIDEGATE_SIM_TRACE").is_some();
    match catch_unwind(AssertUnwindSafe(|| proxy::run(seed, trace))) {
        Ok(verdict) => verdict.wrong,
        Err(_) => vec!["a panic, printed above".into()],
    }
}

#[test]
fn every_seed_keeps_its_promises() {
    let range = seeds();
    let next = AtomicU64::new(range.start);
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let seed = next.fetch_add(1, Ordering::Relaxed)
                    && seed < range.end
                {
                    let wrong = failures(seed);
                    if !wrong.is_empty() {
                        failed.lock().unwrap().push((seed, wrong));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    for (seed, wrong) in failed.iter().take(5) {
        eprintln!("seed {seed}:");
        wrong.iter().take(8).for_each(|text| eprintln!("    {text}"));
        eprintln!(
            "    again: TIDEGATE_SIM_TRACE=1 TIDEGATE_SIM_SEEDS={seed}..{} cargo test -p tidegate \
             --profile quick --test sim every_seed -- --nocapture",
            seed + 1
        );
    }
    let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "{} of {range:?} failed: {seeds:?}", failed.len());
}

#[test]
fn every_seed_of_relays_keeps_its_promises() {
    let (mut failed, mut heard) = (Vec::new(), 0);
    let trace = std::env::var_os("TIDEGATE_SIM_TRACE").is_some();
    for seed in seeds() {
        match catch_unwind(AssertUnwindSafe(|| relay::run(seed, trace))) {
            Ok((wrong, _)) if !wrong.is_empty() => failed.push((seed, wrong)),
            Ok((_, bytes)) => heard += bytes,
            Err(_) => failed.push((seed, vec!["a panic, printed above".into()])),
        }
    }
    for (seed, wrong) in failed.iter().take(5) {
        eprintln!("seed {seed}:");
        wrong.iter().take(8).for_each(|text| eprintln!("    {text}"));
    }
    let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "{} worlds of relays failed: {seeds:?}", failed.len());
    assert!(heard > 1 << 20, "{heard} bytes were heard");
}

#[test]
fn no_request_fails_while_a_management_server_changes_everything() {
    let (mut answered, mut published) = (0, 0);
    let mut failed = Vec::new();
    for seed in seeds() {
        let (wrong, requests, snapshots) = updates::run(seed);
        (answered, published) = (answered + requests, published + snapshots);
        if !wrong.is_empty() {
            failed.push((seed, wrong));
        }
    }
    for (seed, wrong) in failed.iter().take(5) {
        eprintln!("seed {seed}:");
        wrong.iter().take(8).for_each(|text| eprintln!("    {text}"));
    }
    let worlds = seeds().count();
    assert!(failed.is_empty(), "{} of {worlds} worlds of updates failed", failed.len());
    let enough = answered > 100 * worlds && published > 5 * worlds;
    assert!(enough, "{answered} answers, {published} snapshots in {worlds} worlds");
}

#[test]
fn the_same_seed_gives_the_same_world() {
    for seed in 0..20 {
        assert_eq!(proxy::run(seed, false), proxy::run(seed, false), "seed {seed}");
    }
}

#[test]
fn worlds_are_busy_and_differ() {
    let verdicts: Vec<_> = (0..20).map(|seed| proxy::run(seed, false)).collect();
    let hashes: std::collections::BTreeSet<_> = verdicts.iter().map(|it| it.hash).collect();
    assert_eq!(hashes.len(), verdicts.len());
    let exchanges: usize = verdicts.iter().map(|it| it.exchanges).sum();
    let answered: usize = verdicts.iter().map(|it| it.answered).sum();
    assert!(exchanges > 500 && answered * 2 > exchanges, "{answered} of {exchanges} answered");
}
