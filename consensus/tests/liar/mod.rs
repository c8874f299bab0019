//! A peer that says anything. Every field of every message is drawn from the values that break arithmetic: 0, small,
//! the largest.

#![allow(unreachable_pub)] // a test's module

use quipu_consensus::input::Entropy;
use quipu_consensus::message::{
    Accepted, Append, Found, Hello, Message, Promise, Rejected, Report, TimeoutNow, VoteAnswer, VoteRequest,
    VoteSignature, Want, Welcome,
};
use quipu_consensus::simulator::block::SimulatedBlock;
use quipu_consensus::simulator::random::Random;
use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height, Incarnation, Slot, Term};

/// Draws what a liar says. Half of the ids are of blocks that exist.
pub struct Liar {
    /// Its own chance.
    pub random: Random,
    /// The chain that it knows of.
    pub known: Vec<SimulatedBlock>,
    /// From the hello that it heard.
    pub nonce: u64,
}

impl Liar {
    fn number(&mut self) -> u64 {
        match self.random.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => u64::MAX.saturating_sub(self.random.below(3)),
            3 => self.random.bits(),
            _ => self.random.below(12),
        }
    }

    /// Mostly one that can be; else one of those that end all elections when they are believed.
    fn term(&mut self) -> Term {
        if self.random.chance(900) {
            Term(self.random.below(8))
        } else {
            Term(self.number())
        }
    }

    fn block(&mut self) -> SimulatedBlock {
        let place = self.random.below(u64::try_from(self.known.len()).unwrap_or(0));
        let known = usize::try_from(place)
            .ok()
            .and_then(|place| self.known.get(place))
            .cloned();
        let mut block = known.unwrap_or_else(SimulatedBlock::genesis);
        match self.random.below(6) {
            0 => block.id.height = Height(self.number()),
            1 => block.id.term = Term(self.number()),
            2 => block.id.hash = Hash::from_bytes([7; 32]),
            3 => block.size = self.number(),
            _ => {}
        }
        block
    }

    fn id(&mut self) -> BlockId {
        self.block().id
    }

    fn blocks(&mut self) -> (BlockId, Vec<SimulatedBlock>) {
        let parent = self.block().id;
        let mut blocks = Vec::new();
        let mut last = parent;
        for _ in 0..self.random.below(4) {
            let term = self.term().max(last.term);
            let fitting = SimulatedBlock::child(last, term, 50, self.random.below(3));
            let block = if self.random.chance(850) { fitting } else { self.block() };
            last = block.id;
            blocks.push(block);
        }
        (parent, blocks)
    }

    fn request(&mut self, term: Term) -> VoteRequest {
        let (round, last, membership) = (self.number(), self.id(), Height(self.number()));
        VoteRequest {
            term,
            round,
            last,
            membership,
            transfer: self.random.chance(300),
        }
    }

    fn answer(&mut self, term: Term) -> VoteAnswer {
        let (round, granted, last) = (self.random.below(20), self.random.chance(700), self.id());
        VoteAnswer {
            term,
            round,
            granted,
            last,
            signature: VoteSignature::default(),
        }
    }

    /// Anything at all.
    pub fn message(&mut self) -> Message<SimulatedBlock> {
        let term = self.term();
        match self.random.below(12) {
            0 | 1 => {
                let (previous, blocks) = self.blocks();
                let (commit, read_token) = (self.id(), self.number());
                Message::Append(Append {
                    term,
                    previous,
                    blocks,
                    commit,
                    read_token,
                    sign_at: Height(self.number()),
                })
            }
            2 => {
                let (upto, read_token) = (self.id(), self.number());
                Message::Accepted(Accepted {
                    term,
                    upto,
                    executed: Report::default(),
                    read_token,
                })
            }
            3 => Message::Rejected(Rejected {
                term,
                previous: Height(self.number()),
                conflict_term: Term(self.number()),
                conflict_first: Height(self.number()),
                tip: self.id(),
                read_token: self.number(),
            }),
            4 => Message::PreVote(self.request(term)),
            5 => Message::RequestVote(self.request(term)),
            6 => Message::PreVoteAnswer(self.answer(term)),
            7 => Message::VoteAnswer(self.answer(term)),
            8 => {
                let (start, tip, accepted) = (self.number(), self.id(), self.id());
                if self.random.chance(500) {
                    Message::Hello(Hello {
                        incarnation: Incarnation::default(),
                        nonce: self.number(),
                        start,
                        claimed: self.random.chance(500),
                        term,
                        tip,
                    })
                } else {
                    let remembered = Promise {
                        start: self.number(),
                        vote: self.term(),
                        accepted,
                    };
                    Message::Welcome(Welcome {
                        nonce: self.nonce,
                        term,
                        tip,
                        takes_part: self.random.chance(500),
                        remembered,
                    })
                }
            }
            9 => {
                let (height, hash) = (Height(self.number()), self.id().hash);
                Message::Want(Want { height, hash })
            }
            10 => {
                let (height, hash) = (Height(self.number()), self.id().hash);
                let block = Some(self.block());
                Message::Found(Found { height, hash, block })
            }
            _ => Message::TimeoutNow(TimeoutNow { term, target: Slot(1) }),
        }
    }

    /// What a member may say that no rule of a crash-tolerant engine can be held against: neither blocks, nor commits,
    /// nor acknowledgements, nor votes that it gives.
    pub fn message_of_a_member(&mut self) -> Message<SimulatedBlock> {
        loop {
            match self.message() {
                Message::Append(append) => {
                    return Message::Append(Append {
                        blocks: Vec::new(),
                        commit: BlockId::default(),
                        ..append
                    });
                }
                Message::VoteAnswer(answer) => {
                    return Message::VoteAnswer(VoteAnswer {
                        granted: false,
                        ..answer
                    });
                }
                Message::Accepted(_) => {}
                other => return other,
            }
        }
    }
}
