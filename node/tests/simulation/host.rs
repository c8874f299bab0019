//! Keeps one node as a process of the simulated world: the whole replica, and a thread each for inspection, admission,
//! execution and old blocks, all of which answer later.
//!
//! Invariant: it joins the parts as `run`, `inspect_peers`, `admit` and `executor` do, and decides nothing. Leaves the
//! gate before the network, and what is durable, to the world.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use quipu_consensus::engine::{Settings, Status};
use quipu_consensus::input::{Entropy, FetchId, PersistSeq, SessionId, Tick};
use quipu_consensus::message::Message;
use quipu_consensus::output::{LogOperation, VoteRecord};
use quipu_consensus::simulator::checkers::{Verdict, Violation};
use quipu_consensus::simulator::coverage::Sight;
use quipu_consensus::simulator::participant::{Claim, Damage, Effect, Event as WorldEvent, Link, Participant};
use quipu_crypto::id::{Height, Slot, TimeMs};
use quipu_crypto::key::SecretKey;
use quipu_ledger::block::{Block, Header};
use quipu_ledger::membership::Node;
use quipu_ledger::transaction::{SignedTransaction, VerifiedTransaction};
use quipu_node::admit::Rules;
use quipu_node::chain_block::ChainBlock;
use quipu_node::client_protocol::{Answer, Rejection};
use quipu_node::inspect::{Inspector, Known};
use quipu_node::inspect_peers::{self, Passed};
use quipu_node::limits::{ADMISSION_BATCH, READ_WAIT_MS};
use quipu_node::network::decode_frame;
use quipu_node::peer_protocol::{PeerFrame, TransactionBytes};
use quipu_node::replica::{Action, Event, ExecutedBlock, Moment, Origin, Replica, Ticket};
use quipu_node::start::restore;
use quipu_node::verified::VerifiedMemory;

#[path = "actions.rs"]
mod actions;
#[path = "threads.rs"]
mod threads;

use crate::clients::{Clients, block_of};
use crate::derived::Derived;
use crate::founding::{BEGIN_MS, Founding, slot_of};
use crate::image::{Image, Write, place};
use crate::record::violation;
use crate::worker::Worker;

/// How slow the threads of a node are, and how unsteady: drawn anew by each seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dose {
    /// Longest that the inspection of a message takes, ms; and so on.
    pub(crate) inspect_ms: u64,
    pub(crate) admit_ms: u64,
    pub(crate) execute_ms: u64,
    pub(crate) fetch_ms: u64,
    /// Blocks of a thousand at which the executor stands still for long.
    pub(crate) stall: u64,
    /// Events of a thousand after which the loop has more to take before it lets things flow.
    pub(crate) busy: u64,
    /// Blocks of a thousand after which what is derived is written.
    pub(crate) flush: u64,
    /// How far wall clocks are off, ms.
    pub(crate) wall_ms: u64,
    /// How far that of one node is off until the network is healed, ms; it may be behind.
    pub(crate) wrong_ms: i64,
    /// How many blocks the inspection remembers.
    pub(crate) remembered: usize,
}

/// What all nodes of a network share.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) founding: Rc<Founding>,
    pub(crate) settings: Settings,
    pub(crate) dose: Dose,
    pub(crate) clients: Rc<RefCell<Clients>>,
}

/// A frame on its way, and what it promises.
#[derive(Clone)]
pub(crate) struct Frame {
    frame: Rc<PeerFrame>,
    claim: Claim,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.frame {
            PeerFrame::Engine(Message::Append(append)) => {
                let (from, commit, count) = (append.previous.height, append.commit.height, append.blocks.len());
                write!(
                    f,
                    "Append term {} after {from} {count} blocks commit {commit}",
                    append.term
                )
            }
            PeerFrame::Forward(transactions) => write!(f, "Forward {}", transactions.len()),
            PeerFrame::Engine(message) => message.fmt(f),
            other => other.fmt(f),
        }
    }
}

/// What a peer's session brings, in order.
enum FromPeer {
    Up(SessionId),
    Down(SessionId),
    Frame(SessionId, Rc<PeerFrame>),
}

/// A transaction at the door.
struct Admission {
    bytes: Vec<u8>,
    origin: Origin,
}

/// What admission says of one.
enum Admitted {
    In(Origin, VerifiedTransaction),
    Out(Origin, Answer),
}

