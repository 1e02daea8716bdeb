//! The simulator backend: completions over memory, from a seed and a virtual clock.
//!
//! A [`World`] holds simulated threads ([`SimIo`], each an [`crate::Io`]), a network between them
//! that behaves like TCP on Linux and fails as [`Faults`] say, and a scheduler ([`World::run`])
//! that lets programs ([`Actor`]) take turns. Everything that chance decides comes from one seed,
//! so a failure is found again by its seed, and [`World::trace_hash`] tells whether two runs were
//! the same.
//!
//! What it leaves to others: it models no packets, no congestion and no routes between hosts, and
//! has no threads: a program that waits for anything but its own turn never gets it.

mod close;
mod endpoint;
mod event;
mod faults;
mod io;
mod listener;
mod memory;
mod network;
mod node;
mod random;
mod run;
mod splice;
mod trace;
mod world;

pub use faults::Faults;
pub use io::SimIo;
pub use random::Random;
pub use run::{Actor, RunEnd};
pub use world::World;

/// Names one simulated thread in its world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct NodeId(pub(crate) usize);
