//! Keeps findings: what is wrong or missing in a file of the ceremony, where, and what to do about it.
//!
//! Invariants: whoever judges a file collects every finding and does not stop at the first; each names its place by
//! table, number, name and field; [`Problem::code`] is stable, its text is not.

use std::collections::BTreeSet;
use std::fmt;

use quipu_crypto::id::NetworkId;
use quipu_crypto::key::KeyError;

/// Longest part of a text from a file that is repeated in a message, letters.
const SHOWN: usize = 48;

/// Most findings of one file that are kept.
const MAX_FINDINGS: usize = 1000;

/// Where in a file: `[[node]] 2 "beta", key`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    table: &'static str,
    entry: Option<(usize, String)>,
    field: Option<String>,
}

impl Place {
    /// The top of the file, above all tables.
    #[must_use]
    pub fn top() -> Self {
        Self::default()
    }

    /// A table that stands once.
    #[must_use]
    pub fn table(table: &'static str) -> Self {
        Self {
            table,
            ..Self::default()
        }
    }

    /// Entry `index`, from 0, of a table that repeats, and the name that it has.
    #[must_use]
    pub fn entry(table: &'static str, index: usize, name: &str) -> Self {
        Self {
            table,
            entry: Some((index.saturating_add(1), name.to_owned())),
            field: None,
        }
    }

    /// A field there.
    #[must_use]
    pub fn field(&self, field: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..self.clone()
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.entry, self.table) {
            (Some((number, name)), table) if name.is_empty() => write!(f, "[[{table}]] {number}")?,
            (Some((number, name)), table) => write!(f, "[[{table}]] {number} {}", Shown(name))?,
            (None, "") => f.write_str("top of the file")?,
            (None, table) => write!(f, "[{table}]")?,
        }
        match &self.field {
            Some(field) => write!(f, ", {}", Shown(field).bare()),
            None => Ok(()),
        }
    }
}

/// A text from a file as a message shows it: shortened, without control characters.
struct Shown<'a>(&'a str);

impl Shown<'_> {
    fn bare(&self) -> String {
        let mut text: String = self.0.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        if self.0.chars().nth(SHOWN).is_some() {
            text.push('…');
        }
        text
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.bare())
    }
}