/// Blocks to read.
struct Fetch {
    fetch: FetchId,
    first: Height,
    last: Height,
    max_bytes: u64,
}

/// A write under way: as the world numbers it, and as the replica does where it is the replica's.
struct Writing {
    number: PersistSeq,
    seq: Option<PersistSeq>,
    /// The end of the log after it.
    tip: Height,
}

type Effects = Vec<Effect<Frame, Write>>;

/// The node.
pub(crate) struct Host {
    setup: Setup,
    node: Node,
    now: u64,
    replica: Replica,
    inspector: Inspector,
    verified: Arc<VerifiedMemory>,
    /// What was appended here and the inspector has not looked at.
    appended: VecDeque<Known>,
    derived: Derived,
    inspecting: Worker<(Slot, FromPeer), Option<Event>>,
    admitting: Worker<Vec<Admission>, Vec<Admitted>>,
    executing: Worker<(Height, Option<Block>), ExecutedBlock>,
    fetching: Worker<Fetch, Event>,
    /// At the door.
    door: VecDeque<Admission>,
    actions: Vec<Action>,
    writes: VecDeque<Writing>,
    written: u64,
    /// What each block of the log names as executed.
    named: BTreeMap<Height, Height>,
    /// The end of the log that is durable, and the end with what is on its way.
    durable: Height,
    tip: Height,
    committed: Height,
    disk_failed: bool,
    /// Whether the node was told that its disk has no room.
    disk_full: bool,
    /// The next height that the scrubber looks at.
    scrub: Height,
    /// Calls that read: what the world names them, and when they began.
    reads: BTreeMap<u64, (u64, u64)>,
    /// Those that had waited for too long at the last tick.
    overdue: BTreeSet<u64>,
    /// When a stopping process ends at the latest.
    stops_at: Option<u64>,
}

impl Participant for Host {
    type Message = Frame;
    type Write = Write;
    type Image = Image;
    type Setup = Setup;

    fn blank(setup: &Setup, _slot: Slot) -> Image {
        Image::blank(&setup.founding.genesis.block())
    }

    fn apply(image: &mut Image, write: &Write) {
        image.apply(write);
    }

    fn damage(image: &mut Image, damage: Damage, at: Height) -> bool {
        image.damage(damage, at)
    }

    fn start(setup: &Setup, slot: Slot, image: &mut Image, now: Tick, entropy: &mut dyn Entropy) -> Self {
        image.cut_unreadable_end();
        let key = key_of(&setup.founding, slot);
        let node = setup.founding.genesis.membership().node(slot).unwrap().clone();
        let begins = restore::Start {
            node: &node,
            key: &key,
            settings: setup.settings,
            watermark: image.watermark,
        };
        let derived = Derived::clone(&image.derived);
        let restart = restore::read(image, derived.executed(), &begins, now, entropy).unwrap();
        let verified = Arc::new(VerifiedMemory::default());
        let inspector = Inspector::new(slot, Arc::clone(&verified), restart.base, restart.blocks.into_iter())
            .remembering(setup.dose.remembered);
        setup.clients.borrow_mut().started(slot);
        let tip = image.links.last().unwrap().id.height;
        Self {
            setup: setup.clone(),
            node,
            now: now.0,
            replica: Replica::new(restart.beginning),
            inspector,
            verified,
            appended: VecDeque::new(),
            derived,
            inspecting: Worker::new(),
            admitting: Worker::new(),
            executing: Worker::new(),
            fetching: Worker::new(),
            door: VecDeque::new(),
            actions: Vec::new(),
            writes: VecDeque::new(),
            written: 0,
            named: image.named(),
            durable: tip,
            tip,
            committed: Height::ZERO,
            disk_failed: false,
            disk_full: false,
            scrub: Height::ZERO,
            reads: BTreeMap::new(),
            overdue: BTreeSet::new(),
            stops_at: None,
        }
    }

    fn handle(
        &mut self,
        now: Tick,
        entropy: &mut dyn Entropy,
        disk: &Image,
        event: WorldEvent<Frame>,
        effects: &mut Effects,
    ) {
        self.now = now.0;
        // An assertion of the product is a violation like any other.
        let taken = catch_unwind(AssertUnwindSafe(|| self.take(entropy, disk, event, effects)));
        let verdict = taken.unwrap_or_else(|panic| violation("panic", text_of(panic.as_ref())));
        effects.extend(verdict.err().map(Effect::Broken));
    }

