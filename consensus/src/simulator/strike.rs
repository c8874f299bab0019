//! Applies the faults: what each does to nodes, disks and links when it strikes.
//!
//! Invariants: what makes a disk forget a synced write strikes only the frail minority that the seed drew
//! ([`super::faults::Faults::frail`]), and a directory is emptied or put back only where every other node that is not
//! frail durably remembers the start that it would announce, or a later one: without that memory nobody could tell
//! (D-10), and no Raft could cope.
//! Leaves when to strike to `run`.

use quipu_crypto::id::{Height, Slot};

use super::faults::Fault;
use super::participant::{Damage, Event, Participant};
use super::trace::Kind;
use super::world::{Chore, Happening, Node, World, view};
use crate::engine::Role;
use crate::input::Entropy;

impl<P: Participant> World<P> {
    /// A fault strikes a node, or the network.
    pub(super) fn strike(&mut self, fault: Fault) {
        let slot = match fault {
            Fault::Wipe | Fault::OldCopy | Fault::LostTail | Fault::Rot | Fault::Misdirected => {
                let count = u64::try_from(self.faults.frail.len()).unwrap_or(0);
                let place = usize::try_from(self.random.below(count)).unwrap_or(0);
                match self.faults.frail.iter().nth(place) {
                    Some(slot) => *slot,
                    None => return,
                }
            }
            // A leader is one of many, and the node that most is to be learnt from.
            _ => match self.leader().filter(|_| self.random.chance(300)) {
                Some(leader) => leader,
                None => self.any_slot(),
            },
        };
        match fault {
            Fault::Partition | Fault::OneWay | Fault::Links => self.cut(fault),
            Fault::Clog | Fault::Swizzle | Fault::SessionEnd => self.strike_links(fault, slot),
            Fault::Blackout => {
                for slot in self.slots() {
                    self.struck(fault, slot);
                    self.crash_and_restart(slot);
                }
            }
            Fault::Crash => {
                self.struck(fault, slot);
                self.crash_and_restart(slot);
            }
            Fault::Wipe | Fault::OldCopy | Fault::LostTail | Fault::Rot | Fault::Misdirected => {
                self.strike_disk(fault, slot);
            }
            _ => self.strike_process(fault, slot),
        }
    }

    fn leader(&self) -> Option<Slot> {
        let leads = self.nodes.iter().filter(|(_, node)| node.role() == Some(Role::Leader));
        leads.last().map(|(slot, _)| *slot)
    }

    /// Counts a strike by the role of its node.
    pub(super) fn struck(&mut self, fault: Fault, slot: Slot) {
        let role = self.nodes.get(&slot).and_then(Node::role);
        if role.is_some() || super::coverage::can_strike(fault, None) {
            self.coverage.strike(fault, role);
            self.trace.line(self.now, slot, Kind::Fault, "struck by", &fault);
        }
    }

    /// The process dies in the step that was waited for.
    pub(super) fn spring(&mut self, slot: Slot, fault: Fault) {
        self.struck(fault, slot);
        self.crash_and_restart(slot);
    }

    pub(super) fn crash_and_restart(&mut self, slot: Slot) {
        self.crash(slot);
        let wait = self.random.between(1, 1500);
        self.plan(wait, Happening::Start(slot));
    }

    fn cut(&mut self, fault: Fault) {
        let slots = self.slots();
        for slot in self.network.partition(fault, &slots, &mut self.random) {
            self.struck(fault, slot);
        }
        let wait = self.random.between(100, 6000);
        self.plan(wait, Happening::Chore(Chore::Mend));
    }

    fn strike_links(&mut self, fault: Fault, slot: Slot) {
        let mut others = self.slots();
        others.retain(|other| *other != slot);
        let place = usize::try_from(self.random.below(u64::try_from(others.len()).unwrap_or(0))).unwrap_or(0);
        let Some(other) = others.get(place).copied() else {
            return;
        };
        match fault {
            Fault::Clog => {
                let until = self.now.saturating_add(self.random.between(50, 5000));
                self.network.clog(slot, other, until);
                if self.random.chance(500) {
                    self.network.clog(other, slot, until);
                }
            }
            Fault::Swizzle => {
                self.struck(fault, slot);
                for other in others {
                    for (from, to) in [(slot, other), (other, slot)] {
                        let (stop, lasts) = (self.random.below(2000), self.random.between(200, 4000));
                        self.plan(stop, Happening::Link { from, to, cut: true });
                        let cut = false;
                        self.plan(stop.saturating_add(lasts), Happening::Link { from, to, cut });
                    }
                }
            }
            _ => {
                self.struck(fault, slot);
                self.end_session(slot, other);
                let wait = self.random.between(1, 200);
                self.plan(wait, Happening::Connect(slot, other));
            }
        }
    }

