//! Keeps `network status`: where each node stands, as the node itself says it.
//!
//! Invariant: a node that does not answer delays the answer about the others by two seconds at most, and is shown.

use std::time::Duration;

use comfy_table::Table;
use quipu_crypto::id::{Height, Slot};
use quipu_node::client_protocol::{Answer, Call, ClockStatus, DiskStatus, NodeStatus};
use serde_json::{Value, json};

use super::place::{Member, Place};
use crate::cli::{Global, Identity};
use crate::failure::Failure;
use crate::genesis::table;
use crate::output::Output;
use crate::session::Session;

/// How long a node may take to say where it stands.
const ASK: Duration = Duration::from_secs(2);

/// What is known of a network.
pub(super) struct State {
    network: String,
    nodes: Vec<NodeState>,
}

/// What is known of a node.
pub(super) struct NodeState {
    slot: Slot,
    name: String,
    address: String,
    /// Where it stands on this machine; none where it runs elsewhere.
    here: Option<Member>,
    pid: Option<u32>,
    status: Option<NodeStatus>,
}

/// `network status` for a directory or a genesis file.
pub(super) fn run(global: &Global, identity: &Identity, output: Output) -> Result<(), Failure> {
    match &global.network {
        Some(dir) if dir.is_dir() => show(&Place::open(dir)?, output),
        _ => {
            let session = Session::open(global, identity)?;
            let nodes = session.genesis.membership().nodes.iter().map(|node| NodeState {
                slot: node.slot,
                name: node.name.clone(),
                address: node.address.clone(),
                here: None,
                pid: None,
                status: None,
            });
            let mut state = State {
                network: session.genesis.network_id().to_string(),
                nodes: nodes.collect(),
            };
            session.run(state.ask(&session))?;
            state.write(output)
        }
    }
}

/// Shows a development network.
pub(super) fn show(place: &Place, output: Output) -> Result<(), Failure> {
    let session = place.session()?;
    let mut state = State::of(place)?;
    session.run(state.ask(&session))?;
    state.write(output)
}

impl State {
    /// What can be seen without asking.
    pub(super) fn of(place: &Place) -> Result<Self, Failure> {
        let mut nodes = Vec::new();
        for member in &place.members {
            nodes.push(NodeState {
                slot: member.slot,
                name: member.name.clone(),
                address: member.address.clone(),
                here: Some(member.clone()),
                pid: member.process()?.map(|process| process.pid()),
                status: None,
            });
        }
        Ok(Self {
            network: place.genesis.network_id().to_string(),
            nodes,
        })
    }

    /// Asks every node that may run, all at once.
    pub(super) async fn ask(&mut self, session: &Session) -> Result<(), Failure> {
        let asked = self.nodes.iter().map(|node| {
            let (client, slot) = (session.client.clone(), node.slot);
            let may_run = node.here.is_none() || node.pid.is_some();
            tokio::spawn(async move {
                match may_run {
                    true => client.call_node(slot, Call::Status, ASK).await.ok(),
                    false => None,
                }
            })
        });
        let asked: Vec<_> = asked.collect();
        for (node, answer) in self.nodes.iter_mut().zip(asked) {
            node.status = match answer.await {
                Ok(Some(Answer::Status(status))) => Some(*status),
                _ => None,
            };
        }
        Ok(())
    }

    /// Whether a leader is known to every node that runs, and leads.
    pub(super) fn has_leader(&self) -> bool {
        let running = self.nodes.iter().filter(|node| node.pid.is_some());
        let known = running.map(|node| node.status.as_ref().and_then(|status| status.leader));
        let leads = |slot: Slot| {
            self.nodes
                .iter()
                .any(|node| node.slot == slot && node.role() == "leader")
        };
        let mut known: Vec<Option<Slot>> = known.collect();
        known.dedup();
        matches!(known.as_slice(), [Some(leader)] if leads(*leader))
    }

    pub(super) fn answers(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.name == name && node.status.is_some())
    }

    /// Whether a node has executed what the leader had committed when this was first asked; without a leader nobody
    /// can.
    pub(super) fn has_caught_up(&self, name: &str, aim: &mut Option<Height>) -> bool {
        let status = |wanted: &dyn Fn(&NodeState) -> bool| {
            let node = self.nodes.iter().find(|node| wanted(node));
            node.and_then(|node| node.status.as_ref())
        };
        let Some(leader) = status(&|node| node.role() == "leader") else {
            return true;
        };
        let aim = *aim.get_or_insert(leader.commit);
        status(&|node| node.name == name).is_some_and(|status| status.leader.is_some() && status.executed.height >= aim)
    }

    pub(super) fn write(&self, output: Output) -> Result<(), Failure> {
        let nodes: Vec<Value> = self.nodes.iter().map(NodeState::json).collect();
        output.data(&json!({"network": self.network, "nodes": nodes}), self.text())
    }

    fn text(&self) -> String {
        let mut rows: Table = table(&["node", "role", "term", "height", "executed", "tip", "pid", "quic"]);
        for node in &self.nodes {
            let of = |field: fn(&NodeStatus) -> String| node.status.as_ref().map_or_else(|| "-".to_owned(), field);
            rows.add_row([
                node.name.clone(),
                node.shown_role(),
                of(|status| status.term.to_string()),
                of(|status| status.tip.height.to_string()),
                of(|status| status.executed.height.to_string()),
                of(|status| status.tip.hash.to_string().chars().take(16).collect()),
                node.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                node.address.clone(),
            ]);
        }
        format!("network {}\n{}", self.network, rows.trim_fmt())
    }
}