    fn status(&self) -> Status {
        self.replica.status()
    }

    fn chain(image: &Image) -> &[Link] {
        &image.links
    }

    fn starts(image: &Image) -> u64 {
        image.starts
    }

    fn remembered_start(image: &Image, of: Slot) -> u64 {
        image.promises.get(&of).map_or(0, |promise| promise.start)
    }

    fn vote(image: &Image) -> VoteRecord {
        image.vote
    }

    fn claim(message: &Frame) -> Claim {
        message.claim
    }

    fn clock(setup: &Setup, now: u64, healed: bool) {
        setup.clients.borrow_mut().clock(now, healed);
    }
}

impl Host {
    fn take(
        &mut self,
        entropy: &mut dyn Entropy,
        disk: &Image,
        event: WorldEvent<Frame>,
        effects: &mut Effects,
    ) -> Verdict {
        self.setup.clients.borrow_mut().seen(self.node.slot);
        let lets_flow = matches!(event, WorldEvent::Tick) || entropy.below(1000) >= self.setup.dose.busy;
        match event {
            WorldEvent::Tick => {
                self.look_for_overdue()?;
                self.scrub(entropy, disk, effects);
                self.tell(entropy, Event::Tick);
            }
            WorldEvent::PeerUp(peer, session) => self.inspecting.push((peer, FromPeer::Up(session))),
            WorldEvent::PeerDown(peer, session) => self.inspecting.push((peer, FromPeer::Down(session))),
            WorldEvent::Receive(from, session, message) => {
                self.inspecting.push((from, FromPeer::Frame(session, message.frame)));
            }
            WorldEvent::Written(number) => self.written(entropy, number),
            WorldEvent::WriteFailed(number) => self.write_failed(entropy, number, effects),
            WorldEvent::Submit(request) => self.setup.clients.borrow_mut().wish(request, self.node.slot),
            WorldEvent::Read(number) => {
                let call = self.setup.clients.borrow_mut().read(self.node.slot);
                self.reads.insert(call, (number, self.now));
                self.tell(entropy, Event::Read { ticket: Ticket(call) });
            }
            WorldEvent::Transfer => {
                self.stops_at.get_or_insert(self.now + 1_500);
                self.tell(entropy, Event::Stop);
            }
            WorldEvent::DiskFull(full) => {
                self.disk_full = full;
                self.tell(entropy, Event::Space { enough: !full });
            }
            WorldEvent::Wake => {}
        }
        for delivery in self.setup.clients.borrow_mut().deliveries(self.node.slot) {
            self.door.push_back(Admission {
                bytes: delivery.bytes,
                origin: Origin::Client {
                    key: self.setup.founding.client.public(),
                    ticket: Ticket(delivery.call),
                },
            });
        }
        self.work(entropy, disk, lets_flow, effects)?;
        if self
            .stops_at
            .is_some_and(|until| self.now >= until || !self.replica.hands_over())
        {
            effects.push(Effect::Restart(1 + entropy.below(1_500)));
        }
        Ok(())
    }

    /// A read is over in its time, whatever the node has to wait for: a tick gives up on it, and the next sees that.
    fn look_for_overdue(&mut self) -> Verdict {
        let late = |since: u64| self.now.saturating_sub(since) >= READ_WAIT_MS;
        let late: BTreeSet<u64> = self
            .reads
            .iter()
            .filter(|(_, (_, since))| late(*since))
            .map(|(call, _)| *call)
            .collect();
        let before = std::mem::replace(&mut self.overdue, late);
        match self.overdue.intersection(&before).next() {
            Some(call) => {
                let since = self.reads[call].1;
                let (slot, now) = (self.node.slot, self.now);
                violation(
                    "answer",
                    format!("read {call} waits at {slot} since {since}, it is {now}"),
                )
            }
            None => Ok(()),
        }
    }

    /// Looks at one stored block.
    fn scrub(&mut self, entropy: &mut dyn Entropy, disk: &Image, effects: &mut Effects) {
        self.scrub = if self.scrub < self.tip {
            self.scrub.next()
        } else {
            Height::ZERO
        };
        self.report(entropy, disk, self.scrub, effects);
    }

