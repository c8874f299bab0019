//! Keeps the rules of membership blocks: what a membership must look like, who may change it, and in which two steps.
//!
//! Invariants: Joint carries a request signed by enough organisations of the membership that it changes, Final is Joint
//! without the outgoing voters under a joint certificate; one change at a time. Block 0 is judged in `rules` itself.

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{Height, TimeMs};
use quipu_crypto::signature::{self, Signature};

use super::{Ancestors, ChainTip, Fault};
use crate::block::Header;
use crate::certificate::Certificate;
use crate::limits::{MAX_LIFETIME_RANGE_MS, MAX_MEMBERS, MAX_NODES};
use crate::membership::{Membership, MembershipRecord, Node, SignedRequest};

/// Why a membership could not be in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipFault {
    /// A list is longer than it may be.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// A list is not sorted by its first field, or holds one entry twice.
    #[error("the {list} are not sorted and unique at `{at}`")]
    Unsorted {
        /// Which list.
        list: &'static str,
        /// The entry.
        at: String,
    },
    /// Two entries share what must tell them apart.
    #[error("two {list} have the same {what}: `{at}`")]
    Shared {
        /// Which list.
        list: &'static str,
        /// What is the same.
        what: &'static str,
        /// The second entry.
        at: String,
    },
    /// An organisation is named that is not listed.
    #[error("`{name}` belongs to organisation `{organisation}`, which is not listed")]
    UnknownOrganisation {
        /// Whose.
        name: String,
        /// Which.
        organisation: String,
    },
    /// A key that must not be enrolled.
    #[error("the key of `{0}` is not a sound Ed25519 key")]
    UnsoundKey(String),
    /// Nobody could decide anything.
    #[error("there is no voter")]
    NoVoter,
    /// A number is out of its range.
    #[error("parameter {0} is out of its range")]
    Parameter(&'static str),
}

/// Why a membership block was refused as a step of a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeFault {
    /// A genesis record above height 0.
    #[error("the record of a genesis stands above height 0")]
    GenesisAgain,
    /// A change of membership needs certificates.
    #[error("certificates are switched off, so the membership cannot change")]
    CertificatesOff,
    /// A Joint block on a joint membership.
    #[error("another change has not ended")]
    ChangeUnderWay,
    /// The request is of another network.
    #[error("the request is of another network")]
    RequestNetwork,
    /// The request had expired.
    #[error("the request expired at {0}")]
    RequestExpired(TimeMs),
    /// The request expects another membership block in force.
    #[error("the request expects membership block {0}, which is not the one in force")]
    RequestExpected(Height),
    /// Joint's membership is not the one asked for, with all former voters as outgoing.
    #[error("the membership is not the one asked for with the former voters as outgoing")]
    NotAsAsked,
    /// Approvals are not sorted by organisation, or one is there twice.
    #[error("the approval of `{0}` is out of order or there twice")]
    ApprovalUnsorted(String),
    /// An approval of an organisation that is not listed.
    #[error("`{0}` is no organisation of the network")]
    ApprovalUnknown(String),
    /// An approval that does not verify.
    #[error("the approval of `{0}` is not signed by its key")]
    ApprovalSignature(String),
    /// Too few organisations approve.
    #[error("{have} approvals, {need} are needed")]
    TooFewApprovals {
        /// How many there are.
        have: usize,
        /// How many the parameters demand.
        need: u32,
    },
    /// A Final block where no Joint is in force, or another one.
    #[error("no Joint block at height {0} with this request is in force")]
    NoJoint(Height),
    /// Final's membership is not Joint's with `outgoing` empty.
    #[error("the membership is not Joint's without the outgoing voters")]
    NotJoints,
    /// Final's certificate was not made under the joint membership.
    #[error("the certificate was not made under the joint membership")]
    NotUnderJoint,
}

