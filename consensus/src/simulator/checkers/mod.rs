//! Keeps the oracle: what the whole network has ever done, and the invariants held against it after every step.
//!
//! Invariant: the oracle believes disks, not claims; it only reads, so a run with and without it is the same.
//! Numbers are those of the specification: I1 I3 I8 in `election`, I2 I15 in `chain`, I4-I7 I9 I13 I14 in `commit`,
//! I10 in `progress`, I20 in `message`, I18 in `read`, I19 and the other half of I9 in `execution`; `forgetting` says
//! what a disk that breaks its word changes.

mod chain;
mod commit;
mod election;
mod execution;
mod forgetting;
mod message;
mod progress;
mod read;

use std::collections::{BTreeMap, BTreeSet};

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height, Slot, Term};

use super::participant::Link;
use crate::block::Configuration;
use crate::engine::{Role, Status};
use crate::output::VoteRecord;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number in the specification.
    pub invariant: &'static str,
    /// What was found.
    pub detail: String,
}

/// What a check answers.
pub type Verdict = Result<(), Violation>;

/// A node as the checkers see it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Which.
    pub slot: Slot,
    /// What its engine says of itself; `None` while it is down.
    pub status: Option<&'a Status>,
    /// Its chain as it reads it back, writes in flight included.
    pub chain: &'a [Link],
    /// Its chain as a crash would leave it.
    pub durable: &'a [Link],
    /// Its vote record as a crash would leave it.
    pub vote: VoteRecord,
}

/// Everything that ever happened, as far as an invariant needs it.
#[derive(Debug, Default)]
pub struct Oracle {
    /// In force at block 0.
    members: Configuration,
    /// Who led in each term.
    leaders: BTreeMap<Term, Slot>,
    /// Hash of every block that ever was in a chain.
    blocks: BTreeMap<(Height, Term), Hash>,
    /// The final chain, and the term in which each block of it was committed.
    committed: Vec<(Link, Term)>,
    /// Where each client request is in it.
    requests: BTreeMap<u64, Height>,
    /// Every vote that left a node.
    votes: BTreeMap<(Slot, Term), Slot>,
    /// The chain of the leader of each term, as it was at the last look: it only grows while the term lasts.
    led: BTreeMap<Term, Vec<BlockId>>,
    /// The greatest height that each node ever acknowledged in a term.
    accepted: BTreeMap<(Slot, Term), Height>,
    /// Below which height no answer to a read may be.
    reads: BTreeMap<u64, Height>,
    /// What executing a height must give, as the first to do so found it.
    executed: BTreeMap<Height, Hash>,
    /// Whether any chain ever had a membership block.
    membership_changed: bool,
    nodes: BTreeMap<Slot, Seen>,
}

/// What was last seen of a node.
#[derive(Debug, Default)]
struct Seen {
    /// Each block, and the term that the node was in when it took it.
    chain: Vec<(BlockId, Term)>,
    /// Blocks that this process has cut: in which term it took each, and in which it cut it.
    cut: Vec<(BlockId, Term, Term)>,
    /// Blocks that its disk had and forgot without being asked to.
    forgotten: BTreeSet<BlockId>,
    /// The latest term that it was in before its disk forgot.
    latest: Term,
    commit: Height,
    executed: Height,
    vote: VoteRecord,
    leads: Option<Term>,
}

impl Oracle {
    /// Whether a majority of all nodes is a quorum: not while joint, nor where some only listen.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.members.outgoing.is_empty() && self.members.learners.is_empty()
    }

    /// An oracle of a network of `members` that has done nothing yet.
    #[must_use]
    pub fn new(members: Configuration) -> Self {
        Self {
            members,
            ..Self::default()
        }
    }

    /// How many heights are final.
    #[must_use]
    pub fn final_height(&self) -> Height {
        self.committed.last().map_or(Height::ZERO, |(link, _)| link.id.height)
    }

    /// How many terms had a leader.
    #[must_use]
    pub fn elections(&self) -> usize {
        self.leaders.len()
    }

    /// A node came back: what was only in its memory begins anew.
    pub fn restarted(&mut self, slot: Slot) {
        let seen = self.nodes.entry(slot).or_default();
        seen.commit = Height::ZERO;
        seen.executed = Height::ZERO;
        seen.leads = None;
        seen.cut.clear();
    }

    /// After every step of `node`.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn after_step<'a>(&mut self, node: View<'a>, all: &dyn Fn(Slot) -> Option<View<'a>>) -> Verdict {
        self.one_vote_a_term_on_disk(node)?;
        let Some(status) = node.status else { return Ok(()) };
        self.commit_within_chain(node, status)?;
        if status.role == Role::Leader {
            self.one_leader_a_term(node, status)?;
            self.leads_with(node, status);
            self.matched_is_acknowledged(node, status)?;
            self.matched_is_durable(node, status, all)?;
        } else {
            self.nodes.entry(node.slot).or_default().leads = None;
        }
        Ok(())
    }
}

fn violation(invariant: &'static str, detail: String) -> Verdict {
    Err(broken(invariant, detail))
}

const fn broken(invariant: &'static str, detail: String) -> Violation {
    Violation { invariant, detail }
}

/// The block of a chain at `height`.
fn at(chain: &[Link], height: Height) -> Option<&Link> {
    usize::try_from(height.get()).ok().and_then(|height| chain.get(height))
}

/// Whether a chain holds that block.
fn holds(chain: &[Link], id: BlockId) -> bool {
    at(chain, id.height).is_some_and(|link| link.id == id)
}

/// What an invariant means, for a reader of a violation.
#[must_use]
pub fn meaning(invariant: &str) -> &'static str {
    match invariant {
        "I1" => "at most one leader in a term, and a quorum has voted for it",
        "I2" => "one block for a height and a term: equal hash, equal prefix",
        "I3" => "a leader has everything that was committed in an earlier term",
        "I4" => "all nodes commit the same block at a height",
        "I5" => "what was committed stays so, over restarts",
        "I6" => "what is committed is durable on a quorum of the disks",
        "I7" => "only a block of the leader's own term is committed by counting",
        "I8" => "on a disk the term never falls, and a term has one vote",
        "I9" => "executed <= commit <= chain, executed <= durable, and none of them falls",
        "I10" => "what a leader believes of a peer was acknowledged, and is durable there",
        "I13" => "what a client was told is final, exactly there",
        "I14" => "a request is committed once",
        "I15" => "a chain holds together from block 0 on",
        "I18" => "a read sees what was final when it was asked",
        "I19" => "equal stores at equal executed height",
        "I20" => "no message leaves before what it promises is durable",
        "C-7r" => "whoever waits for a read is told",
        "D-8" => "a full disk gets no blocks",
        "P9" => "after a failed write nothing comes but the end",
        "R-1" => "the first block of a term opens it, and no other does",
        "R-14" => "a leader sends a peer only what it does not know to be there",
        "L1" => "a healed network has a leader within three election timeouts",
        "L2" => "in a healed network all nodes end at one height",
        "L3" => "a healed network acknowledges writes",
        "L4" => "nothing piles up",
        "L5" => "at most one election in a healed minute",
        "halt" => "no engine finds its own state broken",
        _ => "",
    }
}
