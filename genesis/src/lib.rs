//! # quipu-genesis: who takes part, under which rules, and who agreed to it
//!
//! A network begins with a text that people can read and argue about: [`GenesisDocument`], a TOML file. What counts is
//! the [`Genesis`] that it yields: sound, sorted, in bytes that are the same whoever wrote the file. Its hash is the
//! network's id, to which every signature of the ledger is bound, and block 0 follows from it and from nothing else.
//!
//! Nobody hands over a secret to make one:
//!
//! 1. `quipu-node init` draws each node's key and incarnation and writes its public half, a [`NodeFile`];
//! 2. each organisation puts its administrator's public key, its members and its nodes into an [`OrganisationFile`];
//! 3. someone, anyone, assembles the files: [`ceremony::assemble`]. The same files yield the same genesis;
//! 4. each organisation reads the result and signs the network id: [`ceremony::sign`]. Copies that were signed apart
//!    are put together again: [`ceremony::merge`];
//! 5. [`ceremony::check`] says exactly what is missing or wrong, all of it; [`ceremony::read_complete`] is how a node
//!    or an auditor takes a genesis: it refuses one that is not sound and signed by every organisation.
//!
//! | module | keeps |
//! | --- | --- |
//! | [`document`] | the genesis file: reading and writing |
//! | [`genesis`] | the canonical form, the network id, block 0 |
//! | [`parties`] | what nodes and organisations hand over |
//! | [`ceremony`] | assemble, sign, merge, check, require |
//! | [`development`] | the genesis of a development network, by the same steps |
//! | [`finding`] | what is wrong, where, and what to do about it |
//! | [`text`] | text forms of times, grants, addresses and names |
//! | [`file`](mod@file) | files: measured before they are read, atomic, never written over unasked |
//! | [`limits`] | limits of files and names |
//!
//! Choices where the design is silent: a name has the letters of a namespace; a key stands once in the whole file; a
//! genesis needs an organisation and a voter, but neither members nor namespaces; slots count from 1; `approvals` is
//! more than half of the organisations unless the file says otherwise; `certificates` is on in a new genesis, for
//! without them a membership can never change. Nothing has a default when a file is read: all that enters the network
//! id stands in it.
#![forbid(unsafe_code)]

mod block;
pub mod ceremony;
pub mod development;
pub mod document;
mod entries;
mod fields;
pub mod file;
pub mod finding;
pub mod genesis;
pub mod limits;
pub mod parties;
mod rules;
pub mod text;
mod writer;

pub use document::{Approval, GenesisDocument, ReadError};
pub use finding::{Finding, Findings, Place, Problem};
pub use genesis::Genesis;
pub use parties::{NodeFile, OrganisationFile};
