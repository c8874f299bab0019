//! Keeps what makes a definition sound: every name, key, slot and address once, every reference resolved, every number
//! in its range, at least one organisation and one voter.
//!
//! Invariant: looks at everything and finds all that is wrong; whatever passes is a genesis. A key stands once in the
//! whole file: a key of two uses would let the holder of one act in the other. Source: `design.md`, sections 4 and 5.

use std::collections::{BTreeMap, BTreeSet};

use quipu_crypto::key::PublicKey;
use quipu_ledger::limits::{MAX_LIFETIME_RANGE_MS, MAX_MEMBERS, MAX_NODES};
use quipu_ledger::membership::{Grant, Member, NamespaceRights, Node, NodeRole, Organisation, Parameters};

use crate::document::GenesisDocument;
use crate::finding::{Collector, Finding, Place, Problem};
use crate::limits::{MAX_GRANTS, MAX_ROLES, MAX_TIME_MS};
use crate::text;

/// All that is wrong with `document`, signatures aside.
pub(crate) fn check(document: &GenesisDocument) -> Vec<Finding> {
    let membership = &document.membership;
    let mut rules = Rules::default();
    rules.name(&Place::top(), &document.name);
    let time = document.time.get();
    if !(1..=MAX_TIME_MS).contains(&time) {
        let problem = Problem::OutOfRange {
            found: time,
            least: 1,
            most: MAX_TIME_MS,
        };
        rules.findings.push(Place::top().field("time"), problem);
    }
    rules.organisations(&membership.organisations);
    rules.parameters(&membership.parameters, membership.organisations.len());
    rules.members(&membership.members);
    rules.namespaces(&membership.namespaces, &membership.members);
    rules.nodes(&membership.nodes);
    if !membership.nodes.iter().any(|node| node.role == NodeRole::Voter) {
        rules.findings.push(Place::top().field("node"), Problem::NoVoter);
    }
    rules.findings.into_vec()
}

/// What was seen so far, and what was found.
#[derive(Default)]
pub(crate) struct Rules {
    pub(crate) findings: Collector,
    /// Every key that may be enrolled, and where it stands first.
    keys: BTreeMap<PublicKey, Place>,
    /// Names of organisations, for those who refer to them. Every name passes in a file of one organisation.
    organisations: BTreeSet<String>,
}

impl Rules {
    /// Rules for a file in which all belongs to `organisation`.
    pub(crate) fn of(organisation: &str) -> Self {
        Self {
            organisations: BTreeSet::from([organisation.to_owned()]),
            ..Self::default()
        }
    }

    pub(crate) fn name(&mut self, place: &Place, name: &str) {
        if let Err(problem) = text::check_name(name) {
            self.findings.push(place.field("name"), problem);
        }
    }

    pub(crate) fn key(&mut self, place: &Place, key: PublicKey) {
        match key.check_enrolment() {
            Ok(()) => once(&mut self.keys, &mut self.findings, key, place.field("key")),
            Err(error) => self.findings.push(place.field("key"), Problem::Key(error)),
        }
    }

    fn count(&mut self, table: &str, count: usize, cap: usize) {
        if count > cap {
            self.findings
                .push(Place::top().field(table), Problem::TooMany { count, cap });
        }
    }

    /// Whether `name` is no organisation. Where there is none at all, that is the one finding, and not one for each
    /// who refers to one.
    fn is_unknown(&self, name: &str) -> bool {
        !self.organisations.is_empty() && !self.organisations.contains(name)
    }

    fn organisation(&mut self, place: &Place, name: &str) {
        if self.is_unknown(name) {
            let missing = "there is no [[organisation]] of that name";
            let problem = Problem::Unresolved {
                kind: "organisation",
                name: name.to_owned(),
                missing,
            };
            self.findings.push(place.field("organisation"), problem);
        }
    }

    fn organisations(&mut self, organisations: &[Organisation]) {
        if organisations.is_empty() {
            self.findings
                .push(Place::top().field("organisation"), Problem::NoOrganisation);
        }
        self.count("organisation", organisations.len(), MAX_MEMBERS);
        let mut names = BTreeMap::new();
        for (index, organisation) in organisations.iter().enumerate() {
            let place = Place::entry("organisation", index, &organisation.name);
            self.name(&place, &organisation.name);
            once(
                &mut names,
                &mut self.findings,
                organisation.name.as_str(),
                place.field("name"),
            );
            self.key(&place, organisation.key);
            self.organisations.insert(organisation.name.clone());
        }
    }

    fn parameters(&mut self, parameters: &Parameters, organisations: usize) {
        let place = Place::table("parameters");
        let (least, most) = MAX_LIFETIME_RANGE_MS.into_inner();
        self.range(place.field("max_lifetime"), parameters.max_lifetime_ms, least, most);
        // At least one, and not more than could ever sign.
        let most = if organisations == 0 { usize::MAX } else { organisations };
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        self.range(place.field("approvals"), u64::from(parameters.approvals), 1, most);
    }

