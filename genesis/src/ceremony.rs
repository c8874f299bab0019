//! Keeps the ceremony: files of the organisations become one genesis, each organisation signs it, and only the whole
//! serves.
//!
//! Invariants: nobody needs another's secret key at any step; a signature is over the network id, so any edit that
//! means something voids it; [`require_complete`] is the one door to a genesis that a node or an auditor may use.

use std::collections::BTreeMap;
use std::path::Path;

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{NetworkId, Slot, TimeMs};
use quipu_crypto::key::{PublicKey, SecretKey};
use quipu_crypto::signature;
use quipu_ledger::membership::{Membership, NamespaceRights, Organisation, Parameters};

use crate::document::{Approval, GenesisDocument, ReadError};
use crate::finding::{Collector, Finding, Findings, Place, Problem};
use crate::genesis::Genesis;
use crate::limits::{DEFAULT_CERTIFICATES, DEFAULT_MAX_LIFETIME_MS};
use crate::parties::OrganisationFile;

/// Why a document was not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// A definition that is wrong is not worth a signature.
    #[error("not signed, for the genesis is not sound; correct it first:\n{0}")]
    Unsound(#[from] Findings),
    /// Nobody of that name takes part.
    #[error("not signed: the genesis has no organisation \"{name}\"; it has: {known}")]
    UnknownOrganisation {
        /// Who was to sign.
        name: String,
        /// Who could.
        known: String,
    },
    /// The key of someone else.
    #[error(
        "not signed: the key of organisation \"{name}\" is {expected}, but the key given is {given}; \
             give its administrator's key"
    )]
    WrongKey {
        /// Who was to sign.
        name: String,
        /// The key in the genesis.
        expected: PublicKey,
        /// The public half of the key given.
        given: PublicKey,
    },
}

/// Why signatures were not taken over from another copy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// A definition that is wrong has no id to compare.
    #[error("not merged, for the genesis is not sound; correct it first:\n{0}")]
    Unsound(#[from] Findings),
    /// The copies are not copies of one genesis.
    #[error("not merged: this file is of network {ours}, the other of network {theirs}; one of them was edited")]
    OtherNetwork {
        /// What the document says.
        ours: NetworkId,
        /// What the other one says.
        theirs: NetworkId,
    },
}

/// The parameters that a new genesis gets: changes need the signatures of more than half of the organisations.
#[must_use]
pub fn default_parameters(organisations: usize) -> Parameters {
    let half = u32::try_from(organisations / 2).unwrap_or(u32::MAX);
    Parameters {
        max_lifetime_ms: DEFAULT_MAX_LIFETIME_MS,
        certificates: DEFAULT_CERTIFICATES,
        approvals: half.saturating_add(1),
    }
}

/// Puts together what the organisations handed over. Slots count from 1 in the order of the organisations' names and
/// of the nodes in their files, so whoever assembles the same files gets the same genesis.
///
/// The document may be wrong, for instance where two organisations chose one name: [`check`] tells.
#[must_use]
pub fn assemble(
    name: impl Into<String>,
    time: TimeMs,
    files: &[OrganisationFile],
    namespaces: Vec<NamespaceRights>,
    parameters: Parameters,
) -> GenesisDocument {
    let mut files: Vec<&OrganisationFile> = files.iter().collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let mut nodes = Vec::new();
    let mut slot = Slot::ZERO;
    for file in &files {
        nodes.extend(file.nodes_from(slot.next()));
        slot = slot.plus(u32::try_from(file.nodes.len()).unwrap_or(u32::MAX));
    }
    let membership = Membership {
        nodes,
        outgoing: Vec::new(),
        organisations: files
            .iter()
            .map(|file| Organisation {
                name: file.name.clone(),
                key: file.key,
            })
            .collect(),
        members: files.iter().flat_map(|file| file.members.clone()).collect(),
        namespaces,
        parameters,
    };
    GenesisDocument {
        name: name.into(),
        time,
        membership,
        approvals: Vec::new(),
    }
}

/// What an organisation signs: the network id, under a context of its own.
#[must_use]
pub fn approval_hash(network: &NetworkId) -> Hash {
    Hash::of(Context::GenesisApproval, &[network.0.as_bytes()])
}

/// Signs the genesis for `organisation` and puts the signature into the document, in the place of an earlier one.
///
/// # Errors
/// [`SignError`]; the document is then as it was.
pub fn sign(document: &mut GenesisDocument, organisation: &str, key: &SecretKey) -> Result<(), SignError> {
    let network = document.validate()?.network_id();
    let organisations = &document.membership.organisations;
    let Some(found) = organisations.iter().find(|listed| listed.name == organisation) else {
        let known: Vec<&str> = organisations.iter().map(|listed| listed.name.as_str()).collect();
        return Err(SignError::UnknownOrganisation {
            name: organisation.to_owned(),
            known: known.join(", "),
        });
    };
    if found.key != key.public() {
        let (expected, given) = (found.key, key.public());
        return Err(SignError::WrongKey {
            name: organisation.to_owned(),
            expected,
            given,
        });
    }
    let signature = key.sign(&approval_hash(&network));
    document
        .approvals
        .retain(|approval| approval.organisation != organisation);
    document.approvals.push(Approval {
        organisation: organisation.to_owned(),
        network,
        signature,
    });
    Ok(())
}

