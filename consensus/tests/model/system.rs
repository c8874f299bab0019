//! Keeps the network of the model: which steps there are from a state, and what a state is after one.
//!
//! Invariants: a message that was sent may arrive at any time, in any order, any number of times or never; writes of a
//! disk are done in order; time passes at each node by itself. A step of a node depends on that node alone, so each is
//! computed once and remembered.
//! Leaves what a node does to `node`, and what must hold to `history`.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use quipu_consensus::block::Configuration;
use quipu_consensus::engine::{Role, Settings};
use quipu_consensus::input::{Entropy, SessionId};
use quipu_consensus::message::Message;
use quipu_consensus::simulator::engine_host::EngineSetup;
use quipu_consensus::simulator::random::Random;
use quipu_crypto::id::{Slot, Term};
use stateright::{Model, Property};

use super::history::History;
use super::node::{Decides, Letter, Node, Outcome, Stimulus, Told};

/// How long a silence must be for what is in `node::SILENCE_MS`.
const SETTINGS: Settings = Settings {
    election_min_ms: 100,
    election_max_ms: 200,
    heartbeat_ms: 100,
    stall_ms: 600,
    hello_wait_ms: 150,
    append_bytes: 1000,
    window_bytes: 2000,
    uncommitted_bytes: 2000,
    cache_bytes: 2000,
};

/// Messages may be repeated for ever, so a run need not end.
const LONGEST_WALK: usize = 150;

/// How much may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bounds {
    pub(super) nodes: u32,
    /// The last term that is campaigned for.
    pub(super) terms: u64,
    /// Silences, of all nodes together.
    pub(super) silences: u8,
    /// Writes of clients.
    pub(super) submits: u8,
    /// Crashes, each with a restart.
    pub(super) crashes: u8,
    /// Whether the network is one of [`orderly`](super::orderly).
    pub(super) orderly: bool,
}

impl Bounds {
    /// Of three nodes.
    pub(super) const fn of(terms: u64, silences: u8, submits: u8, crashes: u8) -> Self {
        Self {
            nodes: 3,
            terms,
            silences,
            submits,
            crashes,
            orderly: false,
        }
    }

    /// The same in an orderly network.
    pub(super) const fn orderly(self) -> Self {
        Self { orderly: true, ..self }
    }
}

/// A network under one set of rules.
pub(super) struct Network<R: 'static> {
    setup: EngineSetup<R>,
    bounds: Bounds,
    /// Every node that was ever met, once. What states refer to stays for as long as the test runs.
    nodes: RwLock<HashMap<u64, &'static Node<R>>>,
    /// Every step that was ever taken, by node and stimulus.
    steps: RwLock<HashMap<(u64, u64), &'static Taken<R>>>,
    /// States whose properties were looked at.
    pub(super) visited: AtomicUsize,
}

/// A step that was taken.
struct Taken<R: 'static> {
    node: &'static Node<R>,
    sent: Vec<&'static Letter>,
    told: Vec<Told>,
}

/// A state of the network.
#[derive(Clone)]
pub(super) struct State<R: 'static> {
    pub(super) nodes: Vec<&'static Node<R>>,
    /// Everything that was sent and may still arrive, in the order of the fingerprints; in an orderly network by sender
    /// and receiver, and in the order of sending.
    pub(super) letters: Vec<&'static Letter>,
    pub(super) history: Arc<History>,
    /// What may still happen.
    pub(super) left: Bounds,
}

impl<R: 'static> Hash for State<R> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for node in &self.nodes {
            node.fingerprint.hash(hasher);
        }
        for letter in &self.letters {
            letter.fingerprint.hash(hasher);
        }
        self.history.hash(hasher);
        self.left.hash(hasher);
    }
}

impl<R> PartialEq for State<R> {
    fn eq(&self, other: &Self) -> bool {
        let nodes = |state: &Self| state.nodes.iter().map(|node| node.fingerprint).collect::<Vec<_>>();
        nodes(self) == nodes(other)
            && self.letters == other.letters
            && self.history == other.history
            && self.left == other.left
    }
}

impl<R> fmt::Debug for State<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            writeln!(f, "{:?}", node.status)?;
        }
        write!(f, "{:?}", self.history)
    }
}

