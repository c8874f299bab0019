//! Keeps the genesis of a development network: one organisation with all nodes, and one client that may write.
//!
//! Invariant: made by the steps of the ceremony and by nothing else, so a development network differs from a real one
//! only in who holds the keys. Leaves keys, directories and processes to `quipu network up`.

use quipu_crypto::id::TimeMs;
use quipu_crypto::key::{PublicKey, SecretKey};
use quipu_ledger::membership::{Grant, NamespaceRights, NodeRole};

use crate::ceremony::{self, SignError};
use crate::document::GenesisDocument;
use crate::finding::{Finding, Findings, Place};
use crate::parties::{NodeFile, OrganisationFile};
use crate::text;

/// The organisation that runs everything.
pub const ORGANISATION: &str = "development";
/// The member who may write.
pub const CLIENT: &str = "client";
/// The role that gives the right to write.
pub const WRITER: &str = "writer";
/// The namespace.
pub const NAMESPACE: &str = "default";

/// The signed genesis of a network of `nodes`, all voters, in which `client` may write.
///
/// # Errors
/// [`SignError`] where names, keys or addresses do not make a sound network.
pub fn genesis(
    name: &str,
    time: TimeMs,
    nodes: &[NodeFile],
    administrator: &SecretKey,
    client: PublicKey,
) -> Result<GenesisDocument, SignError> {
    let mut organisation =
        OrganisationFile::new(ORGANISATION, administrator.public()).with_member(CLIENT, client, &[WRITER]);
    for node in nodes {
        organisation = organisation.with_node(node.clone(), NodeRole::Voter);
    }
    let namespace = text::read_namespace(NAMESPACE).map_err(|problem| {
        Findings::from(Finding {
            place: Place::table("namespace"),
            problem,
        })
    })?;
    let writers = vec![Grant::Role(WRITER.to_owned())];
    let rights = NamespaceRights {
        name: namespace,
        writers,
    };
    let parameters = ceremony::default_parameters(1);
    let mut document = ceremony::assemble(name, time, &[organisation], vec![rights], parameters);
    ceremony::sign(&mut document, ORGANISATION, administrator)?;
    Ok(document)
}
