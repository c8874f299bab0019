//! A whole network in one thread: seeded faults, simulated disks, a checker for each invariant.
//!
//! Invariant: a run is a pure function of its seed and its options; nothing here reads a clock or the system's chance.
//! [`world`] moves time, [`network`] and [`disk`] carry and keep, [`faults`] says what goes wrong, [`checkers`] say
//! what must hold whatever goes wrong. [`participant`] is the seam: `engine_host` drives the bare engine here, the node
//! runs its whole replica behind the same trait.

pub mod block;
pub mod checkers;
pub mod disk;
pub mod engine_host;
pub mod faults;
pub mod network;
pub mod participant;
pub mod random;
pub mod run;
pub mod world;
