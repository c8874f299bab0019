//! # quipu-node: a member of the network
//!
//! Read `replica.rs` first: it decides everything and performs nothing. `run.rs` performs everything and decides
//! nothing.
#![forbid(unsafe_code)]

pub mod client;
pub mod client_protocol;
pub mod network;
pub mod peer_protocol;
