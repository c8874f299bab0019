//! Keeps key files: a secret key as PKCS#8 version 1 in PEM, plain or encrypted under a passphrase.
//!
//! Invariants: a file is created for its owner alone (mode 0600), never written over, and not read once others can
//! read it. Version 1 carries no public key: OpenSSL cannot read version 2. Encrypted files use PBES2 with scrypt and
//! AES-256-CBC. Sources: RFC 8410, section 7; RFC 8018; RFC 7914. Leaves asking for the passphrase to the tools.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::KeypairBytes;
use pkcs8::der::pem::{self, PemLabel};
use pkcs8::pkcs5::{self, pbes2};
use pkcs8::{
    DecodePrivateKey, EncodePrivateKey, EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument,
};
use zeroize::Zeroizing;

use crate::key::SecretKey;
use crate::random::{self, RandomError};

/// Longest key file in bytes; real ones have 119 or about 420.
const MAX_FILE: u64 = 16 * 1024;

/// Bits of the file mode that let others than the owner in.
const OTHERS: u32 = 0o077;

/// Cost of scrypt in files that we write: 16 MiB and five passes (one of OWASP's equivalent choices for scrypt).
/// OpenSSL refuses to use more than 32 MiB, so the fifth pass, not memory, makes it dear.
const SCRYPT: (u64, u16, u16) = (1 << 14, 8, 5);

/// Most memory that scrypt may use in files that we read, in bytes, and most work: memory times passes.
const MAX_SCRYPT_MEMORY: u64 = 256 * 1024 * 1024;
const MAX_SCRYPT_WORK: u64 = 4 * MAX_SCRYPT_MEMORY;

/// Most iterations of PBKDF2 in files that we read (OpenSSL's default is 2048, OWASP's advice 600,000).
const MAX_PBKDF2_ITERATIONS: u32 = 10_000_000;

