//! The genesis file: what is read, what is refused, and that all of it is told at once.

mod house;

use house::{signed, unsigned};
use quipu_genesis::{GenesisDocument, NodeFile, OrganisationFile};

/// Reads `text` as a genesis and compares what is found with the lines of `expected`.
fn check(text: &str, expected: &str) {
    let found = match GenesisDocument::parse(text) {
        Ok(document) => document
            .findings()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n"),
        Err(findings) => findings.to_string(),
    };
    assert_eq!(found, expected.trim());
}

/// The signed genesis with `from`, which must stand in it, replaced by `to`.
fn edited(from: &str, to: &str) -> String {
    let text = signed().to_toml();
    assert!(text.contains(from), "{from} is not in the file");
    text.replacen(from, to, 1)
}

#[test]
fn what_is_written_is_read_as_the_same() {
    for document in [unsigned(), signed()] {
        assert_eq!(GenesisDocument::parse(&document.to_toml()).unwrap(), document);
    }
}

#[test]
fn an_odd_name_is_still_valid_toml() {
    let mut document = unsigned();
    document.name = "tab\t\"quote\" 'single' \\ \n new line # no comment \u{1} é".to_owned();
    assert_eq!(GenesisDocument::parse(&document.to_toml()).unwrap(), document);
    assert_eq!(document.findings().len(), 1);
}

#[test]
fn the_golden_file_reads_without_findings() {
    check(&signed().to_toml(), "");
}

#[test]
fn an_empty_file_says_everything_that_is_missing() {
    check(
        "",
        r#"
top of the file, format: is missing; add it: format = 1
top of the file, name: is missing; add it: name = "...", what the network is called
top of the file, time: is missing; add it: time = "2026-11-23T12:00:00Z"
top of the file, parameters: is missing; add it: [parameters] with max_lifetime, certificates and approvals
top of the file, organisation: there is none; a network needs at least one [[organisation]]
top of the file, node: none has the role "voter"; a network needs at least one node that votes
"#,
    );
}

#[test]
fn mistakes_of_every_kind_are_told_together() {
    check(
        include_str!("mistakes/every_kind.toml"),
        include_str!("mistakes/every_kind.txt"),
    );
}

#[test]
fn what_is_not_toml_names_line_and_column() {
    check(
        "format = 1\nname = \"andes\ntime = 1",
        "top of the file: line 2, column 14: this is not TOML: invalid basic string, expected `\"`",
    );
    let twice = edited("name = \"andes\"", "name = \"andes\"\nname = \"andes\"");
    assert!(
        GenesisDocument::parse(&twice)
            .unwrap_err()
            .to_string()
            .contains("duplicate key")
    );
}

#[test]
fn a_file_of_a_later_format_is_refused_for_that_alone() {
    check(
        "format = 2\nshape = \"unheard of\"",
        "top of the file, format: is 2, but this program reads format 1 only; \
         use the version of quipu that wrote the file",
    );
}

#[test]
fn tables_of_the_wrong_shape_are_found() {
    let unknown = "there is no such field here; correct its spelling or remove it \
                   (known: format, name, time, parameters, organisation, member, namespace, node, approval)";
    let none = "there is none; a network needs at least one [[organisation]]";
    check(
        &edited("[parameters]", "node_count = 4\n[parameters]").replacen("[[organisation]]", "[[organisations]]", 3),
        &format!(
            "top of the file, node_count: {unknown}\n\
             top of the file, organisations: {unknown}\n\
             top of the file, organisation: {none}"
        ),
    );
    check(
        &edited("roles = []", "roles = \"writer\"").replacen("name = \"andes\"", "name = [\"andes\"]", 1),
        "top of the file, name: is a list, but must be a text in quotes\n\
         [[member]] 3 \"reader\", roles: is a text, but must be a list of texts, like [\"a\", \"b\"]",
    );
}

#[test]
fn a_time_may_be_written_in_several_ways() {
    let id = unsigned().validate().unwrap().network_id();
    for time in [
        "2026-11-23T12:00:00Z",
        "1795435200000",
        "\"2026-11-23T07:00:00-05:00\"",
        "\"1795435200000\"",
    ] {
        let text = edited("time = \"2026-11-23T12:00:00Z\"", &format!("time = {time}"));
        assert_eq!(
            GenesisDocument::parse(&text).unwrap().validate().unwrap().network_id(),
            id,
            "{time}"
        );
    }
}

#[test]
fn a_node_file_is_checked_where_it_is_read() {
    let file = house::node("alpha", 21);
    assert_eq!(NodeFile::parse(&file.to_toml()).unwrap(), file);
    let text = file
        .to_toml()
        .replace("alpha.example.org:7400", "alpha.example.org")
        .replace("format", "formta");
    assert_eq!(
        NodeFile::parse(&text).unwrap_err().to_string(),
        "top of the file, format: is missing; add it: format = 1\n\
         top of the file, formta: there is no such field here; correct its spelling or remove it \
         (known: format, name, key, incarnation, address)\n\
         top of the file, address: \"alpha.example.org\" is not an address: host and port, \
         like \"ledger.example.org:7400\", \"10.0.0.1:7400\" or \"[2001:db8::1]:7400\""
    );
}

#[test]
fn an_organisation_file_is_checked_where_it_is_read() {
    for file in house::organisations() {
        assert_eq!(OrganisationFile::parse(&file.to_toml()).unwrap(), file);
    }
    let file = OrganisationFile::new("acme", house::public(1)).with_member("clerk", house::public(1), &["a", "A"]);
    assert_eq!(
        OrganisationFile::parse(&file.to_toml()).unwrap_err().to_string(),
        "[[member]] 1 \"clerk\", key: is the same as that of top of the file, key; give each its own\n\
         [[member]] 1 \"clerk\", roles: \"A\" is not a name; a name has 1 to 64 of the letters a-z, 0-9, '-', '_', '.'"
    );
}

#[test]
fn a_million_mistakes_are_no_worse_than_a_thousand() {
    let text = "[[node]]\n".repeat(1024 * 1024 / 9);
    let findings = GenesisDocument::parse(&text).unwrap_err();
    assert_eq!(findings.as_slice().len(), 1000);
}