impl NodeState {
    fn role(&self) -> &str {
        match (&self.status, &self.here, self.pid) {
            (Some(status), _, _) => &status.role,
            (None, Some(_), None) => "stopped",
            (None, _, _) => "unreachable",
        }
    }

    /// Its role, and what an operator must do something about.
    fn shown_role(&self) -> String {
        match self.status.as_ref().map(hindrances) {
            Some(found) if !found.is_empty() => format!("{} ({})", self.role(), found.join(", ")),
            _ => self.role().to_owned(),
        }
    }

    fn json(&self) -> Value {
        let of = |field: fn(&NodeStatus) -> String| self.status.as_ref().map(field);
        json!({
            "name": self.name,
            "slot": self.slot.to_string(),
            "role": self.role(),
            "pid": self.pid,
            "term": of(|status| status.term.to_string()),
            "height": of(|status| status.tip.height.to_string()),
            "committed": of(|status| status.commit.to_string()),
            "executed": of(|status| status.executed.height.to_string()),
            "tip": of(|status| status.tip.hash.to_string()),
            "state_digest": of(|status| status.executed.state_digest.to_string()),
            "not_ready": self.status.as_ref().map(hindrances),
            "clock": self.status.as_ref().map(|status| clock(&status.clock)),
            "disk": self.status.as_ref().map(|status| disk(&status.disk)),
            "http": null,
            "quic": self.address,
            "data": self.here.as_ref().map(Member::data),
        })
    }
}

/// Why a node that answers is not ready to do all that its role asks, in words.
fn hindrances(status: &NodeStatus) -> Vec<String> {
    let mut found = Vec::new();
    if status.disk.full {
        found.push("disk full".to_owned());
    }
    let ClockStatus { ahead_ms, wrong } = status.clock;
    if wrong {
        let side = if ahead_ms < 0 { "behind" } else { "ahead of" };
        let off = Duration::from_millis(ahead_ms.unsigned_abs()).as_secs_f64();
        found.push(format!(
            "clock {off:.1} s {side} the others', does not stand for election"
        ));
    }
    found
}

fn clock(clock: &ClockStatus) -> Value {
    json!({ "ahead_ms": clock.ahead_ms.to_string(), "wrong": clock.wrong })
}

fn disk(disk: &DiskStatus) -> Value {
    json!({
        "free": disk.free.to_string(),
        "floor": disk.floor.to_string(),
        "full": disk.full,
        "lost": disk.lost.map(|lost| lost.height.to_string()),
        "damaged": disk.damaged.to_string(),
        "repaired": disk.repaired.to_string(),
        "scrubbed": disk.scrubbed.to_string(),
        "scrubbed_all_at": disk.passed.map(|at| at.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(disk: DiskStatus, clock: ClockStatus) -> NodeState {
        let status = NodeStatus {
            network: Default::default(),
            slot: Slot(2),
            name: "node2".to_owned(),
            role: "follower".to_owned(),
            term: Default::default(),
            leader: Some(Slot(1)),
            tip: Default::default(),
            commit: Height(7),
            executed: Default::default(),
            waiting: 0,
            version: "0".to_owned(),
            disk,
            clock,
        };
        NodeState {
            slot: status.slot,
            name: status.name.clone(),
            address: "127.0.0.1:7000".to_owned(),
            here: None,
            pid: None,
            status: Some(status),
        }
    }

    #[test]
    fn what_keeps_a_node_from_leading_is_shown_with_its_role_and_told_to_programs() {
        let sound = state(DiskStatus::default(), ClockStatus::default());
        assert_eq!(sound.shown_role(), "follower");
        assert_eq!(sound.json()["not_ready"], json!([]));
        let full = DiskStatus {
            full: true,
            ..DiskStatus::default()
        };
        let behind = ClockStatus {
            ahead_ms: -3_540,
            wrong: true,
        };
        let both = state(full, behind);
        let clock = "clock 3.5 s behind the others', does not stand for election";
        assert_eq!(both.shown_role(), format!("follower (disk full, {clock})"));
        assert_eq!(both.json()["not_ready"], json!(["disk full", clock]));
        assert_eq!(both.json()["clock"], json!({"ahead_ms": "-3540", "wrong": true}));
        let ahead = ClockStatus {
            ahead_ms: 8_000,
            wrong: true,
        };
        let ahead = state(DiskStatus::default(), ahead);
        assert!(
            ahead.shown_role().contains("8.0 s ahead of the others'"),
            "{}",
            ahead.shown_role()
        );
    }
}
