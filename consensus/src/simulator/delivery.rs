//! Keeps the way of an event into a process, and of its effects out: writes to the disk, messages through the gate.
//!
//! Invariant: an effect is performed in the turn of its event, in order, and none after the process has died in it;
//! every step ends with the checks.
//! Leaves time to `world`.

use quipu_crypto::id::Slot;

use super::checkers::{Verdict, Violation};
use super::coverage::Sight;
use super::faults::Fault;
use super::participant::{Effect, Event, Participant};
use super::trace::Kind;
use super::world::{Chore, Happening, Node, World, view};
use crate::engine::{Role, Status};
use crate::input::{Entropy, PersistSeq, SessionId};

/// How many old messages a replay draws from.
const ARCHIVE: usize = 64;

/// More than this waits in no sound process (L4): its limits are far below it in every network that is simulated.
const MOST_WAITING: u64 = 5_000;

impl<P: Participant> World<P> {
    /// Delivers an event, later where the process is paused.
    pub(super) fn event(&mut self, slot: Slot, life: Option<u64>, event: Event<P::Message>) {
        let Some(node) = self.nodes.get_mut(&slot) else { return };
        if life.is_some_and(|life| life != node.life) || node.process.is_none() {
            return;
        }
        if node.paused_until > self.now {
            let wait = node.paused_until.saturating_sub(self.now);
            if !matches!(event, Event::Tick) {
                self.plan(wait, Happening::Event { slot, life, event });
            }
            return;
        }
        let now = node.clock.read(self.now);
        // Whatever was told while the process stood still: it sees the disk as it is now.
        let event = match event {
            Event::DiskFull(_) => Event::DiskFull(node.full_until > self.now),
            other => other,
        };
        self.trace.line(self.now, slot, Kind::Event, "<-", &event);
        let mut effects = Vec::new();
        let life = node.life;
        let mut before = None;
        if let Some(process) = &mut node.process {
            process.handle(now, &mut node.entropy, &node.disk.view, event, &mut effects);
            let status = process.status();
            self.trace.status(node.status.as_ref(), &status);
            let digest = process.digest();
            let waiting = node.held.len().saturating_add(node.disk.waiting());
            let backlog = process
                .backlog()
                .saturating_add(u64::try_from(waiting).unwrap_or(u64::MAX));
            self.tally.backlog = self.tally.backlog.max(backlog);
            let verdict = self.oracle.executed(slot, &status, digest);
            before = node.status.replace(status);
            self.judge(verdict);
        }
        self.observe(slot, before.as_ref());
        let writes = effects.iter().any(|effect| matches!(effect, Effect::Write { .. }));
        for effect in effects {
            let verdict = self.perform(slot, effect);
            self.judge(verdict);
            let lives = |node: &Node<P>| node.life == life && node.process.is_some();
            if !self.nodes.get(&slot).is_some_and(lives) {
                return;
            }
        }
        let verdict = self.check(slot);
        self.judge(verdict);
        let ambush = self.nodes.get(&slot).and_then(|node| node.ambush);
        match ambush.filter(|_| writes) {
            Some(Fault::CrashInWrite) => self.spring(slot, Fault::CrashInWrite),
            Some(Fault::WriteError) => self.plan(0, Happening::Chore(Chore::FailWrite(slot))),
            _ => {}
        }
    }

    /// Counts what a step has made of a node.
    fn observe(&mut self, slot: Slot, before: Option<&Status>) {
        let Some(status) = self.nodes.get(&slot).and_then(|node| node.status.as_ref()) else {
            return;
        };
        if self.tally.backlog > MOST_WAITING {
            let detail = format!("{slot}: {} things wait in its memory", self.tally.backlog);
            self.failed.get_or_insert(Violation {
                invariant: "L4",
                detail,
            });
        }
        let was = before.map(|before| before.role);
        if was == Some(status.role) && before.map(|before| before.term) == Some(status.term) {
            return;
        }
        let sight = match (was, status.role) {
            (Some(Role::Recovering), Role::Recovering) => None,
            (_, Role::Recovering) => Some(Sight::RecoveryEntered),
            (Some(Role::Recovering), _) => Some(Sight::RecoveryLeft),
            (Some(Role::Candidate), Role::Candidate | Role::PreCandidate) => Some(Sight::SplitVote),
            (Some(Role::Leader), Role::Follower) => Some(Sight::Deposed),
            (_, Role::Leader) => self
                .wish
                .take_if(|(term, old, until)| *old != slot && *term < status.term && *until > self.now)
                .map(|_| Sight::Transferred),
            _ => None,
        };
        if let Some(sight) = sight {
            self.coverage.see(sight);
        }
    }

