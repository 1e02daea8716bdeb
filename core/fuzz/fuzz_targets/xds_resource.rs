//! Any bytes are a resource of any kind: the quick way to read it and the one that knows names say
//! the same of it, whatever an encoder may have done to it.
//!
//! The first byte is the kind and what is known before. What it leaves to others: whether what both
//! say is right (`config/resource` and the corpus of Envoy Gateway).
#![no_main]

use libfuzzer_sys::{fuzz_crossover, fuzz_mutator, fuzz_target, fuzzer_mutate};
use tidegate_fuzz::change::{Random, change, graft};
use tidegate_fuzz::{resource, wire};

fuzz_target!(|bytes: &[u8]| {
    if let Some((first, message)) = bytes.split_first() {
        resource::read_both_ways(*first, message);
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(seed);
    let message = data[..size].get(1..).and_then(wire::read);
    let Some(mut message) = message.filter(|_| random.below(8) > 0) else {
        return fuzzer_mutate(data, size, max_size);
    };
    for _ in 0..=random.below(3) {
        change(&mut message, &mut random);
    }
    if random.below(16) == 0 {
        data[0] = data[0].wrapping_add(1);
    }
    let bytes = wire::write(&message);
    if bytes.len() >= max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[1..=bytes.len()].copy_from_slice(&bytes);
    bytes.len() + 1
});

fuzz_crossover!(|first: &[u8], second: &[u8], out: &mut [u8], seed: u32| {
    let read = |bytes: &[u8]| bytes.get(1..).and_then(wire::read);
    let (Some(mut message), Some(mut other)) = (read(first), read(second)) else { return 0 };
    graft(&mut message, &mut other, &mut Random::new(seed));
    let bytes = wire::write(&message);
    if bytes.len() >= out.len() {
        return 0;
    }
    out[0] = first[0];
    out[1..=bytes.len()].copy_from_slice(&bytes);
    bytes.len() + 1
});
