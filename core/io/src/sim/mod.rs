//! The simulator backend: completions over memory, from a seed and a virtual clock.