/// Why a key file was not read or written. Each says what happened to which file, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Nothing is there.
    #[error("{}: there is no such key file; check the path, or make a key first", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Something is there already.
    #[error("{}: exists already and is not written over; choose another name, or move it away", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A folder, a device, a pipe.
    #[error("{}: is not a regular file; give the path of a key file", path.display())]
    NotAFile {
        /// What is not a file.
        path: PathBuf,
    },
    /// Others than the owner have access.
    #[error(
        "{}: others than its owner have access to it (mode {mode:04o}); run: chmod 600 {}",
        path.display(), path.display()
    )]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its mode, the permission bits only.
        mode: u32,
    },
    /// The system refused or failed.
    #[error("{}: cannot {action} the key file: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// "read" or "write".
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Not PEM, or PEM of something else.
    #[error("{}: is not a PKCS#8 key file; it begins with `-----BEGIN PRIVATE KEY-----` \
             or `-----BEGIN ENCRYPTED PRIVATE KEY-----` if it is", path.display())]
    NotAKeyFile {
        /// The file.
        path: PathBuf,
    },
    /// A key of another algorithm, or one that contradicts itself.
    #[error(
        "{}: holds no usable Ed25519 key; make one, for example with `openssl genpkey -algorithm ed25519`",
        path.display()
    )]
    NotEd25519 {
        /// The file.
        path: PathBuf,
    },
    /// Encrypted, and no passphrase given.
    #[error("{}: is encrypted; give its passphrase", path.display())]
    PassphraseNeeded {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase does not open it.
    #[error("{}: this passphrase does not open it; check for typing errors and try again", path.display())]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// Encrypted in a way that is not supported, or at a cost beyond all sense.
    #[error("{}: is encrypted in a way that is not supported; convert it: \
             openssl pkcs8 -topk8 -v2 aes-256-cbc -scrypt -in FILE -out NEW", path.display())]
    UnsupportedEncryption {
        /// The file.
        path: PathBuf,
    },
    /// A passphrase of no letters.
    #[error("{}: not written, for the passphrase is empty; give one, or ask for a plain key file", path.display())]
    EmptyPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// No randomness for the encryption.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Reads the key in `path`. The passphrase is not looked at where the file is plain.
///
/// With a passphrase it takes about a third of a second, on purpose.
///
/// # Errors
/// Any of [`KeyFileError`] but `Exists`, `EmptyPassphrase` and `Random`.
pub fn read(path: &Path, passphrase: Option<&str>) -> Result<SecretKey, KeyFileError> {
    let text = read_text(path)?;
    let document = if is_encrypted_label(path, &text)? {
        let passphrase = passphrase.ok_or_else(|| KeyFileError::PassphraseNeeded { path: path.to_owned() })?;
        decrypt(path, &text, passphrase)?
    } else {
        SecretDocument::from_pem(&text)
            .map_err(|_| KeyFileError::NotAKeyFile { path: path.to_owned() })?
            .1
    };
    decode(document.as_bytes()).ok_or_else(|| KeyFileError::NotEd25519 { path: path.to_owned() })
}

/// Whether the key file in `path` needs a passphrase. Refuses what [`read`] would refuse before it asks for one.
///
/// # Errors
/// `Missing`, `NotAFile`, `OpenToOthers`, `Io` or `NotAKeyFile` of [`KeyFileError`].
pub fn is_encrypted(path: &Path) -> Result<bool, KeyFileError> {
    is_encrypted_label(path, &read_text(path)?)
}

/// Writes `key` into a new file `path`, encrypted if there is a passphrase, and returns when it is on the disk.
///
/// The file has mode 0600 from its first moment. It is not written over; after a failure it is not there.
///
/// # Errors
/// `Exists`, `EmptyPassphrase`, `Io` or `Random` of [`KeyFileError`].
pub fn write(path: &Path, key: &SecretKey, passphrase: Option<&str>) -> Result<(), KeyFileError> {
    if passphrase.is_some_and(str::is_empty) {
        return Err(KeyFileError::EmptyPassphrase { path: path.to_owned() });
    }
    let text = encode(path, key, passphrase)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
            _ => KeyFileError::Io {
                path: path.to_owned(),
                action: "write",
                source,
            },
        })?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_folder(path));
    written.map_err(|source| {
        // It is ours and of no use: a half key file must not be taken for a whole one. The first error is the one told.
        let _ = fs::remove_file(path);
        KeyFileError::Io {
            path: path.to_owned(),
            action: "write",
            source,
        }
    })
}

/// Makes a new file's name as durable as its bytes.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn read_text(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing { path: path.to_owned() },
        _ => KeyFileError::Io {
            path: path.to_owned(),
            action: "read",
            source,
        },
    };
    // Asked before opening, for opening a pipe waits for its writer; the mode is that of the file then open.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(KeyFileError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeyFileError::OpenToOthers {
            path: path.to_owned(),
            mode,
        });
    }
    // The whole capacity at once: a buffer that grows leaves copies of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(MAX_FILE).unwrap_or(usize::MAX)));
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(io)?;
    match str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(KeyFileError::NotAKeyFile { path: path.to_owned() }),
    }
}

fn is_encrypted_label(path: &Path, text: &str) -> Result<bool, KeyFileError> {
    match pem::decode_label(text.as_bytes()) {
        Ok(label) if label == EncryptedPrivateKeyInfoRef::PEM_LABEL => Ok(true),
        Ok(label) if label == PrivateKeyInfoRef::PEM_LABEL => Ok(false),
        _ => Err(KeyFileError::NotAKeyFile { path: path.to_owned() }),
    }
}