    fn range(&mut self, place: Place, found: u64, least: u64, most: u64) {
        if !(least..=most).contains(&found) {
            self.findings.push(place, Problem::OutOfRange { found, least, most });
        }
    }

    pub(crate) fn members(&mut self, members: &[Member]) {
        self.count("member", members.len(), MAX_MEMBERS);
        let mut names = BTreeMap::new();
        for (index, member) in members.iter().enumerate() {
            let place = Place::entry("member", index, &member.name);
            self.name(&place, &member.name);
            once(
                &mut names,
                &mut self.findings,
                member.name.as_str(),
                place.field("name"),
            );
            self.organisation(&place, &member.organisation);
            self.key(&place, member.key);
            self.roles(&place.field("roles"), &member.roles);
        }
    }

    fn roles(&mut self, place: &Place, roles: &[String]) {
        if roles.len() > MAX_ROLES {
            self.findings.push(
                place.clone(),
                Problem::TooMany {
                    count: roles.len(),
                    cap: MAX_ROLES,
                },
            );
        }
        let mut seen = BTreeSet::new();
        for role in roles {
            if let Err(problem) = text::check_name(role) {
                self.findings.push(place.clone(), problem);
            }
            if !seen.insert(role) {
                self.findings.push(place.clone(), Problem::NamedTwice(role.clone()));
            }
        }
    }

    fn namespaces(&mut self, namespaces: &[NamespaceRights], members: &[Member]) {
        self.count("namespace", namespaces.len(), MAX_MEMBERS);
        let roles: BTreeSet<&String> = members.iter().flat_map(|member| &member.roles).collect();
        let named: BTreeSet<&String> = members.iter().map(|member| &member.name).collect();
        let mut names = BTreeMap::new();
        for (index, namespace) in namespaces.iter().enumerate() {
            let place = Place::entry("namespace", index, namespace.name.as_str());
            once(
                &mut names,
                &mut self.findings,
                namespace.name.as_str(),
                place.field("name"),
            );
            let place = place.field("writers");
            if namespace.writers.len() > MAX_GRANTS {
                let problem = Problem::TooMany {
                    count: namespace.writers.len(),
                    cap: MAX_GRANTS,
                };
                self.findings.push(place.clone(), problem);
            }
            let mut seen = BTreeSet::new();
            for grant in &namespace.writers {
                if !seen.insert(grant) {
                    self.findings
                        .push(place.clone(), Problem::NamedTwice(text::write_grant(grant)));
                }
                let (kind, name, missing) = match grant {
                    Grant::Role(name) if !roles.contains(name) => ("role", name, "no member has that role"),
                    Grant::Organisation(name) if self.is_unknown(name) => {
                        ("organisation", name, "there is no [[organisation]] of that name")
                    }
                    Grant::Member(name) if !named.contains(name) => {
                        ("member", name, "there is no [[member]] of that name")
                    }
                    Grant::Everyone | Grant::Role(_) | Grant::Organisation(_) | Grant::Member(_) => continue,
                };
                self.findings.push(
                    place.clone(),
                    Problem::Unresolved {
                        kind,
                        name: name.clone(),
                        missing,
                    },
                );
            }
        }
    }

    pub(crate) fn nodes(&mut self, nodes: &[Node]) {
        self.count("node", nodes.len(), MAX_NODES);
        let (mut slots, mut names) = (BTreeMap::new(), BTreeMap::new());
        let (mut incarnations, mut addresses) = (BTreeMap::new(), BTreeMap::new());
        for (index, node) in nodes.iter().enumerate() {
            let place = Place::entry("node", index, &node.name);
            self.node(&place, node);
            once(&mut slots, &mut self.findings, node.slot, place.field("slot"));
            once(&mut names, &mut self.findings, node.name.as_str(), place.field("name"));
            once(
                &mut incarnations,
                &mut self.findings,
                node.incarnation,
                place.field("incarnation"),
            );
            once(
                &mut addresses,
                &mut self.findings,
                node.address.as_str(),
                place.field("address"),
            );
        }
    }

    /// What can be said of a node by itself.
    pub(crate) fn node(&mut self, place: &Place, node: &Node) {
        self.name(place, &node.name);
        self.organisation(place, &node.organisation);
        self.key(place, node.key);
        if node.incarnation.0 == [0; 16] {
            self.findings.push(place.field("incarnation"), Problem::ZeroIncarnation);
        }
        if let Err(problem) = text::check_address(&node.address) {
            self.findings.push(place.field("address"), problem);
        }
    }
}

/// Finds a value that was seen before.
fn once<T: Ord>(seen: &mut BTreeMap<T, Place>, findings: &mut Collector, value: T, place: Place) {
    if let Some(first) = seen.get(&value) {
        findings.push(
            place,
            Problem::Repeated {
                first: Box::new(first.clone()),
            },
        );
    } else {
        seen.insert(value, place);
    }
}
