//! A simulated echo service under every fault: no byte is lost, added or moved, everything ends and
//! everything is given back, and the seed decides it all.
//!
//! What it leaves to others: single rules of the contract (`sim_rules.rs`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod sim_actors;

use sim_actors::{End, run_echoes};
use tidegate_io::sim::{Faults, Random};

const SEEDS: u64 = 1_000;

#[test]
fn every_echo_is_whole_under_faults_that_lose_nothing() {
    for seed in 0..SEEDS {
        let faults = Faults::lossless(&mut Random::new(seed));
        let echoes = run_echoes(seed, 3, 20_000, faults);
        assert!(echoes.ends.iter().all(|end| *end == End::Whole), "seed {seed}: {echoes:?}");
    }
}

#[test]
fn what_comes_is_right_under_faults_that_cut_connections() {
    let mut whole = 0;
    let mut failed = 0;
    for seed in 0..SEEDS {
        let faults = Faults::lossy(&mut Random::new(seed));
        for end in run_echoes(seed, 3, 20_000, faults).ends {
            match end {
                End::Whole => whole += 1,
                End::Failed => failed += 1,
            }
        }
    }
    assert!(whole > 500 && failed > 100, "the faults are out of balance: {whole} and {failed}");
}

#[test]
fn the_same_seed_gives_the_same_trace_and_others_do_not() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let run = || run_echoes(seed, 2, 5_000, Faults::lossy(&mut Random::new(seed)));
        let first = run();
        assert_eq!(first, run(), "seed {seed}");
        hashes.insert(first.hash);
    }
    assert_eq!(hashes.len(), 50);
}