/// A step: what happens to which node.
#[derive(Clone, PartialEq)]
pub(super) struct Step(pub(super) Slot, pub(super) Stimulus);

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.1 {
            Stimulus::Deliver(letter) => write!(f, "{} hears {} {:?}", self.0, letter.from, letter.message),
            other => write!(f, "{} {other:?}", self.0),
        }
    }
}

impl<R: Decides> Network<R> {
    pub(super) fn new(rules: R, bounds: Bounds) -> Self {
        let configuration = Configuration {
            voters: (1..=bounds.nodes).map(Slot).collect(),
            ..Configuration::default()
        };
        Self {
            setup: EngineSetup {
                settings: SETTINGS,
                rules,
                configuration,
                large_one_of: 0,
            },
            bounds,
            nodes: RwLock::default(),
            steps: RwLock::default(),
            visited: AtomicUsize::new(0),
        }
    }

    /// How many different nodes and steps of nodes there were.
    pub(super) fn parts(&self) -> (usize, usize) {
        (self.nodes.read().unwrap().len(), self.steps.read().unwrap().len())
    }

    fn outcome(&self, node: &Node<R>, stimulus: &Stimulus) -> &'static Taken<R> {
        let key = (node.fingerprint, stimulus.key());
        if let Some(known) = self.steps.read().unwrap().get(&key) {
            return known;
        }
        let Outcome { node, sent, told } = node.step(&self.setup, stimulus);
        let node = *self
            .nodes
            .write()
            .unwrap()
            .entry(node.fingerprint)
            .or_insert_with(|| Box::leak(Box::new(node)));
        let taken: &'static Taken<R> = Box::leak(Box::new(Taken { node, sent, told }));
        self.steps.write().unwrap().insert(key, taken);
        taken
    }

    /// Nodes that have greeted each other and have nothing to do.
    fn after_the_hellos(&self) -> State<R> {
        let slots = || (1..=self.bounds.nodes).map(Slot);
        let nodes = slots()
            .map(|slot| -> &'static Node<R> { Box::leak(Box::new(Node::blank(&self.setup, slot))) })
            .collect();
        let mut state = State {
            nodes,
            letters: Vec::new(),
            history: Arc::default(),
            left: self.bounds,
        };
        for (slot, peer) in slots().flat_map(|slot| slots().map(move |peer| (slot, peer))) {
            if slot != peer {
                self.take(&mut state, slot, &Stimulus::Connect(peer, SessionId(1)));
            }
        }
        loop {
            let letters = std::mem::take(&mut state.letters);
            let writer = state.nodes.iter().find(|node| node.has_writes()).map(|node| node.slot);
            if letters.is_empty() && writer.is_none() {
                return state;
            }
            for letter in letters {
                self.take(&mut state, letter.to, &Stimulus::Deliver(letter));
            }
            if let Some(slot) = writer {
                self.take(&mut state, slot, &Stimulus::Written);
            }
        }
    }

    /// A run drawn by chance, to its end or for a while; or to what breaks, and the steps that led there.
    pub(super) fn walk(
        &self,
        random: &mut Random,
        mut look: impl FnMut(&State<R>),
    ) -> Option<(&'static str, Vec<Step>)> {
        let mut state = self.after_the_hellos();
        let mut taken = Vec::new();
        let mut steps = Vec::new();
        self.actions(&state, &mut steps);
        while !steps.is_empty() && taken.len() < LONGEST_WALK {
            let count = u64::try_from(steps.len()).unwrap();
            // What goes wrong stands first among the steps and is the rarer.
            let place = random.below(count).max(random.below(count)).max(random.below(count));
            let step = steps.swap_remove(usize::try_from(place).unwrap());
            let Some(next) = self.next_state(&state, step.clone()) else {
                continue;
            };
            state = next;
            taken.push(step);
            look(&state);
            if let Some(broken) = state.history.broken {
                return Some((broken, taken));
            }
            steps.clear();
            self.actions(&state, &mut steps);
        }
        None
    }

    /// Lets `stimulus` happen; whether anything changed.
    fn take(&self, state: &mut State<R>, slot: Slot, stimulus: &Stimulus) -> bool {
        let place = state.nodes.iter().position(|node| node.slot == slot).unwrap();
        let before = state.nodes[place];
        let outcome = self.outcome(before, stimulus);
        let mut changed = before.fingerprint != outcome.node.fingerprint;
        state.nodes[place] = outcome.node;
        for letter in &outcome.sent {
            changed |= state.post(letter);
        }
        if matches!(stimulus, Stimulus::Crash(..) | Stimulus::Connect(..)) {
            state.drop_what_is_void();
        }
        if changed {
            let mut history = History::clone(&state.history);
            history.after((before, outcome.node), &outcome.sent, &outcome.told, &state.nodes);
            if history != *state.history {
                state.history = Arc::new(history);
            }
        }
        changed
    }
}

