//! Code that is broken on purpose must be caught: each mistake of [`tidegate::sabotage`] by some
//! seed.
//!
//! What it leaves to others: code that is not broken (`main.rs`).

use tidegate::sabotage::{Sabotage, make};

/// Seeds that a mistake may survive.
const SEEDS_MAX: u64 = 2_000;

#[test]
fn every_mistake_is_caught() {
    // The panics of broken code are expected here, and there would be thousands of lines of them.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let caught = Sabotage::ALL.map(|mistake| (mistake, first_failure(mistake)));
    std::panic::set_hook(hook);
    for (mistake, seed) in caught {
        match seed {
            Some((seed, why)) => eprintln!("{mistake:?} was caught by seed {seed}: {why}"),
            None => panic!("{mistake:?} survived {SEEDS_MAX} seeds"),
        }
    }
}

/// The first seed that notices a mistake, and what it says.
fn first_failure(mistake: Sabotage) -> Option<(u64, String)> {
    let found = (0..SEEDS_MAX).find_map(|seed| {
        make(Some(mistake));
        let wrong = super::failures(seed);
        Some((seed, wrong.first()?.chars().take(200).collect()))
    });
    make(None);
    found
}
