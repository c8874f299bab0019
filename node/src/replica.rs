//! Decides everything and performs nothing: engine, pool, waiting clients and the gate before the engine, as one pure
//! state machine. `handle` takes an event, `flow` lets what can go on go on; both answer with actions.
//!
//! Invariants: executed <= min(committed, own durable); own durable <= appended. A block enters the engine only when
//! this node has itself found the quadruple that the block names. Leaves clock, threads, disk and sockets to `run`.

mod agreement;
mod answer;
mod clocks;
mod event;
mod follow;
mod lead;
mod read;
mod waiting;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use quipu_consensus::engine::{Engine, Role, Status};
use quipu_consensus::input::{Entropy, Input, SessionId, Tick};
use quipu_consensus::message::{Message, Report};
use quipu_consensus::output::{LogOperation, Output, RoleChange};
use quipu_crypto::id::{BlockId, Height, NetworkId, Slot, TimeMs, TransactionId};
use quipu_crypto::key::SecretKey;
use quipu_ledger::block::Executed;
use quipu_ledger::rules::ChainTip;

use self::agreement::Agreement;
use self::clocks::Clocks;
pub use self::event::{Action, Event, ExecutedBlock, Origin, Ticket};
use self::follow::Held;
use self::lead::Leading;
pub(crate) use self::lead::vote_entries;
use self::read::Reads;
use self::waiting::Waiting;
use crate::chain_block::{ChainBlock, configuration, to_wire};
use crate::client_protocol::ClockStatus;
use crate::limits::{EXECUTION_QUEUE_BLOCKS, POOL_ROOM};
use crate::network;
use crate::peer_protocol::PeerFrame;
use crate::pool::Pool;

/// The engine under a replica.
pub type BoxedEngine = Box<dyn Engine<Block = ChainBlock> + Send>;

/// What a replica starts from.
pub struct Beginning {
    /// This node.
    pub slot: Slot,
    /// Its key: blocks and votes are signed with it.
    pub key: SecretKey,
    /// The engine, restored from the same store.
    pub engine: BoxedEngine,
    /// The end of the stored chain.
    pub tip: Arc<ChainTip>,
    /// Own quadruples from the one that the last committed block names on; at least one.
    pub executed: BTreeMap<Height, Executed>,
    /// Time of the last executed block.
    pub executed_time: TimeMs,
    /// Greatest height of a block with transactions in the stored chain.
    pub last_transactions: Height,
}

/// When something happens: the engine's tick, the wall clock and the source of chance.
pub struct Moment<'a> {
    /// Forward only.
    pub now: Tick,
    /// The node's clock.
    pub wall: TimeMs,
    /// Chance.
    pub entropy: &'a mut dyn Entropy,
}

/// The replica.
pub struct Replica {
    slot: Slot,
    network: NetworkId,
    key: SecretKey,
    engine: BoxedEngine,
    /// Inputs that the replica itself has for the engine, taken before anything else happens.
    own_inputs: VecDeque<Input<ChainBlock>>,
    /// Sessions that are up.
    sessions: BTreeMap<Slot, SessionId>,
    role: Role,
    leader: Option<Slot>,
    /// The end of the appended chain; moved by what the engine asks to append.
    tip: Arc<ChainTip>,
    /// Last committed block; moved by the engine only.
    committed: BlockId,
    /// Asked to be executed up to here. Invariant: executed <= executing <= min(committed, own durable).
    executing: Height,
    /// Synced writes under way.
    unsynced: usize,
    agreement: Agreement,
    /// Time of the last executed block: what expires by then is never executed.
    executed_time: TimeMs,
    clocks: Clocks,
    /// Whether the engine may campaign, as last told to it.
    may_campaign: bool,
    clock_sent: Tick,
    held: Held,
    pool: Pool,
    leading: Leading,
    waiting: Waiting,
    /// Forwarded transactions for which there was no room, to be told to those who sent them.
    refusals: BTreeMap<(Slot, SessionId), Vec<TransactionId>>,
    reads: Reads,
    stopping: bool,
}

