//! The language of the scenarios: a network that does only what its script says, and writes down what it did.
//!
//! A line is a command; an indented line is what followed, kept in the file as it must be. `QUIPU_UPDATE=1` rewrites
//! them; `expect` lines are never rewritten. The commands are listed at `Script::command`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]
#![allow(dead_code, unreachable_pub)] // a test stops where it fails; each target uses its part

mod arguments;
mod course;
mod expect;
mod forge;
mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use quipu_consensus::input::{Entropy, PersistSeq, SessionId, Tick};
use quipu_consensus::message::Message;
use quipu_consensus::output::{LogOperation, VoteRecord};
use quipu_consensus::raft::Rules;
use quipu_consensus::simulator::block::SimulatedBlock;
use quipu_consensus::simulator::coverage::Sight;
use quipu_consensus::simulator::disk::Disk;
use quipu_consensus::simulator::engine_host::{EngineHost, EngineSetup};
use quipu_consensus::simulator::participant::{Damage, Effect, Event, Participant};
use quipu_consensus::simulator::random::Random;
use quipu_crypto::id::{Height, Slot, Term};

use self::arguments::Arguments;
use crate::network::{SETTINGS, voters};

type Host<R> = EngineHost<R>;
type Block = SimulatedBlock;

struct Node<R: Rules + Clone> {
    process: Option<Host<R>>,
    disk: Disk<Host<R>>,
    /// Messages that wait for a write.
    held: Vec<(PersistSeq, Slot, SessionId, Message<Block>)>,
    done: PersistSeq,
    /// Whether its disk waits for `sync`.
    slow: bool,
    random: Random,
    /// How many processes it has had; the nonce of the present one.
    processes: u64,
}

/// Draws the number of a process, so that a text can name its nonce.
struct Number(u64);

impl Entropy for Number {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.min(bound.saturating_sub(1))
    }
}

/// A network under a script.
pub struct Script<R: Rules + Clone> {
    setup: EngineSetup<R>,
    now: u64,
    nodes: BTreeMap<Slot, Node<R>>,
    /// Messages on their way, in order.
    wire: Vec<(Slot, Slot, SessionId, Message<Block>)>,
    cut: BTreeSet<(Slot, Slot)>,
    /// Ways on which contacts pass and blocks do not.
    stuck: BTreeSet<(Slot, Slot)>,
    sessions: BTreeMap<(Slot, Slot), SessionId>,
    kept: BTreeMap<String, (Slot, Slot, SessionId, Message<Block>)>,
    given: u64,
    requests: u64,
    quiet: bool,
    /// When the present `run` began.
    running_since: Option<u64>,
    /// Processes that stand still: what comes to them waits.
    paused: BTreeSet<Slot>,
    said: Vec<String>,
}

/// The files of the scenarios, by name.
pub fn files() -> BTreeMap<String, PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: PathBuf| (path.file_stem().unwrap().to_string_lossy().into_owned(), path);
    let texts = paths.filter(|path| path.extension().is_some_and(|kind| kind == "txt"));
    texts.map(named).collect()
}

/// The texts of the scenarios, by name.
pub fn scenarios() -> BTreeMap<String, String> {
    let read = |(name, path)| (name, fs::read_to_string(path).unwrap());
    files().into_iter().map(read).collect()
}

/// Runs a scenario: the script with what followed, or the line that does not hold.
pub fn play<R: Rules + Clone>(rules: R, text: &str) -> Result<String, String> {
    let mut script = Script {
        setup: EngineSetup {
            settings: SETTINGS,
            rules,
            configuration: voters(0),
            large_one_of: 0,
        },
        now: 0,
        nodes: BTreeMap::new(),
        wire: Vec::new(),
        cut: BTreeSet::new(),
        stuck: BTreeSet::new(),
        sessions: BTreeMap::new(),
        kept: BTreeMap::new(),
        given: 0,
        requests: 0,
        quiet: false,
        running_since: None,
        paused: BTreeSet::new(),
        said: Vec::new(),
    };
    let mut played = String::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with("    ")) {
        played.push_str(line);
        played.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        script.quiet = words[0] == "quiet";
        let words = if script.quiet { &words[1..] } else { &words[..] };
        script
            .command(words)
            .map_err(|why| format!("line {}: {line}: {why}", number + 1))?;
        for said in script.said.drain(..) {
            played.push_str(&format!("    {said}\n"));
        }
    }
    Ok(played)
}

