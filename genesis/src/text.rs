//! Keeps the text forms of single values in files of the ceremony: times, lifetimes, grants, keys, addresses.
//!
//! Invariant: what a writer here writes, its reader reads back as the same value. A reader tells what it expected, with
//! an example. Leaves to `rules` what depends on other entries.

use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use quipu_crypto::hash::Hash;
use quipu_crypto::id::{Incarnation, NetworkId, TimeMs};
use quipu_crypto::key::PublicKey;
use quipu_crypto::signature::{SIGNATURE_LENGTH, Signature};
use quipu_ledger::membership::{Grant, NodeRole};
use quipu_ledger::operation::Namespace;

use crate::finding::Problem;
use crate::limits::{MAX_ADDRESS_BYTES, MAX_NAME_BYTES};

/// Units of a lifetime, the largest first, and their milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("min", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

fn unreadable(found: &str, expected: &'static str) -> Problem {
    Problem::Unreadable {
        found: found.to_owned(),
        expected,
    }
}

/// The time as RFC 3339 in UTC with at most milliseconds; as a number where it is too late for a text form.
#[must_use]
pub fn write_time(time: TimeMs) -> String {
    let timestamp = i64::try_from(time.get())
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    timestamp.map_or_else(|| time.to_string(), |timestamp| timestamp.to_string())
}

/// Reads RFC 3339 with an offset, or milliseconds since 1970.
pub(crate) fn read_time(text: &str) -> Result<TimeMs, Problem> {
    let expected = "a time after 1970 in RFC 3339 to the millisecond, like \"2026-11-23T12:00:00Z\"";
    if text.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(ms) = text.parse()
    {
        return Ok(TimeMs(ms));
    }
    let timestamp: Timestamp = text.parse().map_err(|_| unreadable(text, expected))?;
    let ms = u64::try_from(timestamp.as_millisecond()).map_err(|_| unreadable(text, expected))?;
    // What is finer than the format would be lost without a word.
    if timestamp.subsec_nanosecond() % 1_000_000 != 0 {
        return Err(unreadable(text, expected));
    }
    Ok(TimeMs(ms))
}

/// A length of time in its largest whole unit: `10min`.
#[must_use]
pub fn write_lifetime(ms: u64) -> String {
    let whole = UNITS.iter().find(|(_, unit)| ms != 0 && ms.is_multiple_of(*unit));
    match whole.and_then(|(name, unit)| Some((name, ms.checked_div(*unit)?))) {
        Some((name, count)) => format!("{count}{name}"),
        None => format!("{ms}ms"),
    }
}

/// Reads a whole number with its unit, or milliseconds.
pub(crate) fn read_lifetime(text: &str) -> Result<u64, Problem> {
    let expected = "a length of time: a whole number of ms, s, min, h or d, like \"10min\"";
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let unit = unit.trim_start();
    let ms = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ms)| *ms);
    let ms = if unit.is_empty() { Some(1) } else { ms };
    number
        .parse::<u64>()
        .ok()
        .zip(ms)
        .and_then(|(number, ms)| number.checked_mul(ms))
        .ok_or_else(|| unreadable(text, expected))
}

/// A grant as files write it: `everyone`, `role:writer`, `organisation:acme`, `member:clerk`.
#[must_use]
pub fn write_grant(grant: &Grant) -> String {
    match grant {
        Grant::Everyone => "everyone".to_owned(),
        Grant::Role(name) => format!("role:{name}"),
        Grant::Organisation(name) => format!("organisation:{name}"),
        Grant::Member(name) => format!("member:{name}"),
    }
}

/// Reads a grant. For files, and for options of the command line.
///
/// # Errors
/// [`Problem::Unreadable`], or [`Problem::Name`] where what is named cannot be a name.
pub fn read_grant(text: &str) -> Result<Grant, Problem> {
    let expected = "a grant: \"everyone\", \"role:NAME\", \"organisation:NAME\" or \"member:NAME\"";
    if text == "everyone" {
        return Ok(Grant::Everyone);
    }
    let (kind, name) = text.split_once(':').ok_or_else(|| unreadable(text, expected))?;
    let make = match kind {
        "role" => Grant::Role,
        "organisation" => Grant::Organisation,
        "member" => Grant::Member,
        _ => return Err(unreadable(text, expected)),
    };
    check_name(name)?;
    Ok(make(name.to_owned()))
}

