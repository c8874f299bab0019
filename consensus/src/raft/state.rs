//! Keeps the state of a node: what every handler beside this file reads and moves.
//!
//! Invariants: `commit <= tip` and commit never falls; `vote.term` never falls; `log.base <= commit`; once `halted` is
//! set nothing is put out any more.
//! Leaves every decision to the handlers and the rules.

use std::collections::{BTreeMap, BTreeSet};

use quipu_crypto::id::{BlockId, Height, Incarnation, Slot, Term};

use super::evidence::Suspects;
use super::horizon::Horizon;
use super::log::{self, Log};
use super::membership::Membership;
use super::memory::Memory;
use super::pace::Pace;
use super::participation::Participation;
use super::persistence::Writes;
use super::progress::Progress;
use super::read::Reads;
use super::repair::Repairs;
use super::rules::Rules;
use crate::block::Block;
use crate::engine::{Restored, Settings};
use crate::input::{Entropy, FetchId, SessionId, Tick};
use crate::message::{Message, Promise, Report, VoteSignature};
use crate::output::{Class, Halt, LogOperation, Output, RoleChange, VoteRecord};

/// The Raft engine. See the crate's documentation for how to drive it.
#[derive(Clone, Debug)]
pub struct Raft<B, R> {
    pub(super) rules: R,
    pub(super) settings: Settings,
    pub(super) slot: Slot,
    pub(super) incarnation: Incarnation,
    /// The number of this start; on disk, and told to the peers, once it is claimed.
    pub(super) start: u64,
    /// Tells this process from every other of this node.
    pub(super) nonce: u64,
    /// Time of the present step. Never goes back.
    pub(super) now: Tick,
    /// Term and vote as the node acts on them; on disk once `writes.vote_is_durable()`.
    pub(super) vote: VoteRecord,
    /// The chain in memory, appended before it is durable.
    pub(super) log: Log<B>,
    pub(super) writes: Writes<B>,
    /// The last block known to be committed. Invariant: commit <= tip.
    pub(super) commit: BlockId,
    pub(super) membership: Membership,
    pub(super) stage: Stage,
    pub(super) participation: Participation,
    pub(super) memory: Memory,
    /// The live session of each peer that can be reached.
    pub(super) sessions: BTreeMap<Slot, SessionId>,
    /// Whom this node follows in its term.
    pub(super) leader: Option<Slot>,
    /// When that leader was last heard.
    pub(super) leader_heard: Tick,
    /// A leader that is treated as failed for a term.
    pub(super) distrusted: Option<(Term, Slot)>,
    pub(super) suspects: Suspects,
    pub(super) horizon: Horizon,
    pub(super) may_campaign: bool,
    /// Whether the disk has room for blocks.
    pub(super) may_append: bool,
    pub(super) repairs: Repairs,
    /// Number of the latest question to the store.
    pub(super) fetches: u64,
    /// When to campaign.
    pub(super) deadline: Tick,
    /// Whether this step asks for a new draw of `deadline`.
    pub(super) redraw: Redraw,
    /// Number of the latest candidacy or question about one, within this start.
    pub(super) round: u64,
    pub(super) executed: Report,
    /// What this step puts out, save the write, which goes first.
    pub(super) effects: Vec<Output<B>>,
    pub(super) broken: Option<Halt>,
    pub(super) halted: bool,
}

/// What a node does in its term.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    Follower,
    PreCandidate(Tally),
    Candidate(Tally),
    Leader(Leadership),
}

/// How to draw the deadline anew at the end of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Redraw {
    /// Not at all.
    #[default]
    No,
    /// Between the shortest and the longest election timeout.
    Fully,
    /// Soon, after a start: a live leader is heard within a contact interval, and the pre-vote does no harm.
    Soon,
    /// Late: this node led, and its blocks did not get through; the others go first (P-6).
    Late,
}

/// The answers to one candidacy, or to the question about one.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) round: u64,
    pub(super) term: Term,
    pub(super) last: BlockId,
    pub(super) granted: BTreeSet<Slot>,
    pub(super) votes: BTreeMap<Slot, VoteSignature>,
}

/// What only a leader keeps.
#[derive(Clone, Debug)]
pub(super) struct Leadership {
    pub(super) progress: BTreeMap<Slot, Progress>,
    /// Whether the opening block of the term is in the chain.
    pub(super) opened: bool,
    /// Number of the latest round of contacts; every message to a follower carries it.
    pub(super) token: u64,
    pub(super) reads: Reads,
    pub(super) transfer: Option<Transfer>,
    /// The targets of transfers that failed; empty again once every live voter is among them.
    pub(super) failed_transfers: BTreeSet<Slot>,
    pub(super) contact_due: Tick,
    pub(super) pace: Pace,
}

/// A leadership on its way to another node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) target: Slot,
    pub(super) until: Tick,
    pub(super) told: bool,
}

