//! The definition of a Quipu network and the ceremony that makes it.
