//! I4 I5 one final chain, I6 durable on a quorum, I7 no counting of older terms, I9 commit only rises, I13 I14
//! requests are final where a client was told, and once.

use quipu_crypto::id::{BlockId, Height, Slot};

use super::{Oracle, Verdict, View, Violation, at, broken, holds, violation};
use crate::block::Configuration;
use crate::engine::{Role, Status};
use crate::quorum;

impl Oracle {
    /// A node says that everything up to `upto` is committed.
    ///
    /// Answers whether blocks of older terms became final with it.
    ///
    /// # Errors
    /// I4, I6, I7, I14.
    pub fn committed<'a>(
        &mut self,
        node: View<'a>,
        upto: BlockId,
        all: &dyn Fn(Slot) -> Option<View<'a>>,
    ) -> Result<bool, Violation> {
        if !holds(node.chain, upto) {
            return Err(broken(
                "I4",
                format!("{} commits {upto}, which is not in its chain", node.slot),
            ));
        }
        let known = self.final_height().min(upto.height);
        // One block below `upto` is enough: equal hash means equal prefix.
        let agreed = self.committed.get(usize::try_from(known.get()).unwrap_or(usize::MAX));
        if let (Some((ours, _)), Some(theirs)) = (agreed, at(node.chain, known))
            && ours.id != theirs.id
        {
            return Err(broken(
                "I4",
                format!("{} commits {}, final is {}", node.slot, theirs.id, ours.id),
            ));
        }
        if upto.height <= self.final_height() && !self.committed.is_empty() {
            return Ok(false);
        }
        self.first_commit(node, upto, all)?;
        let mut older = false;
        let term = node.status.map_or(upto.term, |status| status.term);
        for link in node.chain.iter().skip(self.committed.len()) {
            if link.id.height > upto.height {
                break;
            }
            for request in &link.requests {
                if self.requests.insert(*request, link.id.height).is_some() {
                    return Err(broken(
                        "I14",
                        format!("request {request} is committed twice, again in {}", link.id),
                    ));
                }
            }
            older |= link.id.term < upto.term && link.id.height.get() > 0;
            self.committed.push((link.clone(), term));
        }
        Ok(older)
    }

    /// The very first commit of a block: by a leader, of its own term, durable on a quorum of the disks.
    fn first_commit<'a>(&self, node: View<'a>, upto: BlockId, all: &dyn Fn(Slot) -> Option<View<'a>>) -> Verdict {
        let leads = node.status.filter(|status| status.role == Role::Leader);
        if leads.is_none_or(|status| status.term != upto.term) {
            let status = node.status.map(|status| (status.role, status.term));
            return violation("I7", format!("{} {status:?} is the first to commit {upto}", node.slot));
        }
        let durable = |slot| self.forgot_block(slot, upto) || all(slot).is_some_and(|other| holds(other.durable, upto));
        let configuration = self.in_force(node, upto.height);
        if !quorum::reached(configuration, durable) {
            return violation("I6", format!("{} commits {upto}, durable on too few", node.slot));
        }
        Ok(())
    }

    pub(super) fn in_force<'a>(&'a self, node: View<'a>, height: Height) -> &'a Configuration {
        if !self.membership_changed {
            return &self.members;
        }
        let upto = usize::try_from(height.get()).unwrap_or(usize::MAX).saturating_add(1);
        let found = node
            .chain
            .iter()
            .take(upto)
            .rev()
            .find_map(|link| link.configuration.as_ref());
        found.unwrap_or(&self.members)
    }

    /// I9: in memory the commit height never falls, and it lies within the chain. I5: it lies on the final chain, be it
    /// only remembered from before a restart.
    pub(super) fn commit_within_chain(&mut self, node: View<'_>, status: &Status) -> Verdict {
        let seen = self.nodes.entry(node.slot).or_default();
        let before = std::mem::replace(&mut seen.commit, status.commit.height);
        let (commit, tip, durable) = (status.commit, status.tip, status.durable);
        if commit.height < before {
            return violation("I9", format!("{}: commit fell from {before} to {commit}", node.slot));
        }
        if !holds(node.chain, commit) || !holds(node.chain, tip) || !holds(node.durable, durable) {
            return violation(
                "I9",
                format!(
                    "{}: commit {commit}, tip {tip}, durable {durable} are not its chain",
                    node.slot
                ),
            );
        }
        // A commit of this very step is judged when its effect is performed.
        let place = usize::try_from(commit.height.get()).unwrap_or(usize::MAX);
        if let Some((link, _)) = self.committed.get(place)
            && link.id != commit
        {
            return violation("I5", format!("{}: commit is {commit}, final is {}", node.slot, link.id));
        }
        Ok(())
    }

    /// I13: what a client was told is final, exactly there.
    ///
    /// # Errors
    /// I13.
    pub fn acknowledged(&self, slot: Slot, request: u64, id: BlockId) -> Verdict {
        let height = usize::try_from(id.height.get()).unwrap_or(usize::MAX);
        let final_there = self.committed.get(height).is_some_and(|(link, _)| link.id == id);
        if !final_there || self.requests.get(&request) != Some(&id.height) {
            return violation(
                "I13",
                format!("{slot} acknowledges request {request} in {id}, which is not final"),
            );
        }
        Ok(())
    }
}
