//! Keeps how an output in the README is compared with a real one, where ids, times and heights vary:
//!
//! - a line `...` stands for any number of lines, `...` inside of a line for any text;
//! - `<name>` (lower case, digits, `-`, `_`) stands for one run of anything but spaces. The same name stands for the
//!   same text from then on, in outputs and in commands;
//! - runs of spaces count as one, and spaces at the end of a line as none: columns may move with what stands in them.

use std::collections::BTreeMap;

/// What the names stand for.
pub(super) type Bindings = BTreeMap<String, String>;

/// A piece of a line.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Anything,
    Name(&'a str),
}

/// The command with every bound name replaced.
pub(super) fn filled(command: &str, bound: &Bindings) -> String {
    let piece = |piece| match piece {
        Piece::Text(text) => text.to_owned(),
        Piece::Anything => "...".to_owned(),
        Piece::Name(name) => bound.get(name).cloned().unwrap_or_else(|| format!("<{name}>")),
    };
    pieces(command).into_iter().map(piece).collect()
}

/// Compares; answers the bindings with the new ones, or else how many lines match before one does not.
pub(super) fn matched(expected: &[String], actual: &[&str], bound: &Bindings) -> Result<Bindings, usize> {
    let plain = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected: Vec<String> = expected.iter().map(|line| plain(line)).collect();
    let actual: Vec<String> = actual.iter().map(|line| plain(line)).collect();
    let mut furthest = 0;
    lines(&expected, &actual, bound, 0, &mut furthest).ok_or(furthest)
}

fn lines(
    expected: &[String],
    actual: &[String],
    bound: &Bindings,
    done: usize,
    furthest: &mut usize,
) -> Option<Bindings> {
    *furthest = done.max(*furthest);
    let Some((first, rest)) = expected.split_first() else {
        return actual.is_empty().then(|| bound.clone());
    };
    let next = done.saturating_add(1);
    if first == "..." {
        let mut tails = (0..=actual.len()).filter_map(|skipped| actual.get(skipped..));
        return tails.find_map(|tail| lines(rest, tail, bound, next, furthest));
    }
    let (line, left) = actual.split_first()?;
    let bound = within(&pieces(first), line, bound)?;
    lines(rest, left, &bound, next, furthest)
}

/// Compares one line.
fn within(expected: &[Piece<'_>], actual: &str, bound: &Bindings) -> Option<Bindings> {
    let Some((first, rest)) = expected.split_first() else {
        return actual.is_empty().then(|| bound.clone());
    };
    let ends = || actual.char_indices().map(|(at, _)| at).chain([actual.len()]);
    match first {
        Piece::Text(text) => within(rest, actual.strip_prefix(text)?, bound),
        Piece::Anything => ends().find_map(|end| within(rest, actual.get(end..)?, bound)),
        Piece::Name(name) => match bound.get(*name) {
            Some(text) => within(rest, actual.strip_prefix(text.as_str())?, bound),
            None => {
                let word = actual.split(' ').next().unwrap_or("").len();
                let longest_first = ends()
                    .filter(|end| (1..=word).contains(end))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev();
                longest_first.into_iter().find_map(|end| {
                    let mut bound = bound.clone();
                    bound.insert((*name).to_owned(), actual.get(..end)?.to_owned());
                    within(rest, actual.get(end..)?, &bound)
                })
            }
        },
    }
}

/// Takes a line apart.
fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(rest) = line.get(at..).filter(|rest| !rest.is_empty()) {
        let piece = if rest.starts_with("...") {
            Some((Piece::Anything, 3))
        } else {
            name(rest)
        };
        let Some((piece, length)) = piece else {
            at = at.saturating_add(rest.chars().next().map_or(1, char::len_utf8));
            continue;
        };
        found.extend(line.get(start..at).filter(|text| !text.is_empty()).map(Piece::Text));
        found.push(piece);
        at = at.saturating_add(length);
        start = at;
    }
    found.extend(line.get(start..).filter(|text| !text.is_empty()).map(Piece::Text));
    found
}

/// A `<name>` at the start of a text, and its length with the brackets.
fn name(text: &str) -> Option<(Piece<'_>, usize)> {
    let (name, _) = text.strip_prefix('<')?.split_once('>')?;
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let valid = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(lower);
    valid.then(|| (Piece::Name(name), name.len().saturating_add(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &[&str], actual: &[&str]) -> Result<Bindings, usize> {
        let expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
        matched(&expected, actual, &Bindings::new())
    }

    #[test]
    fn text_matches_itself_with_any_spaces() {
        assert!(check(&["a  b", ""], &["a b  ", ""]).is_ok());
        assert_eq!(check(&["a", "b"], &["a", "c"]), Err(1));
        assert_eq!(check(&["a"], &["a", "b"]), Err(1));
        assert_eq!(check(&["a", "b"], &["a"]), Err(1));
    }

    #[test]
    fn dots_stand_for_anything() {
        assert!(check(&["height ... of ..."], &["height 12 of 13"]).is_ok());
        assert!(check(&["a", "...", "z"], &["a", "b", "c", "z"]).is_ok());
        assert!(check(&["a", "...", "z"], &["a", "z"]).is_ok());
        assert!(check(&["...", "y"], &["x", "y", "x"]).is_err());
    }

    #[test]
    fn names_are_bound_once() {
        let bound = check(&["id <id> at <height>.", "again <id>"], &["id abc at 12.", "again abc"]).unwrap();
        assert_eq!(bound.get("id").map(String::as_str), Some("abc"));
        assert_eq!(bound.get("height").map(String::as_str), Some("12"));
        assert_eq!(check(&["<id>", "<id>"], &["a", "b"]), Err(1));
        assert!(check(&["<id>"], &["two words"]).is_err());
        assert!(check(&["<id>"], &[""]).is_err());
        assert_eq!(filled("tx show <id> <other> ...", &bound), "tx show abc <other> ...");
    }

    #[test]
    fn what_is_no_name_is_text() {
        assert!(check(&["<KEY> < 3 ä"], &["<KEY> < 3 ä"]).is_ok());
        assert_eq!(
            pieces("a<b-1>..."),
            [Piece::Text("a"), Piece::Name("b-1"), Piece::Anything]
        );
    }
}