/// Whether a membership could be in force: sorted, unique, complete, with sound keys and parameters.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_membership(membership: &Membership) -> Result<(), MembershipFault> {
    check_nodes("nodes", &membership.nodes, membership)?;
    check_nodes("outgoing nodes", &membership.outgoing, membership)?;
    if membership.voters().next().is_none() {
        return Err(MembershipFault::NoVoter);
    }
    check_organisations(membership)?;
    check_members(membership)?;
    let namespaces = &membership.namespaces;
    within("namespaces", namespaces.len(), MAX_MEMBERS)?;
    sorted(
        "namespaces",
        namespaces,
        |rights| &rights.name,
        |rights| rights.name.to_string(),
    )?;
    for rights in namespaces {
        sorted("writers", &rights.writers, |grant| grant, |_| rights.name.to_string())?;
    }
    let parameters = &membership.parameters;
    if !MAX_LIFETIME_RANGE_MS.contains(&parameters.max_lifetime_ms) {
        return Err(MembershipFault::Parameter("max_lifetime_ms"));
    }
    let approvals = usize::try_from(parameters.approvals).unwrap_or(usize::MAX);
    if approvals == 0 || approvals > membership.organisations.len() {
        return Err(MembershipFault::Parameter("approvals"));
    }
    Ok(())
}

fn check_nodes(list: &'static str, nodes: &[Node], membership: &Membership) -> Result<(), MembershipFault> {
    within(list, nodes.len(), MAX_NODES)?;
    sorted(list, nodes, |node| &node.slot, |node| node.slot.to_string())?;
    unique(list, "key", nodes, |node| node.key, |node| node.name.clone())?;
    unique(list, "name", nodes, |node| node.name.clone(), |node| node.name.clone())?;
    for node in nodes {
        sound(&node.name, &node.key)?;
        // Outgoing voters may be of an organisation that leaves with them.
        if list == "nodes" {
            listed(&node.name, &node.organisation, membership)?;
        }
    }
    Ok(())
}

fn check_organisations(membership: &Membership) -> Result<(), MembershipFault> {
    let organisations = &membership.organisations;
    within("organisations", organisations.len(), MAX_MEMBERS)?;
    sorted("organisations", organisations, |one| &one.name, |one| one.name.clone())?;
    unique(
        "organisations",
        "key",
        organisations,
        |one| one.key,
        |one| one.name.clone(),
    )?;
    organisations.iter().try_for_each(|one| sound(&one.name, &one.key))
}

fn check_members(membership: &Membership) -> Result<(), MembershipFault> {
    let members = &membership.members;
    within("members", members.len(), MAX_MEMBERS)?;
    sorted("members", members, |member| &member.key, |member| member.name.clone())?;
    unique(
        "members",
        "name",
        members,
        |member| member.name.clone(),
        |member| member.name.clone(),
    )?;
    for member in members {
        sound(&member.name, &member.key)?;
        listed(&member.name, &member.organisation, membership)?;
        sorted("roles", &member.roles, |role| role, |_| member.name.clone())?;
    }
    Ok(())
}

fn within(list: &'static str, count: usize, cap: usize) -> Result<(), MembershipFault> {
    if count > cap {
        Err(MembershipFault::TooMany(list))
    } else {
        Ok(())
    }
}