impl<R: Rules + Clone> Script<R> {
    /// The commands. `N` and `M` are nodes, `N>M` a direction; a chain is the list of its blocks' terms (`1,1,2`;
    /// `2x` is another block of term 2, `2b` a block larger than every limit) or that of a node (`@N`).
    fn command(&mut self, words: &[&str]) -> Result<(), String> {
        let arguments = Arguments::new(&words[1..]);
        match words[0] {
            // network COUNT voters=N,M outgoing=N,M learners=N,M: all are voters where nothing else is said.
            "network" => self.network(&arguments),
            // disk N term=T vote=M chain=C commit=H: what N finds when it starts.
            "disk" => self.disk(&arguments),
            "start" => arguments.slots().for_each(|slot| self.start(slot)),
            "crash" => arguments.slots().for_each(|slot| self.crash(slot)),
            // blank N: its disk is as new, as if an empty copy were restored.
            "blank" => {
                let blank = Host::<R>::blank(&self.setup, arguments.slot(0));
                self.node(arguments.slot(0)).disk = Disk::new(blank);
            }
            // Everything on its way arrives and every disk that is not slow syncs, until all is quiet.
            "deliver" if arguments.plain.is_empty() => self.deliver_all(),
            "deliver" => self.deliver(arguments.way(0)),
            "drop" => self.wire.retain(|(from, to, ..)| (*from, *to) != arguments.way(0)),
            // keep N>M NAME: takes the first message off the wire; replay NAME: delivers it, as often as wanted.
            "keep" => self.keep(&arguments)?,
            "replay" => self.replay(arguments.plain[0])?,
            // cut N>M N-M: one direction, both; stuck N>M: contacts and answers pass there, blocks do not; mend: the
            // same, or all.
            "cut" => self.cut.extend(arguments.ways()),
            "stuck" => self.stuck.extend(arguments.ways()),
            "mend" if arguments.plain.is_empty() => {
                self.cut.clear();
                self.stuck.clear();
            }
            "mend" => arguments.ways().iter().for_each(|way| _ = self.cut.remove(way)),
            // pause N: its process stands still; what comes to it waits until it goes on.
            "pause" => self.paused.extend(arguments.slots()),
            "resume" => arguments.slots().for_each(|slot| _ = self.paused.remove(&slot)),
            "slow" => arguments.slots().for_each(|slot| self.node(slot).slow = true),
            "sync" => arguments.slots().for_each(|slot| self.sync(slot)),
            "fail" => self.fail(arguments.slot(0)),
            "wait" => self.now += arguments.plain[0].parse::<u64>().unwrap(),
            // run MS: time passes, see `course`.
            "run" => self.run(arguments.plain[0].parse().unwrap()),
            "tick" => arguments.slots().for_each(|slot| self.event(slot, Event::Tick)),
            // The election timeout of N passes.
            "timeout" => {
                self.now += SETTINGS.election_max_ms + 1;
                self.event(arguments.slot(0), Event::Tick);
            }
            "reconnect" => self.reconnect(arguments.way(0)),
            "propose" => {
                self.requests += 1;
                self.event(arguments.slot(0), Event::Submit(self.requests));
            }
            "read" => self.event(arguments.slot(0), Event::Read(1)),
            "transfer" => self.event(arguments.slot(0), Event::Transfer),
            // report N seq=K: the host says that write K is done, whether it is or not.
            "report" => {
                let seq = PersistSeq(arguments.number("seq").unwrap());
                self.event(arguments.slot(0), Event::Written(seq));
            }
            // tear N from=H: the disk of N, which is down, has lost height H and all above.
            "tear" => {
                let from = Height(arguments.number("from").unwrap());
                let node = self.node(arguments.slot(0));
                Host::<R>::apply(&mut node.disk.durable, &vec![LogOperation::Truncate { from }]);
            }
            // damage N at=H how=rot|misdirected|tail|tail-and-watermark: what the disk of N does by itself.
            "damage" => self.damage(&arguments)?,
            // full N: the disk of N has no room; room N: it has again.
            "full" | "room" => self.event(arguments.slot(0), Event::DiskFull(words[0] == "full")),
            // Messages made by hand: append, vote, pre-vote, voted, accepted, refused, found, welcome,
            // timeout-now.
            "append" | "vote" | "pre-vote" | "voted" | "accepted" | "refused" | "found" | "welcome" | "timeout-now" => {
                self.forge(words[0], &arguments);
            }
            "expect" => return self.expected(&arguments),
            other => return Err(format!("no such command: {other}")),
        }
        Ok(())
    }

    fn node(&mut self, slot: Slot) -> &mut Node<R> {
        self.nodes.get_mut(&slot).unwrap()
    }

    fn say(&mut self, text: String) {
        if !self.quiet && self.running_since.is_none() {
            self.said.push(text);
        }
    }