impl<R: Decides> State<R> {
    fn node(&self, slot: Slot) -> &'static Node<R> {
        self.nodes.iter().find(|node| node.slot == slot).unwrap()
    }

    /// Each start of one of two nodes makes a new session between them.
    fn session(one: &Node<R>, other: &Node<R>) -> SessionId {
        SessionId(one.life + other.life - 1)
    }

    /// Puts a message on its way; whether it was not there before.
    fn post(&mut self, letter: &'static Letter) -> bool {
        // What a node remembers of the starts of others matters only to one of them that starts again.
        let remembered = self.left.crashes > 0 || !matches!(&letter.message, Message::Hello(hello) if hello.claimed);
        if self.is_void(letter) || !remembered {
            return false;
        }
        if self.left.orderly {
            return self.queue(letter);
        }
        let place = self
            .letters
            .binary_search_by_key(&letter.fingerprint, |known| known.fingerprint);
        if let Err(place) = place {
            self.letters.insert(place, letter);
        }
        place.is_err()
    }

    /// Whether the receiver has moved on to a later session.
    fn is_void(&self, letter: &Letter) -> bool {
        let known = self.node(letter.to).connected.get(&letter.from);
        known.is_some_and(|session| letter.session < *session)
    }

    fn drop_what_is_void(&mut self) {
        let mut letters = std::mem::take(&mut self.letters);
        letters.retain(|letter| !self.is_void(letter));
        self.letters = letters;
    }

    /// A new session on one side of a pair, where it knows an older one.
    pub(super) fn meetings(&self) -> impl Iterator<Item = Step> {
        self.pairs().filter_map(|(node, other)| {
            let session = Self::session(node, other);
            let met = node.connected.get(&other.slot) == Some(&session);
            (!met).then_some(Step(node.slot, Stimulus::Connect(other.slot, session)))
        })
    }

    fn pairs(&self) -> impl Iterator<Item = (&'static Node<R>, &'static Node<R>)> {
        let pair = |node: &'static Node<R>| self.nodes.iter().map(move |other| (node, *other));
        let all = self.nodes.iter().copied().flat_map(pair);
        all.filter(|(node, other)| node.slot != other.slot)
    }

    /// A crash of any node, with any prefix of what was not synced.
    fn crashes(&self, steps: &mut Vec<Step>) {
        for node in &self.nodes {
            self.crash(node, steps);
        }
    }

    /// A crash of this node.
    pub(super) fn crash(&self, node: &Node<R>, steps: &mut Vec<Step>) {
        let sessions: Vec<_> = self
            .pairs()
            .filter(|(one, _)| one.slot == node.slot)
            .map(|(_, other)| (other.slot, SessionId(Self::session(node, other).0 + 1)))
            .collect();
        for survive in 0..=node.unsynced() {
            steps.push(Step(node.slot, Stimulus::Crash(survive, sessions.clone())));
        }
    }

    fn may_be_silent(&self, bounds: Bounds, node: &Node<R>) -> bool {
        // Names are all the same before the first election: it begins at the first node.
        let first = self.left.silences < bounds.silences || node.slot == Slot(1);
        let campaigns = matches!(node.status.role, Role::Follower | Role::PreCandidate | Role::Candidate);
        let last = node.status.term >= Term(bounds.terms);
        self.left.silences > 0 && first && !(campaigns && last)
    }
}

impl<R: Decides> Model for Network<R> {
    type State = State<R>;
    type Action = Step;

    fn init_states(&self) -> Vec<State<R>> {
        vec![self.after_the_hellos()]
    }