impl Replica {
    /// Begins where the store ends.
    #[must_use]
    pub fn new(beginning: Beginning) -> Self {
        let Beginning {
            slot,
            key,
            engine,
            tip,
            executed,
            executed_time,
            last_transactions,
        } = beginning;
        let status = engine.status();
        let agreement = Agreement::new(executed);
        Self {
            slot,
            network: tip.network(),
            key,
            role: status.role,
            leader: status.leader,
            committed: status.commit,
            executing: agreement.executed(),
            engine,
            own_inputs: VecDeque::new(),
            sessions: BTreeMap::new(),
            tip,
            unsynced: 0,
            agreement,
            executed_time,
            clocks: Clocks::default(),
            may_campaign: true,
            clock_sent: Tick(0),
            held: Held::default(),
            pool: Pool::new(POOL_ROOM),
            leading: Leading::new(last_transactions),
            waiting: Waiting::default(),
            refusals: BTreeMap::new(),
            reads: Reads::default(),
            stopping: false,
        }
    }

    /// Where the engine stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.engine.status()
    }

    /// Whether this node leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.role == Role::Leader
    }

    /// Whether this node leads and there is somebody to hand over to.
    #[must_use]
    pub fn hands_over(&self) -> bool {
        self.leads() && !self.sessions.is_empty()
    }

    /// How this node's clock stands beside its peers'.
    #[must_use]
    pub fn clock(&self) -> ClockStatus {
        self.clocks.status()
    }

    /// Transactions that wait for a block here, or for their result.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.pool.len().max(self.waiting.len())
    }

    /// The last height that this node has executed, and what it found there.
    #[must_use]
    pub fn executed(&self) -> Executed {
        self.agreement
            .at(self.agreement.executed())
            .copied()
            .unwrap_or_default()
    }

    /// Takes one event.
    pub fn handle(&mut self, moment: &mut Moment<'_>, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Tick => self.ticked(moment, out),
            // Heard of late, an older session must not take the place of the one that lives.
            Event::PeerUp { peer, session } if self.sessions.get(&peer).is_some_and(|live| *live >= session) => {}
            Event::PeerUp { peer, session } => {
                self.sessions.insert(peer, session);
                self.feed(moment, Input::PeerUp { peer, session }, out);
                self.tell_clock(moment, peer, session, out);
            }
            Event::PeerDown { peer, session } => {
                if self.sessions.get(&peer) == Some(&session) {
                    self.sessions.remove(&peer);
                    self.clocks.lost(peer);
                }
                self.held.drop_session(peer, session);
                self.feed(moment, Input::PeerDown { peer, session }, out);
            }
            Event::Engine { from, session, message } => self.message(moment, from, session, message, out),
            Event::Faulty { from } => self.feed(moment, Input::Distrust { leader: from }, out),
            Event::Submit { origin, transaction } => self.submitted(moment.now, origin, transaction, out),
            Event::NoRoom {
                slot,
                session,
                transactions,
            } => self.refusals.entry((slot, session)).or_default().extend(transactions),
            Event::Busy {
                from,
                session,
                transactions,
                retry_after_ms,
            } => self.refused_by(from, session, &transactions, retry_after_ms, out),
            Event::Read { ticket } => self.read(moment, ticket, out),
            Event::ReadIndex { from, session, number } => self.read_for_peer(moment, from, session, number, out),
            Event::ReadHeight { number, height } => self.read_height(number, height, out),
            Event::Clock { from, time } => self.clocks.heard(from, time, moment.wall),
            Event::Expire { time } => self.ask_for_block_at(time, out),
            Event::Persisted { seq } => {
                self.unsynced = self.unsynced.saturating_sub(1);
                self.feed(moment, Input::Persisted { seq }, out);
            }
            Event::PersistFailed { seq } => self.feed(moment, Input::PersistFailed { seq }, out),
            Event::Loaded {
                fetch,
                previous,
                blocks,
            } => {
                self.feed(
                    moment,
                    Input::Loaded {
                        fetch,
                        previous,
                        blocks,
                    },
                    out,
                );
            }
            Event::Executed(block) => self.executed_block(moment, &block, out),
            Event::Space { enough } => self.feed(moment, Input::MayAppend(enough), out),
            Event::Damaged { height, hash } => self.feed(moment, Input::Damaged { height, hash }, out),
            Event::Stop => {
                self.stopping = true;
                self.hand_over(moment, out);
            }
        }
    }

    /// Lets what can go on go on: call it after each batch of events. Cuts a block where the log writer is idle, hands
    /// committed blocks to the executor, sends what was gathered.
    pub fn flow(&mut self, moment: &mut Moment<'_>, out: &mut Vec<Action>) {
        self.cut_blocks(moment, out);
        self.dispatch_execution(out);
        self.forward(moment.now, out);
        self.tell_refusals(out);
    }

    /// The leader, where it is known and can be reached.
    fn leader_session(&self) -> Option<(Slot, SessionId)> {
        let leader = self.leader?;
        Some((leader, *self.sessions.get(&leader)?))
    }

    fn ticked(&mut self, moment: &mut Moment<'_>, out: &mut Vec<Action>) {
        let sound = !self.clocks.status().wrong && !self.stopping;
        if sound != self.may_campaign {
            self.may_campaign = sound;
            self.feed(moment, Input::MayCampaign(sound), out);
        }
        if moment.now.0.saturating_sub(self.clock_sent.0) >= crate::limits::CLOCK_INTERVAL_MS {
            self.clock_sent = moment.now;
            let sessions: Vec<_> = self.sessions.iter().map(|(peer, session)| (*peer, *session)).collect();
            for (peer, session) in sessions {
                self.tell_clock(moment, peer, session, out);
            }
        }
        self.feed(moment, Input::Tick, out);
        if self.stopping {
            self.hand_over(moment, out);
        }
        self.expire_waiting(moment, out);
        self.expire_reads(moment, out);
    }

    fn tell_clock(&self, moment: &Moment<'_>, to: Slot, session: SessionId, out: &mut Vec<Action>) {
        out.push(frame(to, session, &PeerFrame::Clock { time: moment.wall }));
    }

    fn message(
        &mut self,
        moment: &mut Moment<'_>,
        from: Slot,
        session: SessionId,
        message: Message<ChainBlock>,
        out: &mut Vec<Action>,
    ) {
        if let Message::Accepted(accepted) = &message {
            self.agreement.reported(from, accepted.executed);
        }
        match message {
            Message::Append(append) => self.append_received(moment, from, session, append, out),
            message => self.feed(moment, Input::Receive { from, session, message }, out),
        }
    }

    /// One input for the engine, and then whatever the answers make necessary at once.
    fn feed(&mut self, moment: &mut Moment<'_>, input: Input<ChainBlock>, out: &mut Vec<Action>) {
        self.own_inputs.push_back(input);
        self.drain(moment, out);
    }

    fn drain(&mut self, moment: &mut Moment<'_>, out: &mut Vec<Action>) {
        while let Some(input) = self.own_inputs.pop_front() {
            let mut outputs = Vec::new();
            self.engine.step(moment.now, moment.entropy, input, &mut outputs);
            for output in outputs {
                self.perform(moment, output, out);
            }
        }
    }

    fn perform(&mut self, moment: &Moment<'_>, output: Output<ChainBlock>, out: &mut Vec<Action>) {
        match output {
            Output::Persist { seq, operations, sync } => {
                self.unsynced = self.unsynced.saturating_add(1);
                self.note_operations(&operations);
                out.push(Action::Persist { seq, operations, sync });
            }
            Output::Send {
                to,
                session,
                class,
                message,
                after,
            } => {
                let message = self.sign_vote(to, message);
                let frame = network::encode_frame(&PeerFrame::Engine(to_wire(message)));
                out.push(Action::Send {
                    to,
                    session,
                    class,
                    frame,
                    after,
                });
            }
            Output::Commit { upto } => {
                assert!(upto.height >= self.committed.height, "the engine took a commit back");
                self.committed = upto;
            }
            Output::Fetch {
                fetch,
                first,
                last,
                max_bytes,
            } => {
                out.push(Action::Fetch {
                    fetch,
                    first,
                    last,
                    max_bytes,
                });
            }
            Output::ReadReady { ticket, height } => self.read_ready(ticket, Some(height), out),
            Output::ReadLost { ticket } => self.read_ready(ticket, None, out),
            Output::Role(change) => self.role_changed(moment, change, out),
            // Noted with the write that truncates, before what that write appends.
            Output::Truncated { .. } => {}
            Output::Evidence(evidence) => out.push(Action::Evidence(evidence)),
            Output::Halt(halt) => out.push(Action::Halt(halt.to_string())),
        }
    }

    /// Moves the tip along with what the engine appends.
    fn note_operations(&mut self, operations: &[LogOperation<ChainBlock>]) {
        for operation in operations {
            match operation {
                LogOperation::Truncate { from } => {
                    self.leading.truncated(*from);
                    let below = from.previous().unwrap_or_default();
                    if let Some(tip) = self.engine.block(below).and_then(ChainBlock::tip) {
                        self.tip = Arc::clone(tip);
                    }
                }
                LogOperation::Append(blocks) => {
                    for block in blocks {
                        if let Some(tip) = block.tip() {
                            self.tip = Arc::clone(tip);
                        }
                        if !block.block().transactions().is_empty() {
                            self.leading.transactions_at(block.block().header().height);
                        }
                    }
                }
                LogOperation::SetVote(_)
                | LogOperation::CommitHint(_)
                | LogOperation::Remember { .. }
                | LogOperation::Watermark(_)
                | LogOperation::Start(_)
                | LogOperation::Recover(_)
                | LogOperation::Restore(_) => {}
            }
        }
    }

    fn role_changed(&mut self, moment: &Moment<'_>, change: RoleChange, out: &mut Vec<Action>) {
        let before = self.role;
        self.role = self.engine.status().role;
        match change {
            RoleChange::Follower { leader, .. } => {
                self.leader = leader;
                self.held.clear();
            }
            RoleChange::Candidate { .. } => self.leader = None,
            RoleChange::Leader { votes, .. } => {
                self.role = Role::Leader;
                self.leader = Some(self.slot);
                self.held.clear();
                self.begin_to_lead(moment, &votes, out);
            }
        }
        if before == Role::Leader && self.role != Role::Leader {
            self.pool.clear();
            self.leading.stop();
        }
        self.waiting.send_again();
    }

    /// Executes what is committed and durable here, a bounded number of blocks ahead.
    fn dispatch_execution(&mut self, out: &mut Vec<Action>) {
        let durable = self.engine.status().durable.height;
        let queue_end = self.agreement.executed().plus(EXECUTION_QUEUE_BLOCKS);
        let end = self.committed.height.min(durable).min(queue_end);
        while self.executing < end {
            self.executing = self.executing.next();
            let block = self.engine.block(self.executing).map(|block| block.block().clone());
            out.push(Action::Execute {
                height: self.executing,
                block,
            });
        }
    }

    fn executed_block(&mut self, moment: &mut Moment<'_>, block: &ExecutedBlock, out: &mut Vec<Action>) {
        let height = block.id.height;
        assert_eq!(
            height,
            self.agreement.executed().next(),
            "blocks are executed one after the other"
        );
        assert!(height <= self.committed.height, "only committed blocks are executed");
        self.agreement.executed_here(block.executed);
        self.executed_time = block.time;
        if let Some(committed) = self.engine.block(self.committed.height) {
            self.agreement.forget_below(committed.block().header().executed.height);
        }
        self.leading.executed(&block.results);
        let report = Report {
            height,
            digest: block.executed.hash(),
        };
        self.feed(moment, Input::Executed { report }, out);
        self.answer_executed(block, out);
        self.reads_executed(height, out);
        self.retry_held(moment, out);
        if self.role == Role::Leader && self.agreement.in_minority(&configuration(self.tip.membership()).voters) {
            self.hand_over(moment, out);
        }
    }

    /// Asks the engine to hand leadership over. Said again and again, it tries one target after the other.
    fn hand_over(&mut self, moment: &mut Moment<'_>, out: &mut Vec<Action>) {
        self.feed(moment, Input::Transfer { to: None }, out);
    }
}

/// A small frame on the control stream that waits for no write.
fn frame(to: Slot, session: SessionId, frame: &PeerFrame) -> Action {
    Action::Send {
        to,
        session,
        class: quipu_consensus::output::Class::Control,
        frame: network::encode_frame(frame),
        after: None,
    }
}
