//! Keeps what a simulated node does with the actions of its replica: writes, frames, work for its threads, answers.
//! On the way it holds them to what the replica owes: no blocks onto a full disk, nothing named that was not executed.
//!
//! Invariant: actions are carried out in the order in which they were given.

use super::*;

impl Host {
    pub(super) fn perform(&mut self, disk: &Image, effects: &mut Effects) -> Verdict {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Persist { seq, operations, sync } => self.persist(seq, operations, sync, effects)?,
                Action::Send {
                    to,
                    session,
                    frame,
                    after,
                    ..
                } => {
                    let frame = decode_frame(&frame).unwrap();
                    let claim = claim_of(&frame);
                    let waits = after.and_then(|after| self.writes.iter().find(|writing| writing.seq >= Some(after)));
                    effects.push(Effect::Send {
                        to,
                        session,
                        message: Frame {
                            frame: Rc::new(frame),
                            claim,
                        },
                        after: waits.map(|writing| writing.number),
                    });
                }
                Action::Execute { height, block } => self.executing.push((height, block)),
                Action::Fetch {
                    fetch,
                    first,
                    last,
                    max_bytes,
                } => self.fetching.push(Fetch {
                    fetch,
                    first,
                    last,
                    max_bytes,
                }),
                Action::Halt(reason) => effects.push(Effect::Halt(reason, self.disk_failed)),
                Action::Evidence(evidence) => return violation("honest", format!("{}: {evidence:?}", self.node.slot)),
                Action::Distrusted { leader } => {
                    return violation("honest", format!("{} distrusts {leader}", self.node.slot));
                }
                Action::Answer { .. }
                | Action::AnswerFromIndex { .. }
                | Action::Reject { .. }
                | Action::ReadNow { .. } => self.tell_client(disk, action, effects)?,
            }
        }
        Ok(())
    }

    fn persist(
        &mut self,
        seq: PersistSeq,
        operations: Vec<LogOperation<ChainBlock>>,
        sync: bool,
        effects: &mut Effects,
    ) -> Verdict {
        for operation in &operations {
            match operation {
                LogOperation::Append(blocks) if self.disk_full => {
                    return violation("D-8", format!("{} appends without room on its disk", self.node.slot));
                }
                LogOperation::Append(blocks) => {
                    self.appended.extend(blocks.iter().filter_map(Known::of));
                    for block in blocks {
                        self.name(block.block().header())?;
                    }
                }
                LogOperation::Truncate { from } => {
                    self.tip = self.tip.min(from.previous().unwrap());
                    self.named.split_off(from);
                }
                LogOperation::Restore(_) => effects.push(Effect::See(Sight::Repaired)),
                _ => {}
            }
        }
        self.write(Some(seq), Write::Log(Rc::new(operations)), sync, effects);
        Ok(())
    }

    /// A block enters the log: what it names as executed this node has executed itself, or a majority has, with this
    /// node among it, where it is this node that names it first.
    fn name(&mut self, header: &Header) -> Verdict {
        let (slot, names) = (self.node.slot, header.executed.height);
        let parent = self.named.get(&self.tip).copied().unwrap_or_default();
        self.tip = header.height;
        self.named.insert(header.height, names);
        if names == parent {
            return Ok(());
        }
        let executed = self.derived.last.height;
        let clients = self.setup.clients.borrow();
        let has = |other: &Slot| clients.record.reached.get(other).is_some_and(|height| *height >= names);
        let majority = clients.slots.iter().filter(|other| has(other)).count() > clients.slots.len() / 2;
        if names > executed || !majority {
            let detail = format!(
                "{slot} takes {}, which names {names}; it has executed {executed}",
                header.height
            );
            return violation("named", detail);
        }
        Ok(())
    }

    fn tell_client(&mut self, disk: &Image, action: Action, effects: &mut Effects) -> Verdict {
        match action {
            Action::Answer { ticket, receipt } => {
                let link = &disk.links[place(receipt.version.height)];
                let id = block_of(receipt.version.height, receipt.block, link.id.term);
                let request = self.setup.clients.borrow().request_of_call(ticket.0);
                effects.extend(request.map(|request| Effect::Acknowledge(request, id)));
                self.answer(ticket.0, &Answer::Executed(receipt))
            }
            Action::AnswerFromIndex { ticket, id } => {
                let answer = self.derived.find(id).map_or(Answer::Pending, Answer::Executed);
                self.answer(ticket.0, &answer)
            }
            Action::Reject { ticket, rejection } => {
                if matches!(rejection, Rejection::Expired { .. }) {
                    let clients = &self.setup.clients;
                    clients.borrow_mut().refused_for_ever(self.node.slot, ticket.0)?;
                }
                self.answer(ticket.0, &Answer::Rejected(rejection))
            }
            Action::ReadNow { ticket, confirmed } => {
                let number = self.reads.remove(&ticket.0);
                if let Some((number, _)) = number.filter(|_| confirmed) {
                    effects.push(Effect::ReadReady(number, self.derived.last.height));
                }
                self.setup.clients.borrow_mut().read_over(self.node.slot, ticket.0)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn answer(&self, call: u64, answer: &Answer) -> Verdict {
        self.setup.clients.borrow_mut().answer(self.node.slot, call, answer)
    }
}

/// What a frame promises, as the oracle counts it.
fn claim_of(frame: &PeerFrame) -> Claim {
    match frame {
        PeerFrame::Engine(message) => Claim::of(message),
        _ => Claim::Nothing,
    }
}
