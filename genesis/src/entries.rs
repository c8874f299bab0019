//! Keeps how each table of the ceremony's files becomes a value: one function a table.
//!
//! Invariant: a function that has found something returns a stand-in for what it could not read, which breaks rules
//! only in the place that has its finding already; its caller never uses the whole.

use quipu_crypto::id::{Incarnation, Slot};
use quipu_crypto::key::PublicKey;
use quipu_crypto::signature::Signature;
use quipu_ledger::membership::{Member, NamespaceRights, Node, NodeRole, Organisation, Parameters};
use quipu_ledger::operation::Namespace;

use crate::document::Approval;
use crate::fields::Fields;
use crate::finding::Place;
use crate::limits::DEFAULT_MAX_LIFETIME_MS;
use crate::text;

pub(crate) fn name(fields: &mut Fields<'_>) -> String {
    fields
        .text("name", "name = \"...\"", |name| Ok(name.to_owned()))
        .unwrap_or_default()
}

fn organisation_name(fields: &mut Fields<'_>) -> String {
    let what = "organisation = \"...\", the name of one of this file";
    fields
        .text("organisation", what, |name| Ok(name.to_owned()))
        .unwrap_or_default()
}

pub(crate) fn key(fields: &mut Fields<'_>) -> PublicKey {
    let key = fields.text(
        "key",
        "key = \"...\", the public key that `quipu key show` prints",
        text::read_key,
    );
    // A point of small order: no key that anyone has.
    key.unwrap_or(PublicKey::from_bytes([0; 32]))
}

fn roles(fields: &mut Fields<'_>) -> Vec<String> {
    fields.texts("roles", "roles = [\"writer\"], or [] for none", |role| {
        Ok(role.to_owned())
    })
}

pub(crate) fn node_role(fields: &mut Fields<'_>) -> NodeRole {
    fields
        .text("role", "role = \"voter\" or \"learner\"", text::read_node_role)
        .unwrap_or(NodeRole::Voter)
}

pub(crate) fn incarnation(fields: &mut Fields<'_>) -> Incarnation {
    let what = "incarnation = \"...\" from the file that `quipu-node init` wrote";
    fields
        .text("incarnation", what, text::read_incarnation)
        .unwrap_or_default()
}

pub(crate) fn address(fields: &mut Fields<'_>) -> String {
    let what = "address = \"host:port\", where the other nodes reach it";
    fields
        .text("address", what, |address| Ok(address.to_owned()))
        .unwrap_or_default()
}

pub(crate) fn parameters(top: &mut Fields<'_>) -> Parameters {
    let standing_in = Parameters {
        max_lifetime_ms: DEFAULT_MAX_LIFETIME_MS,
        certificates: false,
        approvals: 1,
    };
    let Some(table) = top.table(
        "parameters",
        "[parameters] with max_lifetime, certificates and approvals",
    ) else {
        return standing_in;
    };
    top.inner(Place::table("parameters"), table, |fields| {
        let lifetime = fields.text_or_plain("max_lifetime", "max_lifetime = \"10min\"", text::read_lifetime);
        Parameters {
            max_lifetime_ms: lifetime.unwrap_or(standing_in.max_lifetime_ms),
            certificates: fields
                .boolean("certificates", "certificates = false")
                .unwrap_or(standing_in.certificates),
            approvals: fields
                .number("approvals", "approvals = 1")
                .unwrap_or(standing_in.approvals),
        }
    })
}

pub(crate) fn organisation(_: usize, fields: &mut Fields<'_>) -> Organisation {
    Organisation {
        name: name(fields),
        key: key(fields),
    }
}

pub(crate) fn member(_: usize, fields: &mut Fields<'_>) -> Member {
    let organisation = organisation_name(fields);
    member_of(&organisation, fields)
}

pub(crate) fn member_of(organisation: &str, fields: &mut Fields<'_>) -> Member {
    Member {
        name: name(fields),
        organisation: organisation.to_owned(),
        key: key(fields),
        roles: roles(fields),
    }
}

pub(crate) fn namespace(index: usize, fields: &mut Fields<'_>) -> Option<NamespaceRights> {
    let name = fields.text("name", "name = \"...\"", text::read_namespace);
    let writers = fields.texts(
        "writers",
        "writers = [\"role:writer\"], or [\"everyone\"]",
        text::read_grant,
    );
    // A name that fits the type and that nobody chose.
    let standing_in = || Namespace::new(format!("..{index}")).ok();
    Some(NamespaceRights {
        name: name.or_else(standing_in)?,
        writers,
    })
}

pub(crate) fn node(index: usize, fields: &mut Fields<'_>) -> Node {
    let slot = fields.number("slot", "slot = 1, a number that no other node has or had");
    // No other node has so high a slot unless it wants to be taken for a stand-in.
    let standing_in = || u32::MAX.saturating_sub(u32::try_from(index).unwrap_or(u32::MAX));
    Node {
        slot: Slot(slot.unwrap_or_else(standing_in)),
        name: name(fields),
        organisation: organisation_name(fields),
        key: key(fields),
        incarnation: incarnation(fields),
        address: address(fields),
        role: node_role(fields),
    }
}

pub(crate) fn approval(_: usize, fields: &mut Fields<'_>) -> Approval {
    let organisation = organisation_name(fields);
    let network = fields.text(
        "network",
        "network = \"...\", the id that was signed",
        text::read_network,
    );
    let signature = fields.text(
        "signature",
        "signature = \"...\" as `quipu genesis sign` makes it",
        text::read_signature,
    );
    Approval {
        organisation,
        network: network.unwrap_or_default(),
        signature: signature.unwrap_or(Signature::EMPTY),
    }
}