/// The role of a node as files write it.
#[must_use]
pub const fn write_node_role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Voter => "voter",
        NodeRole::Learner => "learner",
    }
}

/// Reads the role of a node.
pub(crate) fn read_node_role(text: &str) -> Result<NodeRole, Problem> {
    match text {
        "voter" => Ok(NodeRole::Voter),
        "learner" => Ok(NodeRole::Learner),
        _ => Err(unreadable(text, "a role of a node: \"voter\" or \"learner\"")),
    }
}

/// Reads a public key; whether it may be enrolled is for `rules`.
pub(crate) fn read_key(text: &str) -> Result<PublicKey, Problem> {
    text.parse().map_err(|_| {
        unreadable(
            text,
            "a public key: 64 lower-case hex digits, as `quipu key show` prints it",
        )
    })
}

/// Reads a network id.
pub(crate) fn read_network(text: &str) -> Result<NetworkId, Problem> {
    let hash: Hash = text
        .parse()
        .map_err(|_| unreadable(text, "a network id: 64 lower-case hex digits"))?;
    Ok(NetworkId(hash))
}

/// Reads an incarnation.
pub(crate) fn read_incarnation(text: &str) -> Result<Incarnation, Problem> {
    read_hex(text)
        .map(Incarnation)
        .ok_or_else(|| unreadable(text, "an incarnation: 32 lower-case hex digits"))
}

/// Reads a signature.
pub(crate) fn read_signature(text: &str) -> Result<Signature, Problem> {
    let bytes = read_hex::<SIGNATURE_LENGTH>(text);
    bytes
        .map(Signature::from_bytes)
        .ok_or_else(|| unreadable(text, "a signature: 128 lower-case hex digits"))
}

/// Reads the name of a namespace.
pub(crate) fn read_namespace(text: &str) -> Result<Namespace, Problem> {
    Namespace::new(text).map_err(|_| Problem::Name(text.to_owned()))
}

fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

/// Whether a text can name a network, organisation, member, node or role: the letters of namespaces, so that names
/// look different wherever they are different, and serve as file names and labels.
///
/// # Errors
/// [`Problem::Name`].
pub fn check_name(name: &str) -> Result<(), Problem> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
        return Err(Problem::Name(name.to_owned()));
    }
    Ok(())
}

/// Whether a text is `host:port` with a host that others can connect to: a domain name, an IPv4 address or an IPv6
/// address in brackets.
///
/// # Errors
/// [`Problem::Unreadable`] or [`Problem::Unreachable`].
pub fn check_address(address: &str) -> Result<(), Problem> {
    let expected =
        "an address: host and port, like \"ledger.example.org:7400\", \"10.0.0.1:7400\" or \"[2001:db8::1]:7400\"";
    let unreadable = || unreadable(address, expected);
    if address.len() > MAX_ADDRESS_BYTES {
        return Err(unreadable());
    }
    let (host, port) = address.rsplit_once(':').ok_or_else(unreadable)?;
    if port.starts_with(['0', '+']) || port.parse::<u16>().is_err() {
        return Err(unreadable());
    }
    let unspecified = if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        inner.parse::<Ipv6Addr>().map_err(|_| unreadable())?.is_unspecified()
    } else if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        host.parse::<Ipv4Addr>().map_err(|_| unreadable())?.is_unspecified()
    } else {
        if !is_domain(host) {
            return Err(unreadable());
        }
        false
    };
    if unspecified {
        Err(Problem::Unreachable(address.to_owned()))
    } else {
        Ok(())
    }
}

