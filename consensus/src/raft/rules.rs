//! Keeps the decisions on which the safety of the engine rests, one function each, apart from the machinery.
//!
//! Invariant: every default is the rule itself and cites where it comes from. [`RaftRules`] changes none of them; the
//! mutants of the tests change one each, so a rule without a test that notices its absence cannot hide.
//! Leaves when to ask, and what follows from the answer, to the modules beside it.

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height, Slot, Term};

use crate::block::Configuration;
use crate::input::{PersistSeq, SessionId};
use crate::output::VoteRecord;
use crate::quorum;

/// The decision points of the engine. Each default is the product's rule.
pub trait Rules {
    /// Whether a candidate's last block is at least as good as one's own: by term first, then by height (V-6). Equal
    /// height and term with another hash is a contradiction, never good enough (H-1).
    fn up_to_date(&self, candidate: BlockId, own: BlockId) -> bool {
        let (theirs, ours) = ((candidate.term, candidate.height), (own.term, own.height));
        theirs > ours || (theirs == ours && candidate.hash == own.hash)
    }

    /// Whether the vote of `term` is still free for `candidate`: one vote a term, for ever (V-1, V-3).
    fn vote_is_free(&self, record: VoteRecord, term: Term, candidate: Slot) -> bool {
        match record.voted_for {
            _ if term > record.term => true,
            Some(slot) => term == record.term && slot == candidate,
            None => term == record.term,
        }
    }

    /// The vote record after stepping down into `term`: the vote of a term is kept for as long as the term (V-3).
    fn step_down(&self, record: VoteRecord, term: Term) -> VoteRecord {
        if term > record.term {
            VoteRecord { term, voted_for: None }
        } else {
            record
        }
    }

    /// The vote record of a candidacy: one's own vote is a vote (V-4).
    fn candidacy(&self, term: Term, own: Slot) -> VoteRecord {
        VoteRecord {
            term,
            voted_for: Some(own),
        }
    }

    /// Whether a follower keeps to the leader that it hears: a candidate that was cut off must wait (V-10).
    fn keeps_to_leader(&self, silence_ms: u64, election_min_ms: u64, transfer: bool) -> bool {
        !transfer && silence_ms < election_min_ms
    }

    /// Whether a node asks the others before it stands for election: a candidacy costs everybody a term (thesis 9.6).
    fn asks_before_standing(&self) -> bool {
        true
    }

    /// How long a node waits for a leader before it stands for election: by chance, anew each time (V-11).
    fn election_wait(&self, least_ms: u64, drawn_ms: u64) -> u64 {
        least_ms.saturating_add(drawn_ms)
    }

    /// Whether a refusal out of `seen` ends the own term: a later one does, or an old node never learns it (V-7).
    fn heeds_later_term(&self, seen: Term, own: Term) -> bool {
        seen > own
    }

    /// The term that a refused question is answered with: the own one, so that an old node learns it (V-7).
    fn refusal_names(&self, own: Term, _asked: Term) -> Term {
        own
    }

    /// Which of its blocks a voter weighs against a candidate's: its tip, be it on the way to the disk still. Weighing
    /// less, it could acknowledge the block after it has voted for somebody without it (P8, figure 8).
    fn weighed(&self, tip: BlockId, _durable: BlockId) -> BlockId {
        tip
    }

    /// Whether one who showed a contradiction lately gets no vote: a liar must not win every next election (H-1).
    fn shuns(&self, suspect: bool) -> bool {
        suspect
    }

    /// Whether a term is heard of: one that is near, or that more than half of the others have named (V-10).
    fn hears_term(&self, asked: Term, near: Term, named_by_most: bool) -> bool {
        asked <= near || named_by_most
    }

    /// Whether a leader goes on leading: as long as a quorum has answered it lately (check-quorum; P-2, P-5).
    fn keeps_leading(&self, answered_by_quorum: bool) -> bool {
        answered_by_quorum
    }