    fn network(&mut self, arguments: &Arguments<'_>) {
        let count = arguments.slot(0).0;
        let mut configuration = voters(count);
        configuration.outgoing = arguments.listed("outgoing");
        configuration.learners = arguments.listed("learners");
        let incoming = arguments.listed("voters");
        if !incoming.is_empty() {
            configuration.voters = incoming;
        }
        configuration
            .voters
            .retain(|slot| !configuration.learners.contains(slot));
        self.setup.configuration = configuration;
        for slot in (1..=count).map(Slot) {
            let disk = Disk::new(Host::<R>::blank(&self.setup, slot));
            let random = Random::new(u64::from(slot.0));
            let node = Node {
                process: None,
                disk,
                held: Vec::new(),
                done: PersistSeq(0),
                slow: false,
                random,
                processes: 0,
            };
            self.nodes.insert(slot, node);
        }
    }

    /// A chain: block 0 and what the description says.
    fn chain(&self, text: &str) -> Vec<Block> {
        if let Some(slot) = text.strip_prefix('@') {
            return Host::<R>::blocks(&self.nodes[&Slot(slot.parse().unwrap())].disk.view).to_vec();
        }
        let mut chain = vec![Block::genesis()];
        for block in text.split(',').filter(|block| !block.is_empty()) {
            let mark = u64::from(block.ends_with('x'));
            let size = if block.ends_with('b') { 100_000 } else { 100 };
            let term = Term(block.trim_end_matches(['x', 'b']).parse().unwrap());
            let parent = chain.last().unwrap().id;
            chain.push(Block::child(parent, term, size, 1_000_000 * mark));
        }
        chain
    }

    fn disk(&mut self, arguments: &Arguments<'_>) {
        let chain = self.chain(arguments.value("chain").unwrap_or(""));
        let voted_for = arguments.number("vote").map(|slot| Slot(u32::try_from(slot).unwrap()));
        let record = VoteRecord {
            term: Term(arguments.number("term").unwrap_or(0)),
            voted_for,
        };
        let mut write = vec![LogOperation::SetVote(record), LogOperation::Append(chain[1..].to_vec())];
        write.push(LogOperation::CommitHint(Height(
            arguments.number("commit").unwrap_or(0),
        )));
        let node = self.node(arguments.slot(0));
        Host::<R>::apply(&mut node.disk.durable, &write);
        node.disk.view = node.disk.durable.clone();
    }

    fn start(&mut self, slot: Slot) {
        let (setup, now) = (self.setup.clone(), Tick(self.now));
        let node = self.node(slot);
        node.processes += 1;
        let mut number = Number(node.processes);
        let process = Host::<R>::start(&setup, slot, &mut node.disk.durable, now, &mut number);
        node.disk.view = node.disk.durable.clone();
        node.process = Some(process);
        node.done = PersistSeq(0);
        let others: Vec<Slot> = self.nodes.keys().copied().filter(|other| *other != slot).collect();
        for other in others {
            if self.nodes[&other].process.is_some() {
                self.reconnect((slot, other));
            }
        }
    }

    fn reconnect(&mut self, (left, right): (Slot, Slot)) {
        self.given += 1;
        let session = SessionId(self.given);
        for (slot, peer) in [(left, right), (right, left)] {
            self.sessions.insert((slot, peer), session);
            self.event(slot, Event::PeerUp(peer, session));
        }
    }

    fn crash(&mut self, slot: Slot) {
        let node = self.node(slot);
        node.process = None;
        node.held.clear();
        // A seed of zero loses everything that was not synced.
        let mut lost = Disk::new(node.disk.durable.clone());
        std::mem::swap(&mut node.disk, &mut lost);
        self.wire.retain(|(from, to, ..)| *from != slot && *to != slot);
    }

    fn damage(&mut self, arguments: &Arguments<'_>) -> Result<(), String> {
        let damage = match arguments.value("how").unwrap() {
            "rot" => Damage::Rot,
            "misdirected" => Damage::Misdirected,
            "tail" => Damage::LostTail,
            "tail-and-old-watermark" => Damage::LostTailAndOldWatermark,
            _ => Damage::LostTailAndWatermark,
        };
        let at = Height(arguments.number("at").unwrap());
        let disk = &mut self.node(arguments.slot(0)).disk;
        for image in [&mut disk.durable, &mut disk.view] {
            if !Host::<R>::damage(image, damage, at) {
                return Err("nothing is there".to_owned());
            }
        }
        Ok(())
    }

    fn sync(&mut self, slot: Slot) {
        let node = self.node(slot);
        if node.process.is_none() || node.disk.begin().is_none() {
            return;
        }
        let seq = node.disk.complete().unwrap();
        node.done = seq;
        let (free, held) = std::mem::take(&mut node.held)
            .into_iter()
            .partition(|(after, ..)| *after <= seq);
        node.held = held;
        let free: Vec<(PersistSeq, Slot, SessionId, Message<Block>)> = free;
        for (_, to, session, message) in free {
            self.leave(slot, to, session, message);
        }
        self.event(slot, Event::Written(seq));
    }