/// Letters, digits and inner hyphens in labels of 1 to 63, at most 253 in all (RFC 1123, section 2.1). Underscores
/// pass too: names of containers have them.
fn is_domain(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use quipu_crypto::id::TimeMs;
    use quipu_ledger::membership::Grant;

    use super::{check_address, read_grant, read_lifetime, read_time, write_grant, write_lifetime, write_time};
    use crate::finding::Problem;

    #[test]
    fn addresses_are_a_host_and_a_port() {
        for good in [
            "localhost:1",
            "ledger.example.org:65535",
            "node_1:7400",
            "3com.example:7400",
            "10.0.0.1:7400",
            "127.0.0.1:7400",
            "[::1]:7400",
            "[2001:db8::1]:7400",
        ] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        let long = format!("{}:7400", ["a".repeat(60).as_str(); 5].join("."));
        for bad in [
            "",
            ":",
            ":7400",
            "host",
            "host:",
            "host:0",
            "host:07400",
            "host:+7400",
            "host:65536",
            "host:7400 ",
            " host:7400",
            "a..b:7400",
            "-a:7400",
            "a-:7400",
            "Host:7400",
            "höst:7400",
            "user@host:7400",
            "10.0.0:7400",
            "10.0.0.256:7400",
            "::1:7400",
            "[::1:7400",
            "[host]:7400",
            "[fe80::1%eth0]:7400",
            &long,
        ] {
            assert!(matches!(check_address(bad), Err(Problem::Unreadable { .. })), "{bad}");
        }
        for unreachable in ["0.0.0.0:7400", "[::]:7400"] {
            assert!(
                matches!(check_address(unreachable), Err(Problem::Unreachable(_))),
                "{unreachable}"
            );
        }
    }

    #[test]
    fn lifetimes_have_a_unit() {
        for (text, ms) in [
            ("0ms", 0),
            ("1ms", 1),
            ("1500ms", 1_500),
            ("90s", 90_000),
            ("10min", 600_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(read_lifetime(text), Ok(ms), "{text}");
            assert_eq!(write_lifetime(ms), text);
        }
        assert_eq!(read_lifetime("10 min"), Ok(600_000));
        assert_eq!(read_lifetime("60000"), Ok(60_000));
        assert_eq!(write_lifetime(u64::MAX), format!("{}ms", u64::MAX));
        for bad in [
            "",
            "min",
            "-1s",
            "1.5h",
            "1h 30min",
            "10m",
            "1s ",
            "1é",
            "213503982335d",
            "18446744073709551616",
        ] {
            assert!(read_lifetime(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_exact_to_the_millisecond() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-23T12:00:00Z", 1_795_435_200_000),
            ("2026-11-23T12:00:00.001Z", 1_795_435_200_001),
        ] {
            assert_eq!(read_time(text), Ok(TimeMs(ms)), "{text}");
            assert_eq!(write_time(TimeMs(ms)), text);
        }
        assert_eq!(write_time(TimeMs::MAX), u64::MAX.to_string());
        assert_eq!(read_time(&u64::MAX.to_string()), Ok(TimeMs::MAX));
        for bad in [
            "",
            "+5",
            "-5",
            "now",
            "2026-11-23",
            "2026-11-23T12:00:00",
            "2026-11-23T12:00:00.0001Z",
            "1969-12-31T23:59:59Z",
            "1969-12-31T23:59:59.9999Z",
            "2026-02-30T12:00:00Z",
            "18446744073709551616",
        ] {
            assert!(read_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn grants_name_whom_they_are_given_to() {
        let name = || "a".to_owned();
        for grant in [
            Grant::Everyone,
            Grant::Role(name()),
            Grant::Organisation(name()),
            Grant::Member(name()),
        ] {
            assert_eq!(read_grant(&write_grant(&grant)), Ok(grant));
        }
        for bad in [
            "",
            "Everyone",
            "everyone:a",
            "role",
            "role:",
            "role:a b",
            "role:a:b",
            "group:a",
            ":a",
        ] {
            assert!(read_grant(bad).is_err(), "{bad}");
        }
    }
}
