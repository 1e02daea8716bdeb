//! Updates of every kind, drawn from seeds, to the real control thread without its loop: after each
//! step what is published, and what `/config_dump` and `/init_dump` show, is what a model of a few
//! maps says.
//!
//! `TIDEGATE_CONTROL_SEEDS` says how many seeds, `TIDEGATE_CONTROL_SEED` which one alone. What it
//! leaves to others: streams (`tidegate-xds`), and shards under such updates (`core/tests/sim`).

mod expected;
mod steps;
mod world;

use expected::Expected;
use std::fmt::Write;
use steps::Random;
use world::World;

const SEEDS: u64 = 100;
const STEPS: usize = 60;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Takes the steps of a seed. `Err`: after how many something is not as it must be, and what.
fn run(world: &mut World, seed: u64) -> Result<(), (usize, String)> {
    let (mut random, mut expected, mut told) = (Random(seed), Expected::default(), String::new());
    world.restart();
    for number in 0..STEPS {
        let step = steps::draw(&mut random, number);
        let _ = writeln!(told, "{number}: {step}");
        world.take(&step);
        expected.take(&step);
        let compared = world.compare(&mut expected);
        compared.map_err(|difference| (number, format!("{difference}\nafter\n{told}")))?;
    }
    Ok(())
}

#[test]
fn updates_make_what_the_model_says() {
    let seeds = match number("TIDEGATE_CONTROL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TIDEGATE_CONTROL_SEEDS").unwrap_or(SEEDS),
    };
    let mut world = World::new();
    let failed = seeds.filter_map(|seed| Some((run(&mut world, seed).err()?, seed)));
    let mut failed: Vec<_> = failed.collect();
    failed.sort();
    for ((n, text), seed) in &failed {
        let lines: Vec<&str> = text.lines().take(3).collect();
        println!(
            "SEED {seed} STEP {n} {} || LAST {}",
            lines.join(" | "),
            text.lines().last().unwrap()
        );
    }
    // The one with the fewest steps says most.
    if let Some(((_, text), seed)) = failed.first() {
        panic!("{} seeds fail, of them seed {seed}: {text}", failed.len());
    }
}
