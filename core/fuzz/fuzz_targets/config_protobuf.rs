//! Any bytes are a bootstrap, or are refused: without a panic, soon, and with little memory.
//!
//! What it leaves to others: text (`config_yaml`).
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidegate_fuzz::read("c.pb", bytes));
