//! Keeps the rules that need syntax, as one walk over a file that leaves out what is compiled only for tests. What
//! stands inside of macro calls is read as tokens. Invariant: a rule about code never fires in test code; the rules
//! about names and openings hold everywhere.

mod tokens;
mod walk;

use proc_macro2::{Span, TokenStream};

use super::Finding;
use super::rule::Rule;
use super::source::Source;

const FILE: usize = 500;
const OPENING: usize = 10;

/// What this file breaks, once parsed. `is_test`: its whole content is test code.
pub(super) fn check(source: &Source, is_test: bool) -> Vec<Finding> {
    let file = match syn::parse_file(&source.text) {
        Ok(file) => file,
        Err(error) => {
            let line = error.span().start().line;
            return source
                .finding(line, Rule::Syntax, format!("does not parse: {error}"))
                .into_iter()
                .collect();
        }
    };
    let mut findings: Vec<Finding> = opening(source).into_iter().collect();
    let is_test = is_test || file.attrs.iter().any(is_only_for_tests);
    let walk = walk::through(source, &file, is_test);
    findings.extend(walk.findings);
    let lines = source.text.lines().count().saturating_sub(walk.test_lines);
    if !is_test && lines > FILE {
        findings.extend(source.finding(
            1,
            Rule::FileLength,
            format!("{lines} lines without tests, {FILE} at most"),
        ));
    }
    findings
}

/// The files of the modules that a file declares for tests only: `#[cfg(test)] mod name;`.
pub(super) fn test_modules(source: &Source) -> Vec<String> {
    let Ok(file) = syn::parse_file(&source.text) else {
        return Vec::new();
    };
    let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let is_head = ["/lib.rs", "/main.rs", "/mod.rs"]
        .iter()
        .any(|head| source.path.ends_with(head));
    let home = if is_head {
        folder
    } else {
        source.path.strip_suffix(".rs").unwrap_or(folder)
    };
    let modules = file.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if module.content.is_none() && module.attrs.iter().any(is_only_for_tests) => {
            Some(module)
        }
        _ => None,
    });
    modules
        .flat_map(|module| match path_attribute(module) {
            Some(path) => vec![format!("{folder}/{path}")],
            None => vec![
                format!("{home}/{}.rs", module.ident),
                format!("{home}/{}/mod.rs", module.ident),
            ],
        })
        .collect()
}

/// The file that `#[path = "..."]` names.
fn path_attribute(module: &syn::ItemMod) -> Option<String> {
    let attribute = module
        .attrs
        .iter()
        .find(|attribute| attribute.path().is_ident("path"))?;
    match &attribute.meta.require_name_value().ok()?.value {
        syn::Expr::Lit(syn::ExprLit {
            lit: syn::Lit::Str(path),
            ..
        }) => Some(path.value()),
        _ => None,
    }
}

/// `#[test]`, `#[cfg(test)]` and `#[cfg(all(test, ...))]`.
fn is_only_for_tests(attribute: &syn::Attribute) -> bool {
    if attribute.path().is_ident("test") {
        return true;
    }
    let syn::Meta::List(list) = &attribute.meta else {
        return false;
    };
    list.path.is_ident("cfg") && demands_test(list.tokens.clone())
}

fn demands_test(condition: TokenStream) -> bool {
    use syn::parse::Parser;
    let Ok(list) = syn::punctuated::Punctuated::<syn::Meta, syn::Token![,]>::parse_terminated.parse2(condition) else {
        return false;
    };
    list.iter().any(|meta| match meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(inner) => inner.path.is_ident("all") && demands_test(inner.tokens.clone()),
        syn::Meta::NameValue(_) => false,
    })
}

/// Whether the file opens with the words that its reader needs first, and no more of them.
fn opening(source: &Source) -> Option<Finding> {
    let lines = source.text.lines().take_while(|line| line.starts_with("//!"));
    let words: usize = lines.clone().map(|line| line.split_whitespace().skip(1).count()).sum();
    if words < 3 {
        return source.finding(1, Rule::Opening, "does not open with what it keeps");
    }
    let count = lines.count();
    let what = || format!("opens with {count} lines, {OPENING} at most");
    (count > OPENING && !source.is_crate_root())
        .then(|| source.finding(1, Rule::Opening, what()))
        .flatten()
}

/// The number of lines that a piece of syntax stands on.
fn height(first: Span, last: Span) -> usize {
    last.end().line.saturating_sub(first.start().line).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::super::tests::broken;

    const FINE: &str = "//! Keeps one thing.\n";

    #[test]
    fn openings() {
        assert_eq!(broken("a/src/b.rs", "fn f() {}\n"), ["opening"]);
        assert_eq!(broken("a/tests/b.rs", "fn f() {}\n"), ["opening"]);
        assert_eq!(broken("a/src/b.rs", "//! Things\nfn f() {}\n"), ["opening"]);
        assert_eq!(broken("a/src/b.rs", &"//! Keeps one thing.\n".repeat(10)), [""; 0]);
        assert_eq!(broken("a/src/b.rs", &"//! Keeps one thing.\n".repeat(11)), ["opening"]);
        assert_eq!(broken("a/src/lib.rs", &"//! Keeps one thing.\n".repeat(11)), [""; 0]);
    }

    #[test]
    fn file_length_leaves_tests_out() {
        let code = |lines: usize| format!("{FINE}{}", "const A: u8 = 1;\n".repeat(lines - 1));
        assert_eq!(broken("a/src/b.rs", &code(500)), [""; 0]);
        assert_eq!(broken("a/src/b.rs", &code(501)), ["file-length"]);
        let with_tests = format!(
            "{}#[cfg(test)]\nmod tests {{\n{}}}\n",
            code(500),
            "fn f() {}\n".repeat(300)
        );
        assert_eq!(broken("a/src/b.rs", &with_tests), [""; 0]);
        assert_eq!(broken("a/tests/b.rs", &code(800)), [""; 0]);
    }

    #[test]
    fn what_does_not_parse_is_said() {
        assert_eq!(broken("a/src/b.rs", "//! Keeps one thing.\nfn (\n"), ["syntax"]);
    }

    #[test]
    fn only_a_demand_for_test_makes_test_code() {
        let code = |condition: &str| format!("{FINE}#[cfg({condition})]\nfn f(x: Option<u8>) {{ x.unwrap(); }}\n");
        for condition in ["test", "all(test, unix)", "all(unix, all(test))"] {
            assert_eq!(broken("a/src/b.rs", &code(condition)), [""; 0], "{condition}");
        }
        for condition in ["not(test)", "any(test, unix)", "feature = \"test\""] {
            assert_eq!(broken("a/src/b.rs", &code(condition)), ["unwrap"], "{condition}");
        }
    }
}
