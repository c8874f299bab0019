//! A whole network in one thread: seeded faults, simulated disks, a checker for each invariant.
//!
//! Invariant: a run is a pure function of its seed.

pub mod block;
pub mod random;
