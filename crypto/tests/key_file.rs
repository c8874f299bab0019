//! Key files: what is written is read again, others are kept out, and every refusal says what to do.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use quipu_crypto::key::{PublicKey, SecretKey};
use quipu_crypto::key_file::{KeyFileError, is_encrypted, read, write};
use tempfile::TempDir;

/// RFC 8410, section 10.3.
const PLAIN: &str = include_str!("data/rfc8410.pem");
const PLAIN_PUBLIC: &str = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

/// One key, encrypted by OpenSSL 3.0 under the passphrase "hemp" at next to no cost.
const CHEAP_PBKDF2: &str = include_str!("data/openssl-pbkdf2.pem");
const CHEAP_SCRYPT: &str = include_str!("data/openssl-scrypt.pem");
const CHEAP_PUBLIC: &str = "37ae948ee52da04de410f650bd35180c79caef14284d50feb59dee519017b942";

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A file with this text and mode.
fn place(folder: &TempDir, text: &[u8], mode: u32) -> PathBuf {
    let path = folder
        .path()
        .join(format!("file-{}", fs::read_dir(folder.path()).unwrap().count()));
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn public(path: &Path, passphrase: Option<&str>) -> PublicKey {
    read(path, passphrase).unwrap().public()
}

#[test]
fn a_plain_key_is_written_for_its_owner_alone_and_read_again() {
    let folder = folder();
    let path = folder.path().join("node.key");
    let key = SecretKey::generate().unwrap();
    write(&path, &key, None).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert!(!is_encrypted(&path).unwrap());
    assert_eq!(public(&path, None), key.public());
    assert_eq!(public(&path, Some("not needed")), key.public());
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("-----BEGIN PRIVATE KEY-----\n") && text.len() == 119,
        "{text}"
    );
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing else is left behind"
    );
}

#[test]
fn an_encrypted_key_opens_under_its_passphrase_only() {
    let folder = folder();
    let path = folder.path().join("node.key");
    let key = SecretKey::generate().unwrap();
    write(&path, &key, Some("correct horse, čtyři")).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert!(is_encrypted(&path).unwrap());
    assert_eq!(public(&path, Some("correct horse, čtyři")), key.public());
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    assert!(matches!(read(&path, None), Err(KeyFileError::PassphraseNeeded { .. })));
    for wrong in ["", "correct horse", "Correct horse, čtyři", "correct horse, čtyři "] {
        let error = read(&path, Some(wrong)).unwrap_err();
        assert!(matches!(error, KeyFileError::WrongPassphrase { .. }), "{error}");
    }
    let again = folder.path().join("again.key");
    write(&again, &key, Some("correct horse, čtyři")).unwrap();
    assert_ne!(
        fs::read_to_string(&again).unwrap(),
        text,
        "salt and vector are drawn anew"
    );
}

/// One wrong passphrase in 256 passes the padding; the verdict must be the same then.
#[test]
fn many_wrong_passphrases_are_all_called_wrong() {
    let folder = folder();
    let cheap = place(&folder, CHEAP_PBKDF2.as_bytes(), 0o600);
    assert_eq!(public(&cheap, Some("hemp")).to_string(), CHEAP_PUBLIC);
    for number in 0..2000 {
        let error = read(&cheap, Some(&number.to_string())).unwrap_err();
        assert!(
            matches!(error, KeyFileError::WrongPassphrase { .. }),
            "{number}: {error}"
        );
    }
}