    /// Whether an order to stand for election is obeyed: only the leader of the own term gives one (V-12).
    fn obeys_order(&self, ordered: Term, own: Term, by_leader: bool) -> bool {
        ordered == own && by_leader
    }

    /// Whether a transfer is begun: not while one runs, which has its time (V-12).
    fn begins_transfer(&self, one_runs: bool) -> bool {
        !one_runs
    }

    /// Whether a transfer is given up that had its time: a leader that takes no blocks must end (V-12).
    fn gives_up_transfer(&self, expired: bool) -> bool {
        expired
    }

    /// Whether every target of a transfer that failed is remembered, until all were tried: of three who could lead, two
    /// may never hear the order (V-12).
    fn remembers_targets(&self) -> bool {
        true
    }

    /// Whether an answer to a candidacy counts: it must answer this one, not an earlier one (V-5).
    fn answers_candidacy(&self, answered: (Term, u64, BlockId), asked: (Term, u64, BlockId)) -> bool {
        answered == asked
    }

    /// Whether a set of voters decides.
    fn quorum(&self, configuration: &Configuration, agree: &dyn Fn(Slot) -> bool) -> bool {
        quorum::reached(configuration, agree)
    }

    /// The greatest height that a deciding set of voters holds.
    fn quorum_height(&self, configuration: &Configuration, held: &dyn Fn(Slot) -> Height) -> Height {
        quorum::height(configuration, held)
    }

    /// The write that a message must wait for: that of the vote record (P1) and of the blocks it speaks of (P2).
    fn gate(&self, vote: Option<PersistSeq>, blocks: Option<PersistSeq>) -> Option<PersistSeq> {
        vote.max(blocks)
    }

    /// Whether one's own vote counts already: not before it is durable (P1).
    fn own_vote_counts(&self, durable: bool) -> bool {
        durable
    }

    /// What a block that is durable, or on its way to the disk, still proves once everything above `below` is cut:
    /// nothing of another block at its height.
    fn proven_after_cut(&self, durable: BlockId, below: BlockId) -> BlockId {
        if durable.height > below.height { below } else { durable }
    }

    /// Whether the process stops when a write fails: what is durable is unknown from then on (D-1, P9).
    fn stops_at_failed_write(&self) -> bool {
        true
    }

    /// What a start takes for committed: what was known to be, not all that is there (P4).
    fn restored_commit(&self, hint: Height, _tip: Height) -> Height {
        hint
    }

    /// Up to where the leader counts itself: what it has durably, not what it has (P3).
    fn own_height(&self, durable: Height, _tip: Height) -> Height {
        durable
    }

    /// Whether a block of `block` term may be committed by counting in `own` term (R-1, figure 8 of the Raft paper).
    fn commits_by_counting(&self, block: Term, own: Term) -> bool {
        block == own
    }

    /// Whether what was just learned raises the commit height: it never falls (I9).
    fn raises_commit(&self, learned: Height, commit: Height) -> bool {
        learned > commit
    }

    /// Whether a leader's message is of a term that has not ended for this node.
    fn is_current(&self, sent: Term, own: Term) -> bool {
        sent >= own
    }

    /// Whether two different blocks at one height contradict each other: both of one term, or one of them committed.
    /// Others are cut lawfully, these never (H-1).
    fn contradicts(&self, held: BlockId, shown: BlockId, commit: Height) -> bool {
        held.height <= commit || held.term == shown.term
    }

    /// Whether two blocks are one: by hash, not by height and term alone.
    fn same_block(&self, held: BlockId, shown: BlockId) -> bool {
        held == shown
    }

    /// What to acknowledge: the last block of the message, never more (CCF#6001).
    fn acknowledged(&self, last_of_message: BlockId, _tip: BlockId) -> BlockId {
        last_of_message
    }