fn decrypt(path: &Path, text: &str, passphrase: &str) -> Result<SecretDocument, KeyFileError> {
    let not_a_key_file = || KeyFileError::NotAKeyFile { path: path.to_owned() };
    let unsupported = || KeyFileError::UnsupportedEncryption { path: path.to_owned() };
    let document = SecretDocument::from_pem(text).map_err(|_| not_a_key_file())?.1;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| unsupported())?;
    if !is_bearable(&encrypted.encryption_algorithm) {
        return Err(unsupported());
    }
    let plain = encrypted
        .encryption_algorithm
        .decrypt(passphrase, encrypted.encrypted_data.as_bytes());
    let wrong_passphrase = || KeyFileError::WrongPassphrase { path: path.to_owned() };
    match plain.map(Zeroizing::new) {
        // One wrong passphrase in 256 passes the padding and yields bytes that are no document.
        Ok(plain) => SecretDocument::try_from(plain.as_slice()).map_err(|_| wrong_passphrase()),
        Err(pkcs5::Error::DecryptFailed) => Err(wrong_passphrase()),
        Err(_) => Err(unsupported()),
    }
}

/// Whether the cost that a file asks for is one that a sane file asks for.
fn is_bearable(scheme: &pkcs5::EncryptionScheme) -> bool {
    match scheme.pbes2().map(|parameters| &parameters.kdf) {
        Some(pbes2::Kdf::Scrypt(scrypt)) => {
            let memory = scrypt
                .cost_parameter
                .saturating_mul(u64::from(scrypt.block_size))
                .saturating_mul(128);
            scrypt.cost_parameter.is_power_of_two()
                && memory <= MAX_SCRYPT_MEMORY
                && memory.saturating_mul(u64::from(scrypt.parallelization)) <= MAX_SCRYPT_WORK
        }
        Some(pbes2::Kdf::Pbkdf2(pbkdf2)) => pbkdf2.iteration_count <= MAX_PBKDF2_ITERATIONS,
        _ => false,
    }
}

/// The key in a PKCS#8 document, of version 1 or 2; one with a public key must have the right one.
fn decode(document: &[u8]) -> Option<SecretKey> {
    let pair = KeypairBytes::from_pkcs8_der(document).ok()?;
    let key = SecretKey::from_seed(pair.secret_key);
    match &pair.public_key {
        Some(public) if public.as_ref() != key.public().as_bytes() => None,
        _ => Some(key),
    }
}

fn encode(path: &Path, key: &SecretKey, passphrase: Option<&str>) -> Result<Zeroizing<String>, KeyFileError> {
    // Sizes and algorithms are fixed, so the encoders do not fail; if one did, nothing was written yet.
    let failed = |error: pkcs8::Error| KeyFileError::Io {
        path: path.to_owned(),
        action: "write",
        source: io::Error::other(error.to_string()),
    };
    let pair = KeypairBytes {
        secret_key: *key.seed(),
        public_key: None,
    };
    let Some(passphrase) = passphrase else {
        return pair.to_pkcs8_pem(LineEnding::LF).map_err(failed);
    };
    let document = pair.to_pkcs8_der().map_err(failed)?;
    let parameters = encryption_parameters()?.map_err(|error| failed(error.into()))?;
    let plain = PrivateKeyInfoRef::try_from(document.as_bytes()).map_err(failed)?;
    let encrypted = plain.encrypt_with_params(parameters, passphrase).map_err(failed)?;
    encrypted
        .to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF)
        .map_err(|error| failed(error.into()))
}

fn encryption_parameters() -> Result<Result<pbes2::Parameters, pkcs8::der::Error>, RandomError> {
    let salt = random::bytes::<16>()?;
    let iv = random::bytes::<16>()?;
    let (cost_parameter, block_size, parallelization) = SCRYPT;
    Ok(salt.as_slice().try_into().map(|salt| pbes2::Parameters {
        kdf: pbes2::Kdf::Scrypt(pbes2::ScryptParams {
            salt,
            cost_parameter,
            block_size,
            parallelization,
            key_length: None,
        }),
        encryption: pbes2::EncryptionScheme::Aes256Cbc { iv },
    }))
}
