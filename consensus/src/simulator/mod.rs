//! A whole network in one thread: seeded faults, simulated disks, a checker for each invariant.
//!
//! Invariant: a run is a pure function of its seed and its options; nothing here reads a clock or the system's chance.
//! [`run`](mod@run) is the course of a run; then `liveness` heals a majority and demands progress. [`world`] has time;
//! `delivery` takes an event into a process and its effects out; [`network`], [`disk`], `clock` are what it stands on.
//! [`faults`] lists what goes wrong and what a seed draws of it, `strike` does it, [`coverage`] counts whom it struck.
//! [`checkers`] say what must hold whatever goes wrong; [`trace`] keeps what happened. [`participant`] is the seam: the
//! bare engine behind it is `engine_host`, and `duties` is what it owes that; the node runs its whole replica so.

pub mod block;
pub mod checkers;
mod clock;
pub mod coverage;
mod delivery;
pub mod disk;
mod duties;
mod engine_disk;
pub mod engine_host;
pub mod faults;
mod liveness;
pub mod network;
pub mod participant;
pub mod random;
pub mod run;
mod strike;
pub mod trace;
pub mod world;