    /// Where to cut before appending: at the first block that differs; nowhere if none does (CCF#5927).
    fn cut(&self, first_difference: Option<Height>, _previous: Height) -> Option<Height> {
        first_difference
    }

    /// Up to where a follower may take the leader's word: no further than the message shows the chains to be equal.
    fn follower_commit(&self, leader_commit: Height, last_of_message: Height, _tip: Height) -> Height {
        leader_commit.min(last_of_message)
    }

    /// Whether an answer belongs to this leadership.
    fn answers_leadership(&self, answered: Term, own: Term) -> bool {
        answered == own
    }

    /// What a refusal proves to be stored: nothing (CCF#5325).
    fn matched_after_rejection(&self, matched: Height, _tip: Height) -> Height {
        matched
    }

    /// Where a leader goes on after a refusal: where its hint says, but always above what is acknowledged.
    fn next_after_refusal(&self, hinted: Height, matched: Height) -> Height {
        hinted.max(matched.next())
    }

    /// Whether blocks count as lost on their way: nothing was acknowledged for too long.
    fn seems_lost(&self, stuck: bool) -> bool {
        stuck
    }

    /// How many bytes may be in flight to a peer (L4).
    fn window(&self, bytes: u64) -> u64 {
        bytes
    }

    /// Whether a leader takes no more blocks: what is not committed must stay bounded.
    fn is_full(&self, uncommitted_bytes: u64, limit: u64) -> bool {
        uncommitted_bytes >= limit
    }

    /// Whether the next block must open the term: without a block of its own a leader may commit nothing.
    fn must_open(&self, opened: bool) -> bool {
        !opened
    }

    /// Whether a leader speaks although there is nothing new: before the others miss it.
    fn contacts(&self, due: bool) -> bool {
        due
    }

    /// Whether a message came over the session that is live: an older one may bring anything late (H-9).
    fn is_live(&self, live: Option<SessionId>, came: SessionId) -> bool {
        live == Some(came)
    }

    /// Whether a read may go on before the leader has committed a block of its own term (C-1r).
    fn reads_at(&self, committed: Term, own: Term) -> bool {
        committed == own
    }

    /// Whether a read needs a round of contacts (C-2r).
    fn read_needs_round(&self) -> bool {
        true
    }

    /// Whether the echo of a contact confirms a round of reads: a contact of that round or a later one (C-2r).
    fn confirms(&self, echoed: u64, round: u64) -> bool {
        echoed >= round
    }

    /// The last block that a refusal shows where the message fits: one that the leader has as well. The own tip, on a
    /// fork for whose replacement there is no room, would have the leader ask ever lower (D-8, D-10).
    fn shows(&self, fits: BlockId, _tip: BlockId) -> BlockId {
        fits
    }

    /// Whether a refusal echoes the contact that it answers: its answer is in the own term, so only one of it. Who led
    /// an earlier term and leads this one would take the echo for one of this term (C-2r). Whoever recovers may have
    /// voted for a later leader and forgotten it: its echo would prove nothing (D-10).
    fn echoes(&self, asked: Term, own: Term, takes_part: bool) -> bool {
        asked == own && takes_part
    }

    /// Whether clients hear that their reads cannot be confirmed any more: nobody waits for ever (C-7r).
    fn tells_lost_reads(&self) -> bool {
        true
    }

    /// Whether a welcome answers this process, not an earlier one of the node (D-10).
    fn answers_start(&self, answered: u64, own: u64) -> bool {
        answered == own
    }

    /// Whether a start comes from an old copy of a disk: it has the number of one that a peer remembers, or an earlier
    /// one (D-10).
    fn is_old_start(&self, own: u64, remembered: u64) -> bool {
        own <= remembered
    }

    /// Whether the own disk is older than what a peer remembers: of starts, of votes, of acknowledged blocks (D-10).
    fn has_forgotten(&self, started: bool, voted: bool, accepted: bool) -> bool {
        started || voted || accepted
    }