fn sorted<'a, T, K: Ord + ?Sized + 'a>(
    list: &'static str,
    entries: &'a [T],
    key: impl Fn(&'a T) -> &'a K,
    name: impl Fn(&T) -> String,
) -> Result<(), MembershipFault> {
    let mut pairs = entries.iter().zip(entries.iter().skip(1));
    match pairs.find(|(earlier, later)| key(earlier) >= key(later)) {
        Some((_, later)) => Err(MembershipFault::Unsorted { list, at: name(later) }),
        None => Ok(()),
    }
}

fn unique<T, K: Ord>(
    list: &'static str,
    what: &'static str,
    entries: &[T],
    key: impl Fn(&T) -> K,
    name: impl Fn(&T) -> String,
) -> Result<(), MembershipFault> {
    let mut seen = std::collections::BTreeSet::new();
    match entries.iter().find(|entry| !seen.insert(key(entry))) {
        Some(entry) => Err(MembershipFault::Shared {
            list,
            what,
            at: name(entry),
        }),
        None => Ok(()),
    }
}

fn sound(name: &str, key: &quipu_crypto::key::PublicKey) -> Result<(), MembershipFault> {
    key.check_enrolment()
        .map_err(|_| MembershipFault::UnsoundKey(name.to_owned()))
}

fn listed(name: &str, organisation: &str, membership: &Membership) -> Result<(), MembershipFault> {
    let found = membership
        .organisations
        .iter()
        .any(|listed| listed.name == organisation);
    if found {
        Ok(())
    } else {
        Err(MembershipFault::UnknownOrganisation {
            name: name.to_owned(),
            organisation: organisation.to_owned(),
        })
    }
}

impl ChainTip {
    /// The rules of the one item of a membership block above height 0.
    pub(super) fn check_change(
        &self,
        header: &Header,
        record: &MembershipRecord,
        ancestors: &dyn Ancestors,
    ) -> Result<(), Fault> {
        match record {
            MembershipRecord::Genesis(_) => Err(ChangeFault::GenesisAgain.into()),
            MembershipRecord::Joint { membership, request } => {
                self.check_joint(header.time, membership, request)?;
                Ok(check_membership(membership)?)
            }
            MembershipRecord::Final {
                membership,
                joint,
                request,
                certificate,
            } => self.check_final(membership, *joint, *request, certificate, ancestors),
        }
    }

    fn check_joint(&self, time: TimeMs, membership: &Membership, signed: &SignedRequest) -> Result<(), ChangeFault> {
        let (before, request) = (&self.in_force, &signed.request);
        if !before.membership.parameters.certificates {
            return Err(ChangeFault::CertificatesOff);
        }
        if before.joint_request.is_some() {
            return Err(ChangeFault::ChangeUnderWay);
        }
        if request.network != self.header.network {
            return Err(ChangeFault::RequestNetwork);
        }
        if time >= request.expires_at {
            return Err(ChangeFault::RequestExpired(request.expires_at));
        }
        if (request.expected_height, request.expected_hash) != (before.height, before.hash) {
            return Err(ChangeFault::RequestExpected(request.expected_height));
        }
        let asked = Membership {
            outgoing: before.membership.voters().cloned().collect(),
            ..request.membership.clone()
        };
        if !request.membership.outgoing.is_empty() || *membership != asked {
            return Err(ChangeFault::NotAsAsked);
        }
        check_approvals(&before.membership, &request.hash(), &signed.approvals)
    }

    fn check_final(
        &self,
        membership: &Membership,
        joint: Height,
        request: Hash,
        certificate: &Certificate,
        ancestors: &dyn Ancestors,
    ) -> Result<(), Fault> {
        let before = &self.in_force;
        if before.height != joint || before.joint_request != Some(request) {
            return Err(ChangeFault::NoJoint(joint).into());
        }
        let expected = Membership {
            outgoing: Vec::new(),
            ..before.membership.as_ref().clone()
        };
        if *membership != expected {
            return Err(ChangeFault::NotJoints.into());
        }
        // Made under Joint, so it certifies Joint itself or a descendant, and with either of them Joint.
        if certificate.membership != joint {
            return Err(ChangeFault::NotUnderJoint.into());
        }
        self.check_certificate(certificate, ancestors)
    }
}

fn check_approvals(
    membership: &Membership,
    request: &Hash,
    approvals: &[(String, Signature)],
) -> Result<(), ChangeFault> {
    for ((earlier, _), (later, _)) in approvals.iter().zip(approvals.iter().skip(1)) {
        if earlier >= later {
            return Err(ChangeFault::ApprovalUnsorted(later.clone()));
        }
    }
    for (name, signature) in approvals {
        let organisation = membership.organisations.iter().find(|listed| listed.name == *name);
        let Some(organisation) = organisation else {
            return Err(ChangeFault::ApprovalUnknown(name.clone()));
        };
        if !signature::verify(&organisation.key, request, signature) {
            return Err(ChangeFault::ApprovalSignature(name.clone()));
        }
    }
    let need = membership.parameters.approvals;
    if u32::try_from(approvals.len()).is_ok_and(|have| have < need) {
        return Err(ChangeFault::TooFewApprovals {
            have: approvals.len(),
            need,
        });
    }
    Ok(())
}
