//! Keeps the walk over the syntax of one file: functions, calls, casts, paths, names. Counts the lines that belong to
//! tests only, and does not enter them.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{height, is_only_for_tests, tokens};
use crate::tidy::rule::Rule;
use crate::tidy::source::Source;
use crate::tidy::{Finding, paths, text};

const FUNCTION: usize = 70;

/// What one walk finds.
pub(super) struct Walk<'a> {
    source: &'a Source,
    /// Inside of code that only tests compile.
    in_test: bool,
    /// Inside of an item or statement that excuses its casts to clippy with a reason.
    casts_excused: bool,
    pub(super) findings: Vec<Finding>,
    pub(super) test_lines: usize,
}

pub(super) fn through<'a>(source: &'a Source, file: &syn::File, is_test: bool) -> Walk<'a> {
    let mut walk = Walk {
        source,
        in_test: is_test,
        casts_excused: false,
        findings: Vec::new(),
        test_lines: 0,
    };
    walk.visit_file(file);
    walk
}

impl Walk<'_> {
    fn report(&mut self, line: usize, rule: Rule, what: impl Into<String>) {
        self.findings.extend(self.source.finding(line, rule, what));
    }

    fn function(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let lines = height(signature.span(), body.span());
        if !self.in_test && lines > FUNCTION {
            let what = format!("`{}` has {lines} lines, {FUNCTION} at most", signature.ident);
            self.report(signature.span().start().line, Rule::FunctionLength, what);
        }
    }

    /// Enters something that carries attributes, unless only tests see it.
    fn enter(&mut self, attributes: &[syn::Attribute], span: Span, inside: impl FnOnce(&mut Self)) {
        let was = (self.in_test, self.casts_excused);
        if !self.in_test && attributes.iter().any(is_only_for_tests) {
            self.test_lines = self.test_lines.saturating_add(height(span, span));
            self.in_test = true;
        }
        self.casts_excused |= attributes.iter().any(excuses_casts);
        inside(self);
        (self.in_test, self.casts_excused) = was;
    }

    fn path(&mut self, segments: &[String], line: usize) {
        if paths::is_dalek_batch(segments) {
            self.report(line, Rule::BatchVerification, "dalek's batch verification");
        }
        if self.in_test || !self.source.must_be_deterministic() {
            return;
        }
        if let Some(rule) = paths::forbidden(segments) {
            self.report(
                line,
                rule,
                format!("`{}` where replicas must decide alike", segments.join("::")),
            );
        }
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        self.enter(attributes(item), item.span(), |walk| visit::visit_item(walk, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.enter(&item.attrs, item.span(), |walk| {
            walk.function(&item.sig, &item.block);
            visit::visit_impl_item_fn(walk, item);
        });
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.enter(&item.attrs, item.span(), |walk| {
            if let Some(body) = &item.default {
                walk.function(&item.sig, body);
            }
            visit::visit_trait_item_fn(walk, item);
        });
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        self.enter(&local.attrs, local.span(), |walk| visit::visit_local(walk, local));
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if text::says_nothing(&item.ident.to_string()) {
            let what = format!("module `{}` says nothing about what is inside", item.ident);
            self.report(item.ident.span().start().line, Rule::Name, what);
        }
        visit::visit_item_mod(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut leaves = Vec::new();
        paths::leaves(&item.tree, &[], &mut leaves);
        for (segments, line) in leaves {
            self.path(&segments, line);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.path(&segments, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let argument = match call.args.first() {
            Some(syn::Expr::Lit(syn::ExprLit {
                lit: syn::Lit::Str(text),
                ..
            })) => Some(text.value()),
            _ => None,
        };
        let line = call.method.span().start().line;
        if let (false, Some((rule, what))) = (
            self.in_test,
            tokens::panics(&call.method, argument.as_deref(), call.args.is_empty()),
        ) {
            self.report(line, rule, what);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_cast(&mut self, cast: &'ast syn::ExprCast) {
        if let syn::Type::Path(target) = &*cast.ty
            && let Some(name) = target.path.get_ident().filter(|name| tokens::is_integer(name))
            && self.source.must_count_exactly()
            && !self.in_test
            && !self.casts_excused
        {
            self.report(
                cast.as_token.span.start().line,
                Rule::Cast,
                format!("`as {name}` may change the number"),
            );
        }
        visit::visit_expr_cast(self, cast);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if !self.in_test {
            let found = tokens::check(call.tokens.clone(), self.source, self.casts_excused);
            self.findings.extend(found);
        }
        visit::visit_macro(self, call);
    }
}

/// `#[expect(clippy::as_conversions, reason = "...")]`, or `allow`.
fn excuses_casts(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else {
        return false;
    };
    let text = list.tokens.to_string();
    (list.path.is_ident("expect") || list.path.is_ident("allow"))
        && text.contains("as_conversions")
        && text.contains("reason")
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::ExternCrate(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::ForeignMod(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Union(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use crate::tidy::tests::broken;

    const FINE: &str = "//! Keeps one thing.\n";

    /// The rules that the body of a function breaks, at a place of the house.
    fn in_body(path: &str, body: &str) -> Vec<&'static str> {
        broken(path, &format!("{FINE}fn f() {{\n    {body}\n}}\n"))
    }

    #[test]
    fn function_length() {
        let function = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
        assert_eq!(broken("a/src/b.rs", &format!("{FINE}{}", function(70))), [""; 0]);
        assert_eq!(
            broken("a/src/b.rs", &format!("{FINE}{}", function(71))),
            ["function-length"]
        );
        assert_eq!(
            broken("a/src/b.rs", &format!("{FINE}impl A {{ {} }}", function(71))),
            ["function-length"]
        );
        assert_eq!(
            broken("a/src/b.rs", &format!("{FINE}trait A {{ {} }}", function(71))),
            ["function-length"]
        );
        assert_eq!(
            broken("a/src/b.rs", &format!("{FINE}#[test]\n{}", function(71))),
            [""; 0]
        );
        assert_eq!(broken("a/tests/b.rs", &format!("{FINE}{}", function(71))), [""; 0]);
    }

    #[test]
    fn unwrap_and_expect() {
        assert_eq!(in_body("a/src/b.rs", "x.unwrap();"), ["unwrap"]);
        assert_eq!(in_body("a/src/b.rs", "x.unwrap_err();"), ["unwrap"]);
        assert_eq!(in_body("a/src/b.rs", "x.unwrap_or(1); x.unwrap_or_default();"), [""; 0]);
        assert_eq!(in_body("a/src/b.rs", "x.expect(\"impossible\");"), ["expect"]);
        assert_eq!(in_body("a/src/b.rs", "x.expect(\"the tree has a root\");"), [""; 0]);
        assert_eq!(in_body("a/tests/b.rs", "x.unwrap(); x.expect(\"\");"), [""; 0]);
    }

    #[test]
    fn macro_calls_are_read_too() {
        assert_eq!(in_body("a/src/b.rs", "assert!(x.unwrap());"), ["unwrap"]);
        assert_eq!(in_body("a/src/b.rs", "vec![g(x.expect(\"short\"))];"), ["expect"]);
        assert_eq!(in_body("ledger/src/b.rs", "assert_eq!(x as u8, 1);"), ["cast"]);
        assert_eq!(
            in_body(
                "ledger/src/b.rs",
                "assert!(std::collections::HashMap::new().is_empty());"
            ),
            ["hash-map"]
        );
        assert_eq!(
            in_body(
                "ledger/src/b.rs",
                "#[cfg(test)]\n    assert!(x.unwrap());\n    debug!(x);"
            ),
            ["unwrap"]
        );
        assert_eq!(in_body("ledger/src/b.rs", "assert!(\"x.unwrap() as u8\");"), [""; 0]);
    }

    #[test]
    fn casts() {
        assert_eq!(in_body("ledger/src/b.rs", "g(x as u64);"), ["cast"]);
        assert_eq!(in_body("consensus/src/b.rs", "g(x as usize);"), ["cast"]);
        assert_eq!(in_body("ledger/src/b.rs", "g(x as f64); g(x as Height);"), [""; 0]);
        assert_eq!(in_body("node/src/b.rs", "g(x as u64);"), [""; 0]);
        assert_eq!(in_body("ledger/tests/b.rs", "g(x as u64);"), [""; 0]);
        let excuse = "#[expect(clippy::as_conversions, reason = \"constants only\")]";
        assert_eq!(
            broken(
                "ledger/src/b.rs",
                &format!("{FINE}{excuse}\nconst A: u64 = u8::MAX as u64;\n")
            ),
            [""; 0]
        );
        assert_eq!(
            in_body("ledger/src/b.rs", &format!("{excuse}\n    let a = b as u64;")),
            [""; 0]
        );
    }

    #[test]
    fn what_makes_replicas_differ() {
        for (code, rule) in [
            ("use std::time::{Duration, Instant};", "clock"),
            ("fn f() -> std::time::SystemTime { g() }", "clock"),
            ("fn f() { getrandom::fill(b); }", "randomness"),
            ("use quipu_crypto::random;", "randomness"),
            ("fn f() { std::thread::spawn(g); }", "threads"),
            ("use rayon::prelude::*;", "threads"),
            ("use std::collections::{BTreeMap, HashMap};", "hash-map"),
            ("struct A { b: std::collections::HashSet<u8> }", "hash-map"),
            ("use std::collections::*;", "hash-map"),
            ("use std::time::*;", "clock"),
            ("use std::collections::*;", "hash-map"),
            ("use std::time::*;", "clock"),
        ] {
            let text = format!("{FINE}{code}\n");
            assert_eq!(broken("consensus/src/a.rs", &text), [rule], "{code}");
            assert_eq!(broken("ledger/src/a.rs", &text), [rule], "{code}");
            for free in [
                "ledger/src/store.rs",
                "ledger/src/store/a.rs",
                "node/src/a.rs",
                "consensus/tests/a.rs",
            ] {
                assert_eq!(broken(free, &text), [""; 0], "{code} in {free}");
            }
        }
        assert_eq!(
            broken("ledger/src/a.rs", &format!("{FINE}use std::time::Duration;\n")),
            [""; 0]
        );
        // One reason where the name comes in is enough.
        let excused = "// tidy(hash-map): looked up only, never iterated\nuse std::collections::HashMap;\n";
        let text = format!("{FINE}{excused}type A = HashMap<u8, u8>;\n");
        assert_eq!(broken("ledger/src/a.rs", &text), [""; 0]);
    }

    #[test]
    fn inner_modules_have_names_that_say_something() {
        assert_eq!(broken("a/src/b.rs", &format!("{FINE}mod helpers {{}}\n")), ["name"]);
        assert_eq!(broken("a/src/b.rs", &format!("{FINE}mod proofs {{}}\n")), [""; 0]);
    }

    #[test]
    fn batch_verification_of_dalek() {
        let text = format!(
            "{FINE}use ed25519_dalek::{{Signature, {}}};\n",
            concat!("verify_", "batch")
        );
        assert_eq!(broken("a/tests/b.rs", &text), ["batch-verification"]);
        assert_eq!(
            broken("a/src/b.rs", &format!("{FINE}use ed25519_zebra::batch;\n")),
            [""; 0]
        );
    }
}