#[test]
fn nothing_is_written_over() {
    let folder = folder();
    let path = place(&folder, b"precious", 0o644);
    let key = SecretKey::generate().unwrap();
    assert!(matches!(write(&path, &key, None), Err(KeyFileError::Exists { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).unwrap();
    assert!(
        matches!(write(&link, &key, None), Err(KeyFileError::Exists { .. })),
        "a dangling link is not followed"
    );
    let fresh = folder.path().join("fresh");
    assert!(matches!(
        write(&fresh, &key, Some("")),
        Err(KeyFileError::EmptyPassphrase { .. })
    ));
    assert!(!fresh.exists());
    assert!(matches!(
        write(&folder.path().join("no/folder"), &key, None),
        Err(KeyFileError::Io { .. })
    ));
}

#[test]
fn a_file_that_others_can_touch_is_refused_with_the_command_that_helps() {
    let folder = folder();
    let text = PLAIN.as_bytes();
    for open in [0o640, 0o604, 0o644, 0o660, 0o610, 0o601, 0o602, 0o777] {
        let path = place(&folder, text, open);
        let error = read(&path, None).unwrap_err();
        assert!(
            matches!(error, KeyFileError::OpenToOthers { mode, .. } if mode == open),
            "{error}"
        );
        let advice = format!(
            "{}: others than its owner have access to it (mode {open:04o}); run: chmod 600 {}",
            path.display(),
            path.display()
        );
        assert_eq!(error.to_string(), advice);
        assert!(matches!(is_encrypted(&path), Err(KeyFileError::OpenToOthers { .. })));
    }
    for closed in [0o600, 0o400, 0o700] {
        assert_eq!(public(&place(&folder, text, closed), None).to_string(), PLAIN_PUBLIC);
    }
}

#[test]
fn what_is_no_key_file_is_told_apart() {
    let folder = folder();
    let error = |text: &[u8]| read(&place(&folder, text, 0o600), Some("hemp")).unwrap_err();
    let missing = read(&folder.path().join("missing"), None).unwrap_err();
    assert!(matches!(missing, KeyFileError::Missing { .. }));
    assert!(matches!(read(folder.path(), None), Err(KeyFileError::NotAFile { .. })));
    let public_key = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
                      -----END PUBLIC KEY-----\n";
    for text in [
        "",
        "hello",
        "-----BEGIN PRIVATE KEY-----\n",
        public_key,
        &PLAIN[..60],
        &PLAIN.replace('M', "!"),
    ] {
        assert!(
            matches!(error(text.as_bytes()), KeyFileError::NotAKeyFile { .. }),
            "{text}"
        );
    }
    assert!(matches!(error(&[0xff; 40]), KeyFileError::NotAKeyFile { .. }));
    assert!(matches!(error(&vec![b'-'; 100_000]), KeyFileError::NotAKeyFile { .. }));
    // X25519 in the place of Ed25519: the same form, another algorithm (1.3.101.110, `2b 65 6e`).
    assert!(matches!(
        error(PLAIN.replace("K2Vw", "K2Vu").as_bytes()),
        KeyFileError::NotEd25519 { .. }
    ));
}

#[test]
fn the_file_of_rfc_8410_is_read_and_a_false_public_key_in_it_refused() {
    let folder = folder();
    assert_eq!(
        public(&place(&folder, PLAIN.as_bytes(), 0o600), None).to_string(),
        PLAIN_PUBLIC
    );
    assert_eq!(
        public(&place(&folder, PLAIN.replace('\n', "\r\n").as_bytes(), 0o600), None).to_string(),
        PLAIN_PUBLIC
    );
    // Version 2 carries the public key; here the right one, then one with its last byte turned over.
    let version_2 = |last: u8| {
        let mut der = hex::decode("3051020101300506032b657004220420").unwrap();
        der.extend([0x11; 32]);
        der.extend(hex::decode("812100").unwrap());
        der.extend(SecretKey::from_seed([0x11; 32]).public().as_bytes());
        *der.last_mut().unwrap() ^= last;
        let document = pkcs8::SecretDocument::try_from(der).unwrap();
        document.to_pem("PRIVATE KEY", pkcs8::LineEnding::LF).unwrap()
    };
    let right = place(&folder, version_2(0).as_bytes(), 0o600);
    assert_eq!(public(&right, None), SecretKey::from_seed([0x11; 32]).public());
    let wrong = place(&folder, version_2(1).as_bytes(), 0o600);
    assert!(matches!(read(&wrong, None), Err(KeyFileError::NotEd25519 { .. })));
}

/// Costs that would hold the process for hours, or panic in a careless decoder, are refused before they are paid.
#[test]
fn senseless_costs_are_refused() {
    let folder = folder();
    let (label, document) = pkcs8::SecretDocument::from_pem(CHEAP_SCRYPT).unwrap();
    let der = document.as_bytes();
    let numbers = [2, 1, 2, 2, 1, 1, 2, 1, 1];
    let at = der.windows(9).position(|window| window == numbers).unwrap();
    for (place_of, number, bearable) in [
        (2, 2, true),
        (2, 0, false),
        (2, 3, false),
        (5, 0, false),
        (8, 0, false),
        (8, 9, true),
    ] {
        let mut der = der.to_vec();
        der[at + place_of] = number;
        let text = pkcs8::SecretDocument::try_from(der)
            .unwrap()
            .to_pem(label, pkcs8::LineEnding::LF)
            .unwrap();
        let verdict = read(&place(&folder, text.as_bytes(), 0o600), Some("other"));
        match verdict.unwrap_err() {
            KeyFileError::WrongPassphrase { .. } => assert!(bearable, "{place_of} {number}"),
            KeyFileError::UnsupportedEncryption { .. } => assert!(!bearable, "{place_of} {number}"),
            error => panic!("{error}"),
        }
    }
    // The same length of DER: iterations 1 become 127, still bearable; 2^31 - 1 takes longer bytes and is refused.
    let (label, document) = pkcs8::SecretDocument::from_pem(CHEAP_PBKDF2).unwrap();
    let dear = dearer_pbkdf2(document.as_bytes());
    let text = pkcs8::SecretDocument::try_from(dear)
        .unwrap()
        .to_pem(label, pkcs8::LineEnding::LF)
        .unwrap();
    let error = read(&place(&folder, text.as_bytes(), 0o600), Some("hemp")).unwrap_err();
    assert!(matches!(error, KeyFileError::UnsupportedEncryption { .. }), "{error}");
}

/// Takes three bytes off the ciphertext and gives them to the number of iterations, so that every length stays true
/// but those of the sequences around the number, which grow by three.
fn dearer_pbkdf2(der: &[u8]) -> Vec<u8> {
    let mut dear = der.to_vec();
    let at = dear.windows(3).position(|window| window == [2, 1, 1]).unwrap();
    dear.splice(at..at + 3, [2, 4, 0x7f, 0xff, 0xff, 0xff]);
    // The headers that enclose the number: document, scheme, parameters, derivation, its parameters.
    let mut open = 0;
    let mut grown = 0;
    while open < at {
        let (length, header) = if dear[open + 1] < 0x80 {
            (usize::from(dear[open + 1]), 2)
        } else {
            (usize::from(dear[open + 2]), 3)
        };
        let encloses = dear[open] == 0x30 && open + header + length + 3 > at;
        if encloses {
            dear[open + header - 1] += 3;
            grown += 1;
        }
        open += if encloses { header } else { header + length };
    }
    assert_eq!(grown, 5, "not the layout that this test knows");
    dear
}
