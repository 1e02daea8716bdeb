//! Any text is a configuration, or is refused: without a panic, soon, and with little memory.
//!
//! What it leaves to others: protobuf (`config_protobuf`).
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidegate_fuzz::read("c.yaml", bytes));