/// What is wrong. The text says what it is and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Not TOML at all.
    #[error("line {line}, column {column}: this is not TOML: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// A format that this program does not know.
    #[error("is {0}, but this program reads format 1 only; use the version of quipu that wrote the file")]
    UnknownFormat(i64),
    /// A field or table that must be there is not.
    #[error("is missing; add it: {0}")]
    Missing(&'static str),
    /// A field or table that nothing reads.
    #[error("there is no such field here; correct its spelling or remove it (known: {0})")]
    UnknownField(String),
    /// A value of the wrong kind.
    #[error("is {found}, but must be {expected}")]
    WrongType {
        /// What it is, in TOML's words.
        found: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A text that does not say what it should.
    #[error("{} is not {expected}", Shown(.found))]
    Unreadable {
        /// What the file says.
        found: String,
        /// What it must be, with an example.
        expected: &'static str,
    },
    /// A key that may not be enrolled.
    #[error(transparent)]
    Key(KeyError),
    /// A name with other letters, or of a wrong length.
    #[error("{} is not a name; a name has 1 to 64 of the letters a-z, 0-9, '-', '_', '.'", Shown(.0))]
    Name(String),
    /// Something that must be unique is there twice.
    #[error("is the same as that of {first}; give each its own")]
    Repeated {
        /// Who has it first.
        first: Box<Place>,
    },
    /// A list names the same twice.
    #[error("names {} twice; remove one", Shown(.0))]
    NamedTwice(String),
    /// A name that nobody has.
    #[error("names the {kind} {}, but {missing}; correct it or add one", Shown(.name))]
    Unresolved {
        /// Organisation, role or member.
        kind: &'static str,
        /// The name.
        name: String,
        /// What there is not.
        missing: &'static str,
    },
    /// More than the format allows.
    #[error("there are {count}, but at most {cap} are allowed")]
    TooMany {
        /// How many.
        count: usize,
        /// How many may be.
        cap: usize,
    },
    /// A number outside its range.
    #[error("is {found}, but must be from {least} to {most}")]
    OutOfRange {
        /// What it is.
        found: u64,
        /// The smallest allowed.
        least: u64,
        /// The largest allowed.
        most: u64,
    },
    /// An incarnation of zeros: nobody drew it.
    #[error("is zero, so nobody drew it; take the one from the file that `quipu-node init` wrote")]
    ZeroIncarnation,
    /// An address that nobody else can reach.
    #[error("{} is no address that others can connect to; give the one by which they reach this node", Shown(.0))]
    Unreachable(String),
    /// No organisation at all.
    #[error("there is none; a network needs at least one [[organisation]]")]
    NoOrganisation,
    /// Nobody who orders.
    #[error("none has the role \"voter\"; a network needs at least one node that votes")]
    NoVoter,
    /// Block 0 would be longer than a block may be.
    #[error("all of it takes {length} bytes in block 0, but at most {cap} fit; enrol some later, by a change")]
    TooLong {
        /// How long it is.
        length: usize,
        /// How long it may be.
        cap: usize,
    },
    /// An organisation that has not signed.
    #[error("has not signed yet; its administrator checks the file and runs `quipu genesis sign`")]
    Unsigned,
    /// A signature over what the file said before.
    #[error("signed network {signed}, but the file now says {now}: it was edited afterwards; have it signed again")]
    Stale {
        /// What the organisation signed.
        signed: NetworkId,
        /// What the file says now.
        now: NetworkId,
    },
    /// A signature that its organisation's key did not make.
    #[error("was not made by the key of this organisation, or is damaged; have it signed again with the right key")]
    WrongSignature,
}

impl Problem {
    /// Stable code of the problem, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "syntax",
            Self::UnknownFormat(_) => "unknown_format",
            Self::Missing(_) => "missing",
            Self::UnknownField(_) => "unknown_field",
            Self::WrongType { .. } => "wrong_type",
            Self::Unreadable { .. } => "unreadable",
            Self::Key(_) => "key",
            Self::Name(_) => "name",
            Self::Repeated { .. } => "repeated",
            Self::NamedTwice(_) => "named_twice",
            Self::Unresolved { .. } => "unresolved",
            Self::TooMany { .. } => "too_many",
            Self::OutOfRange { .. } => "out_of_range",
            Self::ZeroIncarnation => "zero_incarnation",
            Self::Unreachable(_) => "unreachable",
            Self::NoOrganisation => "no_organisation",
            Self::NoVoter => "no_voter",
            Self::TooLong { .. } => "too_long",
            Self::Unsigned => "unsigned",
            Self::Stale { .. } => "stale_signature",
            Self::WrongSignature => "wrong_signature",
        }
    }
}

/// One thing that is wrong or missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// What, and what to do.
    pub problem: Problem,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// Collects findings, at most [`MAX_FINDINGS`]: a file of a million mistakes is no worse than one of a thousand.
#[derive(Debug, Default)]
pub(crate) struct Collector(Vec<Finding>);

impl Collector {
    pub(crate) fn push(&mut self, place: Place, problem: Problem) {
        if self.0.len() < MAX_FINDINGS {
            self.0.push(Finding { place, problem });
        }
    }

    /// Adds what another reading found, but not where something was found already: a stand-in has mistakes of its own.
    pub(crate) fn add_elsewhere(&mut self, others: Vec<Finding>) {
        let known: BTreeSet<Place> = self.0.iter().map(|finding| finding.place.clone()).collect();
        for finding in others {
            if !known.contains(&finding.place) {
                self.push(finding.place, finding.problem);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_vec(self) -> Vec<Finding> {
        self.0
    }
}

/// All that is wrong or missing, one a line. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// `value` if nothing was found.
    ///
    /// # Errors
    /// The findings where there are any.
    pub(crate) fn none_or<T>(findings: Vec<Finding>, value: T) -> Result<T, Self> {
        if findings.is_empty() {
            Ok(value)
        } else {
            Err(Self(findings))
        }
    }

    pub(crate) fn append(&mut self, mut more: Self) {
        self.0.append(&mut more.0);
    }

    /// Each of them, to keep.
    #[must_use]
    pub fn into_vec(self) -> Vec<Finding> {
        self.0
    }

    /// Each of them.
    #[must_use]
    pub fn as_slice(&self) -> &[Finding] {
        &self.0
    }
}

impl From<Finding> for Findings {
    fn from(finding: Finding) -> Self {
        Self(vec![finding])
    }
}

impl std::error::Error for Findings {}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}