    fn fail(&mut self, slot: Slot) {
        if let Some(seq) = self.node(slot).disk.next() {
            self.event(slot, Event::WriteFailed(seq));
        }
    }

    fn leave(&mut self, from: Slot, to: Slot, session: SessionId, message: Message<Block>) {
        self.say(format!("{from}>{to} {}", show::message(&message)));
        let blocks = matches!(&message, Message::Append(append) if !append.blocks.is_empty());
        let lost = self.cut.contains(&(from, to)) || (blocks && self.stuck.contains(&(from, to)));
        if !lost {
            self.wire.push((from, to, session, message));
        }
    }

    fn event(&mut self, slot: Slot, event: Event<Message<Block>>) {
        let now = Tick(self.now);
        let Some(node) = self.nodes.get_mut(&slot) else { return };
        let Some(process) = &mut node.process else { return };
        let before = process.status();
        let mut effects = Vec::new();
        process.handle(now, &mut node.random, &node.disk.view, event, &mut effects);
        let after = process.status();
        if (before.role, before.term) != (after.role, after.term) {
            self.mark(&format!("{slot} {:?}, term {}", after.role, after.term));
        }
        for effect in effects {
            self.perform(slot, effect);
        }
    }

    fn perform(&mut self, slot: Slot, effect: Effect<Message<Block>, Vec<LogOperation<Block>>>) {
        match effect {
            Effect::Write { seq, write, sync } => {
                self.say(format!("{slot} writes {}", show::write(&write)));
                self.node(slot).disk.ask(seq, write, sync);
            }
            Effect::Send {
                to,
                session,
                message,
                after,
            } => {
                let node = self.node(slot);
                match after.filter(|seq| *seq > node.done) {
                    Some(seq) => node.held.push((seq, to, session, message)),
                    None => self.leave(slot, to, session, message),
                }
            }
            Effect::Commit(upto) => self.mark(&format!("{slot} commits {}", show::id(upto))),
            Effect::Acknowledge(request, id) => {
                self.mark(&format!("{slot} acknowledges {request} in {}", show::id(id)));
            }
            Effect::ReadReady(_, height) => self.mark(&format!("{slot} reads at {height}")),
            Effect::See(Sight::ReadLost) => self.mark(&format!("{slot} loses a read")),
            Effect::See(_) => {}
            Effect::Broken(found) => self.say(format!("{slot} breaks {}: {}", found.invariant, found.detail)),
            Effect::Wake(_) | Effect::Restart(_) => {
                panic!("{slot}: a bare engine asks for no such thing")
            }
            Effect::Halt(reason, _) => {
                self.say(format!("{slot} halts: {reason}"));
                self.node(slot).process = None;
            }
        }
    }

    fn deliver(&mut self, way: (Slot, Slot)) {
        let (now, later) = std::mem::take(&mut self.wire)
            .into_iter()
            .partition(|(from, to, ..)| (*from, *to) == way);
        self.wire = later;
        let now: Vec<(Slot, Slot, SessionId, Message<Block>)> = now;
        for (from, to, session, message) in now {
            self.event(to, Event::Receive(from, session, message));
        }
    }

    fn deliver_all(&mut self) {
        for _ in 0..1000 {
            let quick: Vec<Slot> = self
                .nodes
                .iter()
                .filter(|(_, node)| !node.slow)
                .map(|(slot, _)| *slot)
                .collect();
            let idle = quick.iter().all(|slot| self.nodes[slot].disk.next().is_none());
            quick.into_iter().for_each(|slot| self.sync(slot));
            let Some(place) = self.wire.iter().position(|(_, to, ..)| !self.paused.contains(to)) else {
                if idle {
                    return;
                }
                continue;
            };
            let (from, to, session, message) = self.wire.remove(place);
            self.event(to, Event::Receive(from, session, message));
        }
    }

    fn keep(&mut self, arguments: &Arguments<'_>) -> Result<(), String> {
        let way = arguments.way(0);
        let place = self
            .wire
            .iter()
            .position(|(from, to, ..)| (*from, *to) == way)
            .ok_or("nothing on the wire")?;
        let message = self.wire.remove(place);
        self.kept.insert(arguments.plain[1].to_owned(), message);
        Ok(())
    }

    fn replay(&mut self, name: &str) -> Result<(), String> {
        let (from, to, session, message) = self.kept.get(name).cloned().ok_or("nothing was kept under that name")?;
        self.event(to, Event::Receive(from, session, message));
        Ok(())
    }
}