    /// Tells the replica where the block at `height` cannot be read; whether that is so.
    fn report(&mut self, entropy: &mut dyn Entropy, disk: &Image, height: Height, effects: &mut Effects) -> bool {
        let Some((height, hash)) = disk.unreadable(height) else {
            return false;
        };
        effects.push(Effect::See(Sight::DamageFound));
        self.tell(entropy, Event::Damaged { height, hash });
        true
    }

    /// Lets the threads and the replica go on until all of them wait for something.
    fn work(&mut self, entropy: &mut dyn Entropy, disk: &Image, lets_flow: bool, effects: &mut Effects) -> Verdict {
        loop {
            if lets_flow {
                let mut actions = std::mem::take(&mut self.actions);
                let (replica, mut moment) = self.moment(entropy);
                replica.flow(&mut moment, &mut actions);
                self.actions = actions;
            }
            self.perform(disk, effects)?;
            self.begin(entropy, disk, effects)?;
            if self.committed_more(effects) {
                // The oracle looks at the status that a commit was made in, so nothing else happens in this step.
                effects.push(Effect::Wake(0));
                return Ok(());
            }
            if !self.complete(entropy)? && self.actions.is_empty() {
                return Ok(());
            }
        }
    }

    fn moment<'a>(&'a mut self, entropy: &'a mut dyn Entropy) -> (&'a mut Replica, Moment<'a>) {
        let moment = Moment {
            now: Tick(self.now),
            wall: wall(&self.setup, self.node.slot),
            entropy,
        };
        (&mut self.replica, moment)
    }

    fn tell(&mut self, entropy: &mut dyn Entropy, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        let (replica, mut moment) = self.moment(entropy);
        replica.handle(&mut moment, event, &mut actions);
        self.actions = actions;
    }

    fn written(&mut self, entropy: &mut dyn Entropy, number: PersistSeq) {
        while let Some(done) = self.writes.pop_front_if(|writing| writing.number <= number) {
            self.durable = done.tip;
            if let Some(seq) = done.seq {
                self.tell(entropy, Event::Persisted { seq });
            }
        }
    }

    fn write_failed(&mut self, entropy: &mut dyn Entropy, number: PersistSeq, effects: &mut Effects) {
        self.disk_failed = true;
        let failed = self.writes.iter().find(|writing| writing.number == number);
        match failed.and_then(|writing| writing.seq) {
            Some(seq) => self.tell(entropy, Event::PersistFailed { seq }),
            None => effects.push(Effect::Halt("what is derived could not be written".to_owned(), true)),
        }
    }

    /// Tells the world what has been committed since the last time.
    fn committed_more(&mut self, effects: &mut Effects) -> bool {
        let commit = self.replica.status().commit;
        let more = commit.height > self.committed;
        if more {
            self.committed = commit.height;
            effects.push(Effect::Commit(commit));
        }
        more
    }

    /// Writes what is derived, as a database does when its memory is full.
    fn flush(&mut self, effects: &mut Effects) {
        assert!(
            self.derived.digest_is_right(),
            "I19: the state digest is not that of the state"
        );
        let write = Write::Derived(Rc::new(self.derived.clone()));
        self.write(None, write, true, effects);
    }

    fn write(&mut self, seq: Option<PersistSeq>, write: Write, sync: bool, effects: &mut Effects) {
        self.written += 1;
        let number = PersistSeq(self.written);
        let tip = self.tip;
        self.writes.push_back(Writing { number, seq, tip });
        effects.push(Effect::Write {
            seq: number,
            write,
            sync,
        });
    }
}

fn key_of(founding: &Founding, slot: Slot) -> SecretKey {
    let mut keys = founding.keys.iter();
    keys.find(|key| slot_of(&founding.genesis, key) == slot)
        .unwrap()
        .clone()
}

/// The clock of a node's machine: near the true one, whatever its ticks do.
fn wall(setup: &Setup, slot: Slot) -> TimeMs {
    let clients = setup.clients.borrow();
    let mut now = BEGIN_MS + clients.now;
    if !clients.healed && clients.slots.len() > 2 && clients.slots.first() == Some(&slot) {
        now = now.saturating_add_signed(setup.dose.wrong_ms);
    }
    let off = u64::from(slot.get()) * 7_919 % (setup.dose.wall_ms + 1);
    TimeMs(if slot.get().is_multiple_of(2) {
        now + off
    } else {
        now - off
    })
}

/// What a panic says.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}