/// Takes over the signatures of `other`, a copy of the same genesis that others have signed meanwhile, and says how
/// many were new. Only those that verify are taken, in the place of ones that do not.
///
/// # Errors
/// [`MergeError`]; the document is then as it was.
pub fn merge(document: &mut GenesisDocument, other: &GenesisDocument) -> Result<usize, MergeError> {
    let (ours, theirs) = (document.validate()?.network_id(), other.validate()?.network_id());
    if ours != theirs {
        return Err(MergeError::OtherNetwork { ours, theirs });
    }
    let keys = administrators(&document.membership.organisations);
    let verifies = |approval: &Approval| {
        let key = keys.get(approval.organisation.as_str());
        key.is_some_and(|key| check_approval(approval, *key, &ours).is_ok())
    };
    let mut signed: BTreeMap<String, Approval> = BTreeMap::new();
    for approval in other.approvals.iter().filter(|approval| verifies(approval)) {
        signed.insert(approval.organisation.clone(), approval.clone());
    }
    for approval in document.approvals.iter().filter(|approval| verifies(approval)) {
        signed.remove(&approval.organisation);
    }
    document
        .approvals
        .retain(|approval| !signed.contains_key(&approval.organisation));
    let new = signed.len();
    document.approvals.extend(signed.into_values());
    Ok(new)
}

fn administrators(organisations: &[Organisation]) -> BTreeMap<&str, PublicKey> {
    organisations.iter().map(|one| (one.name.as_str(), one.key)).collect()
}

/// All that is missing or wrong: in the definition first, then in the signatures. Empty for a genesis that may be used.
#[must_use]
pub fn check(document: &GenesisDocument) -> Vec<Finding> {
    require_complete(document)
        .err()
        .map_or_else(Vec::new, Findings::into_vec)
}

/// The genesis, if its definition is sound and every organisation has signed it.
///
/// # Errors
/// All that [`check`] finds.
pub fn require_complete(document: &GenesisDocument) -> Result<Genesis, Findings> {
    let genesis = document.validate();
    let network = genesis.as_ref().ok().map(Genesis::network_id);
    let approvals = Findings::none_or(check_approvals(document, network.as_ref()), ());
    match (genesis, approvals) {
        (Ok(genesis), Ok(())) => Ok(genesis),
        (Err(mut findings), Err(more)) => {
            findings.append(more);
            Err(findings)
        }
        (Err(findings), Ok(())) | (Ok(_), Err(findings)) => Err(findings),
    }
}

/// Reads the file `path`, which must be sound and signed by every organisation.
///
/// # Errors
/// [`ReadError`] where it is not.
pub fn read_complete(path: &Path) -> Result<Genesis, ReadError> {
    ReadError::reading(path, |text| require_complete(&GenesisDocument::parse(text)?))
}

/// What is wrong with the signatures; whether they verify only where the network's id is known.
fn check_approvals(document: &GenesisDocument, network: Option<&NetworkId>) -> Vec<Finding> {
    let mut findings = Collector::default();
    let organisations = &document.membership.organisations;
    let keys = administrators(organisations);
    let mut signed = BTreeMap::new();
    for (index, approval) in document.approvals.iter().enumerate() {
        let place = Place::entry("approval", index, &approval.organisation);
        let Some(key) = keys.get(approval.organisation.as_str()) else {
            let missing = "there is no [[organisation]] of that name";
            let problem = Problem::Unresolved {
                kind: "organisation",
                name: approval.organisation.clone(),
                missing,
            };
            findings.push(place.field("organisation"), problem);
            continue;
        };
        if let Some(first) = signed.insert(approval.organisation.as_str(), place.field("organisation")) {
            findings.push(
                place.field("organisation"),
                Problem::Repeated { first: Box::new(first) },
            );
        }
        if let Some(network) = network
            && let Err(problem) = check_approval(approval, *key, network)
        {
            findings.push(place.field("signature"), problem);
        }
    }
    for (index, organisation) in organisations.iter().enumerate() {
        if !signed.contains_key(organisation.name.as_str()) {
            findings.push(
                Place::entry("organisation", index, &organisation.name),
                Problem::Unsigned,
            );
        }
    }
    findings.into_vec()
}

fn check_approval(approval: &Approval, key: PublicKey, now: &NetworkId) -> Result<(), Problem> {
    let signed = approval.network;
    if !signature::verify(&key, &approval_hash(&signed), &approval.signature) {
        return Err(Problem::WrongSignature);
    }
    if signed != *now {
        return Err(Problem::Stale { signed, now: *now });
    }
    Ok(())
}
