//! Whatever a peer says, an engine neither panics, nor halts, nor cuts what is committed.
//!
//! Every field of every message is drawn from the values that break arithmetic: 0, small, the largest.

#![allow(clippy::panic)] // a test stops where it fails

mod network;

use network::{SETTINGS, voters};
use quipu_consensus::engine::Settings;
use quipu_consensus::input::{Entropy, SessionId, Tick};
use quipu_consensus::message::{
    Accepted, Append, Hello, Message, Promise, Rejected, Report, TimeoutNow, VoteAnswer, VoteRequest, VoteSignature,
    Welcome,
};
use quipu_consensus::raft::RaftRules;
use quipu_consensus::simulator::block::SimulatedBlock;
use quipu_consensus::simulator::engine_host::{EngineHost, EngineSetup};
use quipu_consensus::simulator::participant::{Effect, Event, Participant};
use quipu_consensus::simulator::random::Random;
use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height, Incarnation, Slot, Term};

type Host = EngineHost<RaftRules>;

/// Draws what a liar says. Half of the ids are of blocks that exist.
struct Liar {
    random: Random,
    known: Vec<SimulatedBlock>,
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

    fn term(&mut self) -> Term {
        // The largest term ends elections for ever; here it would only end the test early.
        Term(self.random.below(8))
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

    fn message(&mut self) -> Message<SimulatedBlock> {
        let term = if self.random.chance(950) {
            self.term()
        } else {
            Term(self.number())
        };
        match self.random.below(10) {
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
                        start,
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
                        start: 1,
                        term,
                        tip,
                        remembered,
                    })
                }
            }
            _ => Message::TimeoutNow(TimeoutNow { term, target: Slot(1) }),
        }
    }
}

#[test]
fn no_message_makes_an_engine_panic_halt_or_cut_what_is_committed() {
    for seed in 0..400 {
        let settings = Settings {
            cache_bytes: seed % 3 * 200,
            ..SETTINGS
        };
        let setup = EngineSetup {
            settings,
            rules: RaftRules,
            configuration: voters(3),
        };
        let mut disk = Host::blank(&setup, Slot(1));
        let mut random = Random::new(seed);
        let mut host = Host::start(&setup, Slot(1), &mut disk, Tick(0), &mut random);
        let mut liar = Liar {
            random: random.split(),
            known: vec![SimulatedBlock::genesis()],
        };
        let mut events: Vec<Event<Message<SimulatedBlock>>> = vec![
            Event::PeerUp(Slot(2), SessionId(1)),
            Event::PeerUp(Slot(3), SessionId(1)),
        ];
        let mut committed = BlockId {
            height: Height(0),
            ..BlockId::default()
        };
        for now in 0..600_u64 {
            if liar.random.chance(100) {
                events.push(Event::Tick);
            }
            if liar.random.chance(100) {
                events.push(Event::Submit(now.saturating_add(1)));
            }
            let from = Slot(u32::try_from(2_u64.saturating_add(liar.random.below(2))).unwrap_or(2));
            events.push(Event::Receive(from, SessionId(1), liar.message()));
            let mut effects = Vec::new();
            for event in std::mem::take(&mut events) {
                host.handle(Tick(now.saturating_mul(7)), &mut random, event, &mut effects);
            }
            for effect in effects {
                match effect {
                    Effect::Write { seq, write, .. } => {
                        Host::apply(&mut disk, &write);
                        events.push(Event::Written(seq));
                    }
                    Effect::Halt(reason, _) => panic!("seed {seed}, step {now}: halted: {reason}"),
                    Effect::Commit(upto) => {
                        assert!(upto.height > committed.height, "seed {seed}: commit falls");
                        committed = upto;
                    }
                    _ => {}
                }
            }
            liar.known = Host::blocks(&disk).to_vec();
            let place = usize::try_from(committed.height.get()).unwrap_or(0);
            let held = liar.known.get(place).map(|block| block.id);
            assert!(
                committed.height == Height(0) || held == Some(committed),
                "seed {seed}: a committed block is gone"
            );
        }
    }
}
