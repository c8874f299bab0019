//! Bugs of votes, terms, elections, and of what a leader does to stay one.

use quipu_consensus::block::Configuration;
use quipu_consensus::output::VoteRecord;
use quipu_consensus::quorum;
use quipu_consensus::raft::Rules;
use quipu_crypto::id::{BlockId, Slot, Term};

use super::{Mutant, Planted};

mutants! {
    frail_disks: false;
    /// V-3: stepping down within a term frees its vote.
    ForgetsVoteOnStepDown, 1, "I8", "v03": {
        fn step_down(&self, _record: VoteRecord, term: Term) -> VoteRecord {
            VoteRecord { term, voted_for: None }
        }
    }
    /// V-1: the vote of a term may be given again.
    VotesTwice, 1, "I8", "v03": {
        fn vote_is_free(&self, record: VoteRecord, term: Term, _candidate: Slot) -> bool { term >= record.term }
    }
    /// Votes for a term that has passed.
    VotesInPassedTerms, 38, "halt", "v07": {
        fn vote_is_free(&self, record: VoteRecord, term: Term, candidate: Slot) -> bool {
            term > record.term || record.voted_for.is_none_or(|slot| slot == candidate)
        }
    }
    /// V-4: a candidacy does not use up the own vote.
    ForgetsOwnVote, 1, "I20", "v04": {
        fn candidacy(&self, term: Term, _own: Slot) -> VoteRecord { VoteRecord { term, voted_for: None } }
    }
    /// V-5: answers to an earlier candidacy count.
    CountsOldAnswers, 8, "I1", "v05": {
        fn answers_candidacy(&self, _answered: (Term, u64, BlockId), _asked: (Term, u64, BlockId)) -> bool { true }
    }
    /// V-6: the longer chain wins, whatever its term.
    LongerChainWins, 20, "I3", "v06": {
        fn up_to_date(&self, candidate: BlockId, own: BlockId) -> bool { candidate.height >= own.height }
    }
    /// V-6: the later term wins, however short the chain.
    LaterTermSuffices, 1, "I3", "v06": {
        fn up_to_date(&self, candidate: BlockId, own: BlockId) -> bool { candidate.term >= own.term }
    }
    /// Anybody may lead.
    AnyChainWins, 1, "I3", "v06": {
        fn up_to_date(&self, _candidate: BlockId, _own: BlockId) -> bool { true }
    }
    /// An equal chain is not good enough.
    OnlyBetterChainsWin, 1, "L1", "v01": {
        fn up_to_date(&self, candidate: BlockId, own: BlockId) -> bool {
            (candidate.term, candidate.height) > (own.term, own.height)
        }
    }
    /// Half of the voters suffices to win.
    HalfIsEnough, 1, "I1", "v05": {
        fn quorum(&self, configuration: &Configuration, agree: &dyn Fn(Slot) -> bool) -> bool {
            let agreeing = configuration.voters.iter().filter(|voter| agree(**voter)).count();
            agreeing >= configuration.voters.len() / 2
        }
    }
    /// Nothing is decided unless everybody agrees.
    AllMustAgree, 1, "L3", "v08": {
        fn quorum(&self, configuration: &Configuration, agree: &dyn Fn(Slot) -> bool) -> bool {
            configuration.voters.iter().all(|voter| agree(*voter))
        }
    }
    /// P1: the candidate counts its own vote before its own sync.
    CountsOwnVoteUnsynced, 16, "I1", "r09": {
        fn own_vote_counts(&self, _durable: bool) -> bool { true }
    }
    /// V-10: stands for election without asking, so whoever was cut off comes back with a later term.
    StandsWithoutAsking, 17, "L1", "v10": {
        fn asks_before_standing(&self) -> bool { false }
    }
    /// V-7: an old node does not learn the term from refusals.
    IgnoresLaterTerms, 24, "L1", "v07": {
        fn heeds_later_term(&self, _seen: Term, _own: Term) -> bool { false }
    }
    /// V-7: a refused question is answered in the term asked for.
    HidesItsTerm, 5, "L1", "v07": {
        fn refusal_names(&self, _own: Term, asked: Term) -> Term { asked }
    }
    /// A leader with nothing new to say is silent.
    FallsSilent, 1, "L5", "v10": {
        fn contacts(&self, _due: bool) -> bool { false }
    }
    /// V-12: a leader whose transfer failed takes no blocks any more.
    NeverGivesUpTransfer, 99, "L3", "v12": {
        fn gives_up_transfer(&self, _expired: bool) -> bool { false }
    }
    /// V-11: every node waits equally long.
    WaitsWithoutChance, 15, "L3", "v11": {
        fn election_wait(&self, least_ms: u64, _drawn_ms: u64) -> u64 { least_ms }
    }
    /// M-6 (CCF#3837): while joint, a majority of all together decides.
    MajorityOfTheUnion, 21, "I1", "m06": {
        fn quorum(&self, configuration: &Configuration, agree: &dyn Fn(Slot) -> bool) -> bool {
            let all = configuration.voters.union(&configuration.outgoing).copied().collect();
            quorum::majority(&all, agree)
        }
    }
    /// M-6: while joint, the incoming voters decide alone.
    IncomingDecideAlone, 21, "I1", "m06": {
        fn quorum(&self, configuration: &Configuration, agree: &dyn Fn(Slot) -> bool) -> bool {
            quorum::majority(&configuration.voters, agree)
        }
    }
    /// P-2, P-5: a leader that nobody answers goes on leading.
    LeadsUnanswered, 2, "L1", "v08": {
        fn keeps_leading(&self, _answered_by_quorum: bool) -> bool { true }
    }
}