impl<B: Block, R: Rules> Raft<B, R> {
    /// An engine that goes on from what was read back from the disk.
    pub fn new(settings: Settings, restored: Restored<B>, rules: R, now: Tick, entropy: &mut dyn Entropy) -> Self {
        let Restored {
            slot,
            incarnation,
            starts,
            vote,
            terms,
            base,
            blocks,
            commit_hint,
            configuration,
            promises,
            watermark,
            recovering,
        } = restored;
        let mut broken = None;
        let mut log = Log::new(base, &terms);
        let mut membership = Membership::new(configuration.0, configuration.1);
        if !log::chained(base, &blocks) {
            broken = Some(Halt::Invariant("the restored blocks are a chain on the restored base"));
        } else {
            for block in blocks {
                membership.appended(&block);
                log.append(block);
            }
        }
        let committed = rules.restored_commit(commit_hint, log.tip().height);
        let commit = log.id(committed).unwrap_or_else(|| {
            broken.get_or_insert(Halt::Invariant("the commit hint lies within the restored blocks"));
            base
        });
        membership.settled(commit.height);
        let mut raft = Self {
            rules,
            settings,
            slot,
            incarnation,
            start: starts.saturating_add(1),
            nonce: entropy.below(u64::MAX),
            now,
            vote,
            writes: Writes::new(log.tip()),
            log,
            commit,
            membership,
            stage: Stage::Follower,
            participation: Participation::Full,
            memory: Memory::new(promises),
            sessions: BTreeMap::new(),
            leader: None,
            leader_heard: Tick(0),
            distrusted: None,
            suspects: Suspects::default(),
            horizon: Horizon::default(),
            may_campaign: true,
            may_append: true,
            repairs: Repairs::default(),
            fetches: 0,
            deadline: now,
            redraw: Redraw::No,
            round: 0,
            executed: Report::default(),
            effects: Vec::new(),
            broken,
            halted: false,
        };
        raft.begin(watermark, recovering, entropy);
        raft
    }

    /// Appends to the chain in memory and stages the write.
    pub(super) fn append(&mut self, blocks: Vec<B>) {
        for block in &blocks {
            if !self.log.fits(block) {
                return self.halt(Halt::Invariant("an appended block follows on the tip"));
            }
            self.membership.appended(block);
            self.log.append(block.clone());
        }
        self.writes.stage_append(blocks, self.log.tip());
    }

    /// Cuts the chain before `from`, in memory and in the write of this step (P5).
    pub(super) fn cut(&mut self, from: Height) {
        if from <= self.commit.height {
            return self.halt(Halt::Invariant("nothing is cut at or below the commit height"));
        }
        self.log.truncate(from);
        self.membership.truncated(from);
        self.repairs.truncated(from);
        let rules = &self.rules;
        let proven = |durable, below| rules.proven_after_cut(durable, below);
        self.writes.stage_cut(from, self.log.tip(), &proven);
        self.effects.push(Output::Truncated { from });
    }

    /// Everything up to `id`, a block of this chain, is committed.
    pub(super) fn commit_to(&mut self, id: BlockId) {
        if !self.rules.raises_commit(id.height, self.commit.height) {
            return;
        }
        if !self.log.contains(id) {
            return self.halt(Halt::Invariant("a committed block is in the chain"));
        }
        self.commit = id;
        if let Stage::Leader(lead) = &mut self.stage {
            lead.pace.committed();
        }
        self.membership.settled(id.height);
        self.writes.ride_hint(id.height, self.now);
        self.effects.push(Output::Commit { upto: id });
        self.trim();
        self.try_leave_recovery();
    }

    pub(super) fn trim(&mut self) {
        let settled = self.commit.height.min(self.writes.durable().height);
        self.log.trim(settled, self.settings.cache_bytes);
    }

    /// Enters `term` or stays in it, as a follower of `leader` or of nobody yet.
    pub(super) fn follow(&mut self, term: Term, leader: Option<Slot>) {
        let record = self.rules.step_down(self.vote, term);
        if record != self.vote {
            self.set_vote(record);
        }
        if let Stage::Leader(lead) = std::mem::replace(&mut self.stage, Stage::Follower) {
            let tickets = lead.reads.into_tickets().filter(|_| self.rules.tells_lost_reads());
            let lost = tickets.map(|ticket| Output::ReadLost { ticket });
            self.effects.extend(lost);
        }
        self.leader = leader;
        self.redraw = Redraw::Fully;
        self.effects.push(Output::Role(RoleChange::Follower { term, leader }));
    }

    /// Replaces the vote record; everything sent from now on waits for it (P1).
    pub(super) fn set_vote(&mut self, record: VoteRecord) {
        if record.term < self.vote.term {
            return self.halt(Halt::Invariant("the term never falls"));
        }
        self.vote = record;
        self.writes.stage_vote(LogOperation::SetVote(record));
    }

    /// Sends `message` where a session is up; it leaves once the vote record is durable (P1).
    pub(super) fn send(&mut self, to: Slot, class: Class, message: Message<B>) {
        self.send_after(to, class, message, None);
    }

    /// Like [`Self::send`], but waits for the block at `height` as well (P2).
    pub(super) fn send_after(&mut self, to: Slot, class: Class, message: Message<B>, height: Option<Height>) {
        let Some(session) = self.sessions.get(&to).copied() else {
            return;
        };
        let block = height.and_then(|height| self.writes.after_block(height));
        let after = self.rules.gate(self.writes.after_vote(), block);
        self.effects.push(Output::Send {
            to,
            session,
            class,
            message,
            after,
        });
    }

    pub(super) fn is_distrusted(&self, slot: Slot, term: Term) -> bool {
        self.distrusted == Some((term, slot))
    }

    /// What this node has promised once its present write is durable; nothing while it may have promised more. The
    /// claim of a start is such a write: whoever has recovered acknowledges what it has without another one.
    pub(super) fn watermark(&self) -> Option<Promise> {
        let sound = matches!(self.participation, Participation::Claiming { .. } | Participation::Full);
        sound.then(|| Promise {
            start: self.start,
            vote: self.vote.term,
            accepted: self.log.tip(),
        })
    }

    /// A number for a question to the store.
    pub(super) fn next_fetch(&mut self) -> FetchId {
        self.fetches = self.fetches.saturating_add(1);
        FetchId(self.fetches)
    }

    /// Stops for good: an invariant is broken or the disk has failed (P9).
    pub(super) fn halt(&mut self, halt: Halt) {
        self.broken.get_or_insert(halt);
    }
}
