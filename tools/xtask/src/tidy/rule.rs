//! Keeps the list of house rules: the name of each, by which a comment can excuse it, and the advice to who broke it.

/// A house rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    LineLength,
    FunctionLength,
    FileLength,
    Opening,
    Name,
    Unfinished,
    Unwrap,
    Expect,
    Cast,
    Clock,
    Randomness,
    Threads,
    HashMap,
    Unsafe,
    BatchVerification,
    MachinePath,
    Arrow,
    Dependency,
    Syntax,
}

impl Rule {
    /// As it is written in `// tidy(name): reason`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Rule::LineLength => "line-length",
            Rule::FunctionLength => "function-length",
            Rule::FileLength => "file-length",
            Rule::Opening => "opening",
            Rule::Name => "name",
            Rule::Unfinished => "unfinished",
            Rule::Unwrap => "unwrap",
            Rule::Expect => "expect",
            Rule::Cast => "cast",
            Rule::Clock => "clock",
            Rule::Randomness => "randomness",
            Rule::Threads => "threads",
            Rule::HashMap => "hash-map",
            Rule::Unsafe => "unsafe",
            Rule::BatchVerification => "batch-verification",
            Rule::MachinePath => "machine-path",
            Rule::Arrow => "arrow",
            Rule::Dependency => "dependency",
            Rule::Syntax => "syntax",
        }
    }

    /// What to do about it.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Rule::LineLength => "break the line, or say it shorter",
            Rule::FunctionLength => "give a part of it a name of its own",
            Rule::FileLength => "split it by subject, not by size",
            Rule::Opening => "open with `//!`: what it keeps, its invariants, what it leaves to others, in ten lines",
            Rule::Name => "name what it keeps",
            Rule::Unfinished => "finish it, or file an issue and say what is missing as a fact",
            Rule::Unwrap => "return a typed error, or `expect` the invariant that makes it impossible",
            Rule::Expect => "state the invariant that makes it impossible, in at least three words",
            Rule::Cast => "use From or TryFrom; where neither serves, expect clippy::as_conversions with a reason",
            Rule::Clock => "take the time as an argument: replicas must decide alike",
            Rule::Randomness => "take the chance as an argument: replicas must decide alike",
            Rule::Threads => "leave threads to node: replicas must decide alike, whatever runs first",
            Rule::HashMap => "use BTreeMap or BTreeSet: their order is the same on every replica",
            Rule::Unsafe => "write `#![forbid(unsafe_code)]` at the head of the crate",
            Rule::BatchVerification => "use quipu_crypto::signature: dalek's batch rule is not its single rule",
            Rule::MachinePath => "use a path relative to the checkout, or a temporary folder",
            Rule::Arrow => "turn the dependency round: tools -> node -> {genesis -> ledger, consensus} -> crypto",
            Rule::Dependency => "see tools/xtask/allowed-dependencies.txt",
            Rule::Syntax => "mend it, so that the other rules can be checked",
        }
    }
}