    /// Whether a block that was promised is made up for by what is committed: up to its height nothing else can be
    /// final, so if it is not among it, it never was (D-10).
    fn settles(&self, committed: Height, promised: Height) -> bool {
        committed >= promised
    }

    /// Whether the number of a start is on record before the node may take part. An old copy of a disk that crashes
    /// while it asks would count itself past the number that its peers remember (D-10).
    fn claims_while_it_asks(&self) -> bool {
        false
    }

    /// Whether a recovering node writes down that it recovers: where its disk does not say so yet, the next start might
    /// find nothing amiss (D-10).
    fn notes_recovery(&self, noted: bool) -> bool {
        !noted
    }

    /// Whether what is remembered of a node is all that it promised. It is the least: what a peer or its own note had
    /// not synced yet is gone with a crash (D-4, D-10).
    fn remembers_all(&self) -> bool {
        false
    }

    /// Whether the word of a peer counts for a recovering node: of one that takes part itself. Its disk, too, may have
    /// forgotten what both held (D-10).
    fn vouches(&self, takes_part: bool) -> bool {
        takes_part
    }

    /// Whether enough peers told what they remember: all, or, after a bounded wait, a quorum (D-10).
    fn ends_wait(&self, all: bool, waited: bool, quorum: bool) -> bool {
        all || (waited && quorum)
    }

    /// The vote record once a vote in `term` may be forgotten: it counts as given to oneself (D-10).
    fn spent(&self, record: VoteRecord, term: Term, own: Slot) -> VoteRecord {
        if term == record.term && record.voted_for.is_none() {
            self.candidacy(term, own)
        } else {
            record
        }
    }

    /// Whether a recovery is over: a block of a later term than every forgotten one is committed, or every peer has
    /// told what it remembers and all of it is here (D-10).
    fn ends_recovery(&self, later: bool, all: bool, held: bool) -> bool {
        later || (all && held)
    }

    /// Whether a leader asks a restarted peer again for what it acknowledged: its disk may be an old copy (D-10).
    fn asks_again_after_restart(&self) -> bool {
        true
    }

    /// Whether a block that a peer sent is the one whose copy here is damaged: by hash, whoever sent it.
    fn is_wanted(&self, found: BlockId, height: Height, hash: Hash) -> bool {
        found.height == height && found.hash == hash
    }

    /// Whether a leader gives way: blocks wait for their commit for longer than anything but a fault explains, and no
    /// quorum catches up either. Contacts that pass prove nothing where blocks do not (P-6).
    fn gives_way(&self, waiting_ms: u64, stall_ms: u64, quorum_gets_on: bool) -> bool {
        waiting_ms >= stall_ms && !quorum_gets_on
    }

    /// Whether a leader hands over for the sake of its disk: for nearly all of `window_ms` blocks were committed by the
    /// others before its own disk had them (D-9).
    fn disk_is_too_slow(&self, behind_ms: u64, window_ms: u64) -> bool {
        behind_ms.saturating_mul(10) >= window_ms.saturating_mul(9)
    }

    /// Whether a node takes new blocks: not where the disk has no room for them (D-8).
    fn takes_blocks(&self, may_append: bool) -> bool {
        may_append
    }

    /// After how long a leader sends blocks again for an answer that was no news. Whoever has no room for them, or
    /// holds them back, would be sent them without an end (D-8).
    fn sends_again_after(&self, patience_ms: u64) -> u64 {
        patience_ms
    }

    /// Whether what a node noted beside its log is more than its log holds (D-4).
    fn has_lost_its_end(&self, noted_is_held: bool) -> bool {
        !noted_is_held
    }

    /// Whether a node takes part in deciding before it has heard enough peers remember it (D-10).
    fn takes_part(&self, waiting: bool, recovering: bool) -> bool {
        !waiting && !recovering
    }
}

/// The rules of the product: every default as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RaftRules;

impl Rules for RaftRules {}
