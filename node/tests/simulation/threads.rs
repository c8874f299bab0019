//! Keeps the threads of a simulated node beside the replica: inspection, admission, execution and old blocks. Each
//! takes what waits for it when it is idle, and is done with it later.
//!
//! Invariant: they do what `inspect_peers`, `admit` and `executor` do, in the same order.

use super::*;

impl Host {
    /// One thing that a thread is done with.
    pub(super) fn complete(&mut self, entropy: &mut dyn Entropy) -> Result<bool, Violation> {
        if let Some(passed) = self.inspecting.done(self.now) {
            passed.into_iter().for_each(|event| self.tell(entropy, event));
        } else if let Some(batch) = self.admitting.done(self.now) {
            for admitted in batch {
                match admitted {
                    Admitted::In(origin, transaction) => self.tell(entropy, Event::Submit { origin, transaction }),
                    Admitted::Out(Origin::Client { ticket, .. }, answer) => self.answer(ticket.0, &answer)?,
                    Admitted::Out(Origin::Peer { .. }, _) => {}
                }
            }
        } else if let Some(block) = self.executing.done(self.now) {
            self.tell(entropy, Event::Executed(block));
        } else if let Some(loaded) = self.fetching.done(self.now) {
            self.tell(entropy, loaded);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Lets every thread that is idle begin with what waits for it.
    pub(super) fn begin(&mut self, entropy: &mut dyn Entropy, disk: &Image, effects: &mut Effects) -> Verdict {
        let dose = self.setup.dose;
        if let Some((from, item)) = self.inspecting.next() {
            let outcome = self.inspect(from, item)?;
            let until = self.until(entropy, dose.inspect_ms, effects);
            self.inspecting.begin(until, outcome);
        }
        if !self.door.is_empty() {
            let batch = self.door.drain(..self.door.len().min(ADMISSION_BATCH)).collect();
            self.admitting.push(batch);
        }
        if let Some(batch) = self.admitting.next() {
            let outcome = self.admit(batch);
            let until = self.until(entropy, dose.admit_ms, effects);
            self.admitting.begin(until, outcome);
        }
        if let Some(fetch) = self.fetching.next() {
            let until = self.until(entropy, dose.fetch_ms, effects);
            let (previous, blocks) = disk.read(fetch.first, fetch.last, fetch.max_bytes);
            if blocks.is_empty() {
                self.report(entropy, disk, fetch.first, effects);
            }
            let loaded = Event::Loaded {
                fetch: fetch.fetch,
                previous: previous.unwrap_or_default(),
                blocks: blocks.into_iter().map(ChainBlock::stored).collect(),
            };
            self.fetching.begin(until, loaded);
        }
        if let Some((height, block)) = self.executing.next() {
            if block.is_none() && self.report(entropy, disk, height, effects) {
                // It waits until the block is restored.
                self.executing.put_back((height, block));
                return Ok(());
            }
            let outcome = self.execute(disk, height, block)?;
            let healed = self.setup.clients.borrow().healed;
            let stalls = !healed && entropy.below(1000) < dose.stall;
            let longest = if stalls { 4_000 } else { dose.execute_ms };
            let until = self.until(entropy, longest, effects);
            self.executing.begin(until, outcome);
            if entropy.below(1000) < dose.flush {
                self.flush(effects);
            }
        }
        Ok(())
    }

    /// When a thread is done with what it begins now.
    fn until(&self, entropy: &mut dyn Entropy, longest: u64, effects: &mut Effects) -> u64 {
        let longest = if self.setup.clients.borrow().healed {
            longest.min(2)
        } else {
            longest
        };
        let wait = entropy.below(longest + 1);
        if wait > 0 {
            effects.push(Effect::Wake(wait));
        }
        self.now + wait
    }

    fn inspect(&mut self, from: Slot, item: FromPeer) -> Result<Option<Event>, Violation> {
        self.appended.drain(..).for_each(|known| self.inspector.appended(known));
        let (session, frame) = match item {
            FromPeer::Up(session) => return Ok(Some(Event::PeerUp { peer: from, session })),
            FromPeer::Down(session) => return Ok(Some(Event::PeerDown { peer: from, session })),
            FromPeer::Frame(session, frame) => (session, Rc::unwrap_or_clone(frame)),
        };
        match inspect_peers::pass(&mut self.inspector, from, session, frame) {
            Passed::On(event) => Ok(Some(event)),
            Passed::ToAdmission(transactions) => {
                let bytes = transactions.into_iter().map(TransactionBytes::into_vec);
                let origin = Origin::Peer { slot: from, session };
                self.door.extend(bytes.map(|bytes| Admission { bytes, origin }));
                Ok(None)
            }
            Passed::Faulty(finding) => Err(Violation {
                invariant: "honest",
                detail: format!("{} calls {from} faulty: {finding}", self.node.slot),
            }),
        }
    }

    /// What the admitter does with a batch.
    fn admit(&self, batch: Vec<Admission>) -> Vec<Admitted> {
        let rules = Rules {
            network: self.setup.founding.genesis.network_id(),
            membership: self.setup.founding.genesis.membership(),
            now: wall(&self.setup, self.node.slot).max(self.derived.time),
        };
        let mut outcome = Vec::new();
        let (mut origins, mut transactions): (Vec<Origin>, Vec<SignedTransaction>) = (Vec::new(), Vec::new());
        for Admission { bytes, origin } in batch {
            match rules.check(bytes, |id| Ok(self.derived.find(id))) {
                Ok(transaction) => {
                    origins.push(origin);
                    transactions.push(transaction);
                }
                Err(answer) => outcome.push(Admitted::Out(origin, *answer)),
            }
        }
        let verdicts = self.verified.verify_all(transactions);
        outcome.extend(
            origins
                .into_iter()
                .zip(verdicts)
                .map(|(origin, verdict)| match verdict {
                    Ok(transaction) => Admitted::In(origin, transaction),
                    Err(_) => Admitted::Out(origin, Answer::Rejected(Rejection::BadSignature)),
                }),
        );
        outcome
    }

    fn execute(&mut self, disk: &Image, height: Height, block: Option<Block>) -> Result<ExecutedBlock, Violation> {
        let slot = self.node.slot;
        let committed = self.replica.status().commit.height;
        if height > committed || height > self.durable {
            let durable = self.durable;
            let detail = format!("{slot} executes {height}, committed {committed}, durable {durable}");
            return Err(Violation {
                invariant: "P6",
                detail,
            });
        }
        let block = block.unwrap_or_else(|| disk.read(height, height, 0).1[0].clone());
        assert_eq!(
            disk.links[place(height)].id,
            block.id(),
            "the block that is executed is the stored one"
        );
        let results = self.derived.execute(&block, self.setup.founding.genesis.membership());
        let mut clients = self.setup.clients.borrow_mut();
        let now = clients.now;
        clients.record.executed(slot, &block, &results, &self.derived, now)?;
        Ok(ExecutedBlock {
            id: block.id(),
            time: block.header().time,
            executed: self.derived.executed(),
            results,
        })
    }
}
