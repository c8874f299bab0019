//! OpenSSL reads our key files and derives the same public keys, we read its files, and each verifies the other.
//!
//! Needs the `openssl` program (3.0 or later) on the path.
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::key::{PublicKey, SecretKey};
use quipu_crypto::key_file;
use quipu_crypto::signature::{Signature, verify};
use tempfile::TempDir;

/// Runs `openssl` in `folder` and returns what it printed.
fn openssl(folder: &TempDir, arguments: &str) -> Vec<u8> {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder.path())
        .output()
        .unwrap_or_else(|error| panic!("this test needs the program `openssl` (apt-get install openssl): {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {complaint}");
    output.stdout
}

fn close(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn openssl_reads_our_files_and_derives_the_same_public_key() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..8 {
        let key = SecretKey::generate().unwrap();
        let (plain, encrypted) = (format!("{number}.key"), format!("{number}.encrypted"));
        key_file::write(&folder.path().join(&plain), &key, None).unwrap();
        key_file::write(&folder.path().join(&encrypted), &key, Some("hemp-and-cotton")).unwrap();
        let spki = key.public().spki_der();
        assert_eq!(
            openssl(&folder, &format!("pkey -in {plain} -pubout -outform DER")),
            spki
        );
        let derived = openssl(
            &folder,
            &format!("pkey -in {encrypted} -passin pass:hemp-and-cotton -pubout -outform DER"),
        );
        assert_eq!(derived, spki);
        assert_eq!(PublicKey::from_spki_der(&derived), Some(key.public()));
        let der = openssl(&folder, &format!("pkcs8 -topk8 -nocrypt -in {plain} -outform DER"));
        assert_eq!(der, *key.to_pkcs8_der());
    }
}

#[test]
fn we_read_the_files_of_openssl() {
    let folder = tempfile::tempdir().unwrap();
    openssl(&folder, "genpkey -algorithm ed25519 -out plain.key");
    let spki = openssl(&folder, "pkey -in plain.key -pubout -outform DER");
    let public = PublicKey::from_spki_der(&spki).unwrap();
    assert_eq!(public.check_enrolment(), Ok(()));
    openssl(
        &folder,
        "pkcs8 -topk8 -in plain.key -passout pass:hemp -out default.key",
    );
    // The very command that the message of an unsupported file advises.
    openssl(
        &folder,
        "pkcs8 -topk8 -v2 aes-256-cbc -scrypt -in plain.key -passout pass:hemp -out scrypt.key",
    );
    openssl(
        &folder,
        "pkcs8 -topk8 -v2 aes-128-cbc -v2prf hmacWithSHA512 -in plain.key -passout pass:hemp -out other.key",
    );
    for name in ["plain.key", "default.key", "scrypt.key", "other.key"] {
        let path = folder.path().join(name);
        close(&path);
        assert_eq!(key_file::is_encrypted(&path).unwrap(), name != "plain.key");
        assert_eq!(key_file::read(&path, Some("hemp")).unwrap().public(), public, "{name}");
    }
    openssl(
        &folder,
        "pkcs8 -topk8 -v2 des3 -in plain.key -passout pass:hemp -out old.key",
    );
    openssl(&folder, "genpkey -algorithm x25519 -out exchange.key");
    for (name, reason) in [("old.key", "not supported"), ("exchange.key", "no usable Ed25519 key")] {
        let path = folder.path().join(name);
        close(&path);
        let error = key_file::read(&path, Some("hemp")).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn signatures_go_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.key");
    let key = SecretKey::generate().unwrap();
    key_file::write(&path, &key, None).unwrap();
    fs::write(folder.path().join("public.der"), key.public().spki_der()).unwrap();
    for number in 0..8_u64 {
        let hash = Hash::of(Context::Commit, &[&number.to_le_bytes()]);
        fs::write(folder.path().join("hash"), hash.as_bytes()).unwrap();
        let theirs = openssl(&folder, "pkeyutl -sign -rawin -inkey node.key -in hash");
        let theirs = Signature::from_bytes(theirs.try_into().unwrap());
        assert!(verify(&key.public(), &hash, &theirs));
        assert_eq!(theirs, key.sign(&hash), "Ed25519 is deterministic");
        fs::write(folder.path().join("signature"), key.sign(&hash).as_bytes()).unwrap();
        let check = "pkeyutl -verify -rawin -pubin -keyform DER -inkey public.der -in hash -sigfile signature";
        let verdict = openssl(&folder, check);
        assert!(String::from_utf8_lossy(&verdict).contains("Successfully"));
    }
}
