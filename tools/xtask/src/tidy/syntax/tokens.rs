//! Keeps what the rules find inside of macro calls, where there is no syntax yet, only tokens; and the words by which
//! the walk and the tokens judge alike: which calls panic, which types are integers.

use proc_macro2::{Ident, TokenStream, TokenTree};

use crate::tidy::rule::Rule;
use crate::tidy::source::Source;
use crate::tidy::{Finding, paths};

/// Words that an `expect` has at least.
const EXPECT_WORDS: usize = 3;

/// Whether a call of `method` may panic without a stated reason. `argument`: its text, if it is a literal.
pub(super) fn panics(method: &Ident, argument: Option<&str>, is_bare: bool) -> Option<(Rule, String)> {
    match (method.to_string().as_str(), argument) {
        (name @ ("unwrap" | "unwrap_err"), _) if is_bare => Some((Rule::Unwrap, format!("`.{name}()` may panic"))),
        ("expect" | "expect_err", Some(text)) if text.split_whitespace().count() < EXPECT_WORDS => {
            Some((Rule::Expect, format!("`expect(\"{text}\")` states no invariant")))
        }
        _ => None,
    }
}

/// Whether a name is one of the integer types.
pub(super) fn is_integer(name: &Ident) -> bool {
    let name = name.to_string();
    let width = name.strip_prefix(['u', 'i']).unwrap_or("");
    ["8", "16", "32", "64", "128", "size"].contains(&width)
}

/// What the tokens of a macro call break.
pub(super) fn check(tokens: TokenStream, source: &Source, casts_excused: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, tree) in trees.iter().enumerate() {
        let after = trees.get(index.saturating_add(1)..).unwrap_or(&[]);
        let before = index.checked_sub(1).and_then(|index| trees.get(index));
        match tree {
            TokenTree::Group(group) => findings.extend(check(group.stream(), source, casts_excused)),
            TokenTree::Ident(word) => {
                let found = word_breaks(word, before, after, source, casts_excused);
                let line = word.span().start().line;
                findings.extend(found.and_then(|(rule, what)| source.finding(line, rule, what)));
            }
            _ => {}
        }
    }
    findings
}

fn word_breaks(
    word: &Ident,
    before: Option<&TokenTree>,
    after: &[TokenTree],
    source: &Source,
    casts_excused: bool,
) -> Option<(Rule, String)> {
    let follows = |mark: char| matches!(before, Some(TokenTree::Punct(punct)) if punct.as_char() == mark);
    if follows('.') {
        let Some(TokenTree::Group(arguments)) = after.first() else {
            return None;
        };
        let text = arguments.stream().to_string();
        let literal = text.trim().strip_prefix('"').and_then(|text| text.split('"').next());
        return panics(word, literal, text.is_empty());
    }
    if word == "as" && source.must_count_exactly() && !casts_excused {
        let Some(TokenTree::Ident(target)) = after.first() else {
            return None;
        };
        return is_integer(target).then(|| (Rule::Cast, format!("`as {target}` may change the number")));
    }
    // The head of a path only: its other words are looked at with it.
    if follows(':') {
        return None;
    }
    let segments = path_from(word, after);
    if paths::is_dalek_batch(&segments) {
        return Some((Rule::BatchVerification, "dalek's batch verification".to_owned()));
    }
    if !source.must_be_deterministic() {
        return None;
    }
    // A word alone may be anybody's name, that of a variable too.
    let rule = (segments.len() > 1).then(|| paths::forbidden(&segments)).flatten()?;
    Some((
        rule,
        format!("`{}` where replicas must decide alike", segments.join("::")),
    ))
}

/// The path that starts with a word.
fn path_from(word: &Ident, after: &[TokenTree]) -> Vec<String> {
    let mut segments = vec![word.to_string()];
    for three in after.chunks(3) {
        match three {
            [TokenTree::Punct(a), TokenTree::Punct(b), TokenTree::Ident(next)]
                if a.as_char() == ':' && b.as_char() == ':' =>
            {
                segments.push(next.to_string());
            }
            _ => break,
        }
    }
    segments
}
