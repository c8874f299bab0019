//! What a scenario demands of its nodes: `expect` lines hold whatever is rewritten.

use quipu_consensus::raft::Rules;
use quipu_consensus::simulator::participant::Participant;
use quipu_crypto::id::Slot;

use super::arguments::Arguments;
use super::{Host, Script, show};

impl<R: Rules + Clone> Script<R> {
    /// expect N ...: of that node; expect any, expect none: of one at least, of none.
    pub(super) fn expected(&self, arguments: &Arguments<'_>) -> Result<(), String> {
        let all = || self.nodes.keys().map(|slot| self.expect(*slot, arguments));
        match arguments.plain[0] {
            "any" if all().any(|found| found.is_ok()) => Ok(()),
            "none" if !all().any(|found| found.is_ok()) => Ok(()),
            "any" => Err("it is so of none".to_owned()),
            "none" => Err("it is so of one".to_owned()),
            _ => self.expect(arguments.slot(0), arguments),
        }
    }

    /// expect N role=R term=T leader=M vote=M tip=H@T durable=H@T commit=H peer=M:H:K: each must be so; `vote`
    /// is that on disk, `peer` what a leader knows of M: matched height and next.
    fn expect(&self, slot: Slot, arguments: &Arguments<'_>) -> Result<(), String> {
        let node = &self.nodes[&slot];
        let vote = Host::<R>::vote(&node.disk.durable);
        let Some(process) = &node.process else {
            return if arguments.value("role") == Some("Halted") {
                Ok(())
            } else {
                Err("it is down".to_owned())
            };
        };
        let status = process.status();
        for (name, wanted) in &arguments.named {
            let found = match *name {
                "role" => format!("{:?}", status.role),
                "term" => status.term.to_string(),
                "leader" => status.leader.map_or("nobody".to_owned(), |slot| slot.to_string()),
                "vote" => vote.voted_for.map_or("nobody".to_owned(), |slot| slot.to_string()),
                "tip" => show::id(status.tip),
                "durable" => show::id(status.durable),
                "commit" => status.commit.height.to_string(),
                "peer" => {
                    let slot = Slot(wanted.split(':').next().unwrap().parse().unwrap());
                    let peer = &status.peers[&slot];
                    format!("{slot}:{}:{}", peer.matched, peer.next)
                }
                other => return Err(format!("nothing is called {other}")),
            };
            if found != *wanted {
                return Err(format!("{name} is {found}"));
            }
        }
        Ok(())
    }
}
