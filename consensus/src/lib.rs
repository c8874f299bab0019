//! The ordering engine of Quipu as a pure state machine, with its simulator.
