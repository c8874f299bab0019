//! The daemon of Quipu.