    /// The last is searched first by a search in depth: so it begins with the runs in which all goes well, and what can
    /// go wrong goes wrong at their end before it does so at their beginning.
    fn actions(&self, state: &State<R>, steps: &mut Vec<Step>) {
        self.visited.fetch_add(1, Ordering::Relaxed);
        if state.history.broken.is_some() || (self.bounds.orderly && state.first(steps)) {
            return;
        }
        if state.left.crashes > 0 {
            state.crashes(steps);
        }
        for node in state.nodes.iter().filter(|node| state.may_be_silent(self.bounds, node)) {
            steps.push(Step(node.slot, Stimulus::Silence));
        }
        for node in state.nodes.iter().filter(|node| state.left.submits > 0 && node.leads()) {
            let request = u64::from(state.left.submits);
            steps.push(Step(node.slot, Stimulus::Submit(request)));
        }
        steps.extend(state.meetings());
        for node in state.nodes.iter().filter(|node| node.has_writes()) {
            steps.push(Step(node.slot, Stimulus::Written));
        }
        for letter in &state.letters {
            if state.node(letter.to).connected.get(&letter.from) == Some(&letter.session) {
                steps.push(Step(letter.to, Stimulus::Deliver(letter)));
            }
        }
    }

    fn next_state(&self, last: &State<R>, Step(slot, stimulus): Step) -> Option<State<R>> {
        let mut state = last.clone();
        match &stimulus {
            Stimulus::Silence => state.left.silences -= 1,
            Stimulus::Submit(_) => state.left.submits -= 1,
            Stimulus::Crash(..) => state.left.crashes -= 1,
            Stimulus::Deliver(letter) if self.bounds.orderly => state.unqueue(letter),
            _ => {}
        }
        let counted = state.left != last.left || state.letters.len() != last.letters.len();
        (self.take(&mut state, slot, &stimulus) || counted).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("I1 one leader a term", |_, state: &State<R>| state.keeps("I1")),
            Property::always("I2 chains match by hash", |_, state: &State<R>| state.keeps("I2")),
            Property::always("I3 a leader has what is committed", |_, state: &State<R>| {
                state.keeps("I3")
            }),
            Property::always("I4 one final chain", |_, state: &State<R>| state.keeps("I4")),
            Property::always("I6 committed is durable on a quorum", |_, state: &State<R>| {
                state.keeps("I6")
            }),
            Property::always("I7 a leader counts its own term", |_, state: &State<R>| {
                state.keeps("I7")
            }),
            Property::always("I8 one vote a term", |_, state: &State<R>| state.keeps("I8")),
            Property::always("I9 commit within the chain, rising", |_, state: &State<R>| {
                state.keeps("I9")
            }),
            Property::always("I10 matched is durable there", |_, state: &State<R>| state.keeps("I10")),
            Property::always("I13 acknowledged is final", |_, state: &State<R>| state.keeps("I13")),
            Property::always("I15 chains hold together", |_, state: &State<R>| state.keeps("I15")),
            Property::always("nobody halts", |_, state: &State<R>| state.keeps("halt")),
        ];
        properties.extend(self.occurrences());
        properties
    }
}

impl<R: Decides> Network<R> {
    /// What the bounds admit must be met, or the rest would hold for nothing.
    fn occurrences(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::sometimes("every term is led", |network: &Self, state: &State<R>| {
                u64::try_from(state.history.leaders.len()) == Ok(network.bounds.terms)
            }),
            Property::sometimes("a block of every term is final", |network: &Self, state: &State<R>| {
                let last = state.history.chain.last();
                last.is_some_and(|(id, _)| id.term == Term(network.bounds.terms))
            }),
        ];
        if self.bounds.submits > 0 {
            properties.push(Property::sometimes(
                "all clients' writes are final",
                |network: &Self, state: &State<R>| state.writes_are_final(usize::from(network.bounds.submits)),
            ));
        }
        if self.bounds.crashes > 0 {
            properties.extend([
                Property::sometimes("a node commits after a restart", |_, state: &State<R>| {
                    let commits = |node: &&Node<R>| node.life > 1 && node.status.commit.height > node.began;
                    state.nodes.iter().any(commits)
                }),
                Property::sometimes("a node leads after a restart", |_, state: &State<R>| {
                    state.nodes.iter().any(|node| node.life > 1 && node.leads())
                }),
            ]);
        }
        properties
    }
}

impl<R: Decides> State<R> {
    fn keeps(&self, invariant: &str) -> bool {
        self.history.broken != Some(invariant)
    }

    fn writes_are_final(&self, count: usize) -> bool {
        self.nodes.iter().any(|node| {
            let upto = node.status.commit.height;
            let last = usize::try_from(upto.get()).unwrap();
            node.chain()
                .iter()
                .take(last + 1)
                .filter(|link| !link.requests.is_empty())
                .count()
                >= count
        })
    }
}