    fn perform(&mut self, slot: Slot, effect: Effect<P::Message, P::Write>) -> Verdict {
        self.trace.line(self.now, slot, Kind::Effect, "->", &effect);
        match effect {
            Effect::Write { seq, write, sync } => return self.write(slot, seq, write, sync),
            Effect::Send {
                to,
                session,
                message,
                after,
            } => {
                let Some(node) = self.nodes.get_mut(&slot) else {
                    return Ok(());
                };
                match after.filter(|seq| *seq > node.done) {
                    Some(seq) => node.held.push((seq, to, session, message)),
                    None => return self.leave(slot, to, session, &message),
                }
            }
            Effect::Commit(upto) => {
                let Some(node) = view(&self.nodes, slot) else {
                    return Ok(());
                };
                let older = self.oracle.committed(node, upto, &|slot| view(&self.nodes, slot))?;
                if older {
                    self.coverage.see(Sight::OlderTermCommitted);
                }
            }
            Effect::Acknowledge(request, id) => {
                self.tally.acknowledged = self.tally.acknowledged.saturating_add(1);
                self.coverage.see(Sight::Acknowledged);
                return self.oracle.acknowledged(slot, request, id);
            }
            Effect::ReadReady(ticket, height) => {
                self.tally.reads = self.tally.reads.saturating_add(1);
                self.coverage.see(Sight::ReadConfirmed);
                return self.oracle.read_answered(slot, ticket, height);
            }
            Effect::Wake(after_ms) => {
                let life = self.nodes.get(&slot).map(|node| node.life);
                let event = Event::Wake;
                self.plan(after_ms, Happening::Event { slot, life, event });
            }
            Effect::Broken(violation) => return Err(violation),
            Effect::See(sight) => self.coverage.see(sight),
            Effect::Halt(_, true) => self.crash(slot),
            Effect::Restart(after_ms) => {
                self.crash(slot);
                self.plan(after_ms, Happening::Start(slot));
            }
            Effect::Halt(reason, false) => {
                return Err(Violation {
                    invariant: "halt",
                    detail: format!("{slot}: {reason}"),
                });
            }
        }
        Ok(())
    }

    fn write(&mut self, slot: Slot, seq: PersistSeq, write: P::Write, sync: bool) -> Verdict {
        let Some(node) = self.nodes.get_mut(&slot) else {
            return Ok(());
        };
        node.disk.ask(seq, write, sync);
        self.drain(slot);
        let Some(node) = self.nodes.get(&slot) else {
            return Ok(());
        };
        let term = P::vote(&node.disk.view).term;
        if self.oracle.after_write(slot, term, P::chain(&node.disk.view))? {
            self.coverage.see(Sight::Truncation);
        }
        Ok(())
    }

    /// Starts a disk that is idle and has something to do.
    fn drain(&mut self, slot: Slot) {
        let mut wait = self.random.below(self.faults.sync_ms.saturating_add(1));
        let Some(node) = self.nodes.get_mut(&slot) else { return };
        let life = node.life;
        if node.slow_until > self.now {
            wait = wait.max(1).saturating_mul(100);
        }
        if let Some(sync) = node.disk.begin() {
            self.plan(if sync { wait } else { 0 }, Happening::Written { slot, life });
        }
    }

    pub(super) fn written(&mut self, slot: Slot, life: u64) {
        let Some(node) = self.nodes.get_mut(&slot).filter(|node| node.life == life) else {
            return;
        };
        if node.process.is_none() {
            return;
        }
        if node.paused_until > self.now {
            let wait = node.paused_until.saturating_sub(self.now);
            return self.plan(wait, Happening::Written { slot, life });
        }
        let Some(seq) = node.disk.complete() else { return };
        if node.ambush == Some(Fault::CrashAfterWrite) {
            return self.spring(slot, Fault::CrashAfterWrite);
        }
        node.done = seq;
        node.mute = node.ambush == Some(Fault::CrashBeforeSend);
        let (free, held) = std::mem::take(&mut node.held)
            .into_iter()
            .partition(|(after, ..)| *after <= seq);
        node.held = held;
        let free: Vec<(PersistSeq, Slot, SessionId, P::Message)> = free;
        for (_, to, session, message) in free {
            let verdict = self.leave(slot, to, session, &message);
            self.judge(verdict);
        }
        self.drain(slot);
        self.event(slot, Some(life), Event::Written(seq));
        if self.nodes.get(&slot).is_some_and(|node| node.mute) {
            self.spring(slot, Fault::CrashBeforeSend);
        }
    }

    /// A message leaves a process.
    fn leave(&mut self, slot: Slot, to: Slot, session: SessionId, message: &P::Message) -> Verdict {
        if self.nodes.get(&slot).is_some_and(|node| node.mute) {
            return Ok(());
        }
        if let Some(node) = view(&self.nodes, slot) {
            self.oracle.leaves(node, to, P::claim(message))?;
        }
        let passage = self.network.pass(slot, to, self.now, &self.faults, &mut self.random);
        let role = self.nodes.get(&to).and_then(Node::role);
        for fault in passage.struck {
            self.coverage.strike(fault, role);
        }
        for at in passage.arrivals {
            let event = Event::Receive(slot, session, message.clone());
            self.plan_event(at.saturating_sub(self.now), to, event);
        }
        self.replay(slot, to, session, message);
        Ok(())
    }

    /// Keeps a message for later, and now and then delivers one that was kept.
    fn replay(&mut self, slot: Slot, to: Slot, session: SessionId, message: &P::Message) {
        let rate = self.faults.amount(Fault::Replay);
        if rate == 0 {
            return;
        }
        if self.archive.len() < ARCHIVE {
            self.archive.push((slot, to, session, message.clone()));
        } else if self.random.chance(60) {
            let place = usize::try_from(self.random.below(64)).unwrap_or(0);
            if let Some(kept) = self.archive.get_mut(place) {
                *kept = (slot, to, session, message.clone());
            }
        }
        if self.random.chance(rate) {
            let count = u64::try_from(self.archive.len()).unwrap_or(0);
            let place = usize::try_from(self.random.below(count)).unwrap_or(0);
            if let Some((from, to, session, message)) = self.archive.get(place).cloned() {
                let role = self.nodes.get(&to).and_then(Node::role);
                self.coverage.strike(Fault::Replay, role);
                let wait = self.random.below(50);
                self.plan_event(wait, to, Event::Receive(from, session, message));
            }
        }
    }

    fn check(&mut self, slot: Slot) -> Verdict {
        let Some(node) = view(&self.nodes, slot) else {
            return Ok(());
        };
        self.oracle.after_step(node, &|slot| view(&self.nodes, slot))
    }
}
