//! Keeps the block of the simulator: what an engine must know, and a payload number in place of a content.
//!
//! Invariant: the hash covers every other field.

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{BlockId, Height, Term};

use crate::block::{Block, Configuration};

/// A block without a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedBlock {
    /// Height, term, hash.
    pub id: BlockId,
    /// Hash of the parent.
    pub previous: Hash,
    /// Whether it opens its term.
    pub opening: bool,
    /// Its size.
    pub size: u64,
    /// What a client wrote; zero for nothing.
    pub payload: u64,
    /// For a membership block.
    pub configuration: Option<Configuration>,
}

impl SimulatedBlock {
    /// Block 0 of every simulated network.
    #[must_use]
    pub fn genesis() -> Self {
        Self::make(Height::ZERO, Term::ZERO, Hash::ZERO, false, 1, 0, None)
    }

    /// An ordinary block on `parent`.
    #[must_use]
    pub fn child(parent: BlockId, term: Term, size: u64, payload: u64) -> Self {
        Self::make(parent.height.next(), term, parent.hash, false, size, payload, None)
    }

    /// An opening block on `parent`.
    #[must_use]
    pub fn opening(parent: BlockId, term: Term) -> Self {
        Self::make(parent.height.next(), term, parent.hash, true, 1, 0, None)
    }

    /// A membership block on `parent`.
    #[must_use]
    pub fn membership(parent: BlockId, term: Term, configuration: Configuration) -> Self {
        Self::make(
            parent.height.next(),
            term,
            parent.hash,
            false,
            1,
            0,
            Some(configuration),
        )
    }

    /// Whether its id is that of its content.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let (height, term) = (self.id.height, self.id.term);
        let members = self.configuration.clone();
        Self::make(
            height,
            term,
            self.previous,
            self.opening,
            self.size,
            self.payload,
            members,
        )
        .id == self.id
    }

    fn make(
        height: Height,
        term: Term,
        previous: Hash,
        opening: bool,
        size: u64,
        payload: u64,
        configuration: Option<Configuration>,
    ) -> Self {
        let members = format!("{configuration:?}");
        let hash = Hash::of(
            Context::Header,
            &[
                &height.get().to_le_bytes(),
                &term.get().to_le_bytes(),
                previous.as_bytes(),
                &[u8::from(opening)],
                &size.to_le_bytes(),
                &payload.to_le_bytes(),
                members.as_bytes(),
            ],
        );
        Self {
            id: BlockId { height, term, hash },
            previous,
            opening,
            size,
            payload,
            configuration,
        }
    }
}

impl Block for SimulatedBlock {
    fn id(&self) -> BlockId {
        self.id
    }

    fn previous(&self) -> Hash {
        self.previous
    }

    fn is_opening(&self) -> bool {
        self.opening
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn configuration(&self) -> Option<Configuration> {
        self.configuration.clone()
    }
}
