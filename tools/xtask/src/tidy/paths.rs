//! Keeps what a path in the code (`std::time::Instant`, one leaf of a `use`) means for the rules: whether it leads to a
//! clock, to chance, to threads or to a map without order. Judges where a name comes in, so that one reason beside the
//! `use` excuses the file. Reads names, not meanings: an alias would pass unseen, and nobody writes one by accident.

use super::rule::Rule;

/// Names that no path starts with unless a `use` brought them in.
const BROUGHT_IN: [&str; 8] = [
    "Instant",
    "SystemTime",
    "UNIX_EPOCH",
    "OsRng",
    "SysRng",
    "RandomState",
    "HashMap",
    "HashSet",
];

/// The rule that a path breaks where replicas must decide alike.
pub(super) fn forbidden(segments: &[String]) -> Option<Rule> {
    let names: Vec<&str> = segments.iter().map(String::as_str).collect();
    let any = |wanted: &[&str]| names.iter().any(|name| wanted.contains(name));
    let first = |wanted: &[&str]| names.first().is_some_and(|name| wanted.contains(name));
    let pair = |a: &str, b: &str| names.windows(2).any(|two| two == [a, b]);
    if first(&BROUGHT_IN) {
        // A `use` brought it in, and is judged there.
        None
    } else if any(&["Instant", "SystemTime", "UNIX_EPOCH"]) || first(&["jiff", "chrono"]) || pair("tokio", "time") {
        Some(Rule::Clock)
    } else if first(&["rand", "rand_core", "getrandom", "fastrand"])
        || any(&["OsRng", "SysRng", "thread_rng", "RandomState"])
        || pair("quipu_crypto", "random")
    {
        Some(Rule::Randomness)
    } else if first(&["rayon", "tokio", "crossbeam_channel"]) || pair("std", "thread") {
        Some(Rule::Threads)
    } else if any(&["HashMap", "HashSet", "hash_map", "hash_set"]) {
        Some(Rule::HashMap)
    } else {
        None
    }
}

/// Whether a path leads to dalek's batch verification.
pub(super) fn is_dalek_batch(segments: &[String]) -> bool {
    let has = |name: &str| segments.iter().any(|segment| segment == name);
    has("ed25519_dalek") && (has("verify_batch") || has("batch"))
}

/// Every path that a `use` brings in.
pub(super) fn leaves(tree: &syn::UseTree, before: &[String], found: &mut Vec<(Vec<String>, usize)>) {
    let with = |ident: &syn::Ident| before.iter().cloned().chain([ident.to_string()]).collect::<Vec<_>>();
    match tree {
        syn::UseTree::Path(path) => leaves(&path.tree, &with(&path.ident), found),
        syn::UseTree::Name(name) => found.push((with(&name.ident), name.ident.span().start().line)),
        syn::UseTree::Rename(rename) => found.push((with(&rename.ident), rename.ident.span().start().line)),
        syn::UseTree::Glob(glob) => {
            // What a glob brings in is what the rules fear of it.
            let feared = match before.last().map(String::as_str) {
                Some("time") => vec!["Instant"],
                Some("collections") => vec!["HashMap"],
                _ => vec![],
            };
            let path = before.iter().cloned().chain(feared.into_iter().map(str::to_owned));
            found.push((path.collect(), glob.star_token.spans[0].start().line));
        }
        syn::UseTree::Group(group) => group.items.iter().for_each(|item| leaves(item, before, found)),
    }
}
