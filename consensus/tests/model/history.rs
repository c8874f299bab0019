//! Keeps what the network has promised so far, and says which invariant a step breaks.
//!
//! Invariant: the disks are believed, and what left a node; what an engine says of itself is only ever held against
//! them. Numbers are those of the specification. Kept is only what must outlive the nodes' own memory: who led, what
//! is final, who voted for whom.

use quipu_consensus::message::Message;
use quipu_consensus::quorum;
use quipu_consensus::simulator::participant::Link;
use quipu_crypto::id::{BlockId, Slot, Term};

use super::node::{Decides, Letter, Node, Told};

/// Everything that a run promised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct History {
    /// Who led in each term.
    pub(super) leaders: Vec<(Term, Slot)>,
    /// The final chain from height 1 on, each block with the term in which it was committed.
    pub(super) chain: Vec<(BlockId, Term)>,
    /// Who voted for whom, as far as it left the voter or is on its disk.
    votes: Vec<(Slot, Term, Slot)>,
    /// The first invariant that broke.
    pub(super) broken: Option<&'static str>,
}

/// Whether `chain`, which begins with block 0, holds `id`.
fn holds(chain: &[Link], id: BlockId) -> bool {
    let place = usize::try_from(id.height.get()).unwrap();
    chain.get(place).is_some_and(|link| link.id == id)
}

impl History {
    fn breaks(&mut self, invariant: &'static str) {
        self.broken.get_or_insert(invariant);
    }

    /// A step led from `before` to `node`, which stands among `nodes` already, and sent and told this.
    pub(super) fn after<R: Decides>(
        &mut self,
        (before, node): (&Node<R>, &Node<R>),
        sent: &[&'static Letter],
        told: &[Told],
        nodes: &[&Node<R>],
    ) {
        for letter in sent {
            self.left(letter);
        }
        self.disk(before, node);
        if node.leads() {
            self.leader(node);
            self.peers(node, nodes);
        }
        for told in told {
            match told {
                Told::Commit(upto) => self.commit(node, *upto, nodes),
                Told::Acknowledge(id) if !self.is_final(*id) => self.breaks("I13"),
                Told::Acknowledge(_) => {}
                Told::Halt => self.breaks("halt"),
            }
        }
        let status = &node.status;
        let fell = before.life == node.life && status.commit.height < before.status.commit.height;
        let own = holds(node.chain(), status.tip) && holds(node.chain(), status.commit);
        if fell || !own || !holds(node.durable_chain(), status.durable) {
            self.breaks("I9");
        }
        self.chains(node, nodes);
    }

    /// I8: one vote a term, among all that ever left a node.
    fn left(&mut self, letter: &Letter) {
        match &letter.message {
            Message::VoteAnswer(answer) if answer.granted => self.vote(letter.from, answer.term, letter.to),
            Message::RequestVote(request) => self.vote(letter.from, request.term, letter.from),
            _ => {}
        }
    }

    fn vote(&mut self, voter: Slot, term: Term, candidate: Slot) {
        let known = self
            .votes
            .iter()
            .find(|(slot, when, _)| (*slot, *when) == (voter, term));
        match known {
            Some((_, _, first)) if *first != candidate => self.breaks("I8"),
            Some(_) => {}
            None => {
                self.votes.push((voter, term, candidate));
                self.votes.sort_unstable();
            }
        }
    }

    /// I8 on disk: the term never falls, and the vote of a term is the one that it was.
    fn disk<R: Decides>(&mut self, before: &Node<R>, node: &Node<R>) {
        let (old, new) = (before.vote(), node.vote());
        if new.term < old.term {
            self.breaks("I8");
        }
        if old.term == new.term && old.voted_for.is_some() && old != new {
            self.breaks("I8");
        }
        if let Some(candidate) = new.voted_for.filter(|_| new != old) {
            self.vote(node.slot, new.term, candidate);
        }
    }

    /// I1 one leader a term; I3 it has everything that was committed in terms before.
    fn leader<R: Decides>(&mut self, node: &Node<R>) {
        let term = node.status.term;
        match self.leaders.iter().find(|(led, _)| *led == term) {
            Some((_, first)) if *first != node.slot => self.breaks("I1"),
            Some(_) => {}
            None => {
                self.leaders.push((term, node.slot));
                self.leaders.sort_unstable();
            }
        }
        let lost = |(id, when): &(BlockId, Term)| *when < term && !holds(node.chain(), *id);
        if self.chain.iter().any(lost) {
            self.breaks("I3");
        }
    }

    /// I10: what a leader believes its peers to hold, their disks hold, unless they have moved on to a later term.
    fn peers<R: Decides>(&mut self, node: &Node<R>, nodes: &[&Node<R>]) {
        for (slot, peer) in &node.status.peers {
            let place = usize::try_from(peer.matched.get()).unwrap();
            let matched = node.chain().get(place).map(|link| link.id);
            let other = nodes.iter().find(|other| other.slot == *slot).unwrap();
            let moved_on = other.vote().term > node.status.term;
            if !moved_on && !matched.is_some_and(|id| holds(other.durable_chain(), id)) {
                self.breaks("I10");
            }
        }
    }

    fn is_final(&self, id: BlockId) -> bool {
        let place = usize::try_from(id.height.get()).unwrap();
        place == 0 || self.chain.get(place - 1).is_some_and(|(known, _)| *known == id)
    }

    /// I4 and I5 there is one final chain; I6 a block that becomes final is durable on a quorum of the disks; I7 it
    /// becomes so at a leader, which counts a block of its own term.
    fn commit<R: Decides>(&mut self, node: &Node<R>, upto: BlockId, nodes: &[&Node<R>]) {
        let height = usize::try_from(upto.height.get()).unwrap();
        if !holds(node.chain(), upto) {
            return self.breaks("I4");
        }
        for (link, (known, _)) in node.chain().iter().skip(1).take(height).zip(&self.chain) {
            if link.id != *known {
                return self.breaks("I4");
            }
        }
        if height <= self.chain.len() {
            return;
        }
        if !node.leads() || node.status.term != upto.term {
            self.breaks("I7");
        }
        let voters = nodes.iter().map(|node| node.slot).collect();
        let durable = |slot| {
            nodes
                .iter()
                .any(|other| other.slot == slot && holds(other.durable_chain(), upto))
        };
        if !quorum::majority(&voters, durable) {
            self.breaks("I6");
        }
        let term = node.status.term;
        for link in node.chain().iter().take(height + 1).skip(self.chain.len() + 1) {
            self.chain.push((link.id, term));
        }
    }

    /// I2: equal height and term, equal block, and so equal below; I15: each stands on the one before.
    fn chains<R: Decides>(&mut self, node: &Node<R>, nodes: &[&Node<R>]) {
        let stands = |pair: &[Link]| pair[1].previous == pair[0].id.hash && pair[1].id.term >= pair[0].id.term;
        if !node.chain().windows(2).all(stands) {
            self.breaks("I15");
        }
        let alike = |one: &Link, two: &Link| one.id.term != two.id.term || one.id == two.id;
        for other in nodes {
            let seen = other.chain().iter().zip(node.chain());
            let kept = other.durable_chain().iter().zip(node.chain());
            if !seen.chain(kept).all(|(one, two)| alike(one, two)) {
                self.breaks("I2");
            }
        }
    }
}