    fn strike_process(&mut self, fault: Fault, slot: Slot) {
        let now = self.now;
        let lasts = self.random.between(50, 10_000);
        let skew = self.faults.skew;
        let rate = self
            .random
            .between(1000_u64.saturating_sub(skew), 1000_u64.saturating_add(skew));
        let Some(node) = self.nodes.get_mut(&slot) else { return };
        match fault {
            // It strikes when the process comes to that step.
            Fault::CrashInWrite | Fault::CrashAfterWrite | Fault::CrashBeforeSend => {
                node.ambush = node.process.is_some().then_some(fault);
                return;
            }
            Fault::WriteError => return self.fail_write(slot),
            Fault::Pause if node.process.is_some() => node.paused_until = now.saturating_add(lasts),
            Fault::FullDisk => node.full_until = now.saturating_add(lasts),
            Fault::SlowDisk => node.slow_until = now.saturating_add(lasts),
            Fault::Skew => node.clock.run_at(now, rate),
            Fault::Jump => node.clock.jump(lasts),
            _ => {}
        }
        self.struck(fault, slot);
        match fault {
            Fault::FullDisk => {
                self.event(slot, None, Event::DiskFull(true));
                self.plan_event(lasts.saturating_add(1), slot, Event::DiskFull(false));
            }
            Fault::Transfer => {
                let status = self.nodes.get(&slot).and_then(|node| node.status.as_ref());
                if let Some(status) = status.filter(|status| status.role == Role::Leader) {
                    self.wish = Some((status.term, slot, now.saturating_add(300)));
                }
                self.event(slot, None, Event::Transfer);
            }
            _ => {}
        }
    }

    /// The next write of a disk fails: its process hears of it, and must stop.
    pub(super) fn fail_write(&mut self, slot: Slot) {
        let Some(node) = self.nodes.get(&slot).filter(|node| node.process.is_some()) else {
            return;
        };
        let life = node.life;
        if let Some(seq) = node.disk.next().filter(|_| node.paused_until <= self.now) {
            self.struck(Fault::WriteError, slot);
            self.event(slot, Some(life), Event::WriteFailed(seq));
            let wait = self.random.between(1, 1500);
            self.plan(wait, Happening::Start(slot));
        } else if let Some(node) = self.nodes.get_mut(&slot) {
            // Nothing is being written: the next write is the one.
            node.ambush = Some(Fault::WriteError);
        }
    }

    fn strike_disk(&mut self, fault: Fault, slot: Slot) {
        let role = self.nodes.get(&slot).and_then(Node::role);
        let damage = match fault {
            Fault::Rot => Some(Damage::Rot),
            Fault::Misdirected => Some(Damage::Misdirected),
            Fault::LostTail if self.random.chance(500) => Some(Damage::LostTailAndOldWatermark),
            Fault::LostTail => Some(Damage::LostTail),
            _ => None,
        };
        let in_place = matches!(fault, Fault::Rot | Fault::Misdirected);
        if !in_place {
            if damage.is_none() && !self.is_remembered(fault, slot) {
                return;
            }
            self.crash(slot);
        }
        let Some(node) = self.nodes.get_mut(&slot) else { return };
        let before: Vec<_> = P::chain(&node.disk.durable).iter().map(|link| link.id).collect();
        // The end of a chain is where most happens.
        let count = u64::try_from(before.len()).unwrap_or(0);
        let depth = if self.random.chance(500) { count } else { count.min(20) };
        let at = Height(count.saturating_sub(1).saturating_sub(self.random.below(depth)));
        let struck = match (damage, fault) {
            (Some(damage), _) => node.disk.strike(|image| P::damage(image, damage, at)),
            (None, Fault::OldCopy) => match node.copy.take() {
                Some(image) => {
                    node.disk.replace(image);
                    true
                }
                None => false,
            },
            (None, _) => {
                node.disk.replace(P::blank(&self.setup, slot));
                true
            }
        };
        if struck {
            node.hit = true;
            self.coverage.strike(fault, role);
            self.trace.line(self.now, slot, Kind::Fault, "disk struck by", &fault);
            let verdict = match view(&self.nodes, slot) {
                Some(view) => self.oracle.forgot(view, &before),
                None => Ok(()),
            };
            self.judge(verdict);
        }
        if !in_place {
            let wait = self.random.between(1, 1500);
            self.plan(wait, Happening::Start(slot));
        }
    }

    /// Whether the sound nodes will notice: each durably remembers the start that the directory would announce, or a
    /// later one.
    fn is_remembered(&self, fault: Fault, slot: Slot) -> bool {
        let Some(node) = self.nodes.get(&slot) else {
            return false;
        };
        let announced = match (fault, &node.copy) {
            (Fault::OldCopy, Some(copy)) => P::starts(copy).saturating_add(1),
            (Fault::OldCopy, None) => return false,
            _ => 1,
        };
        let sound = self
            .nodes
            .iter()
            .filter(|(other, _)| **other != slot && !self.faults.frail.contains(other));
        let mut sound = sound.map(|(_, other)| P::remembered_start(&other.disk.durable, slot));
        sound.all(|start| start >= announced)
    }
}
