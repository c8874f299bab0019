//! Keeps how a state is told from another: by a hash over everything that the derived `Debug` of it shows.
//!
//! `Debug` shows every field, the private ones of the engine too, and a field that is added later is in it by itself:
//! nothing that influences behaviour can be forgotten. Two numbers are shown relative, because only their distance is
//! ever looked at: times to the node's clock, and numbers of writes to the last one that was reported.
//! Invariant: what has equal fingerprints behaves equally, up to collisions of 64 bits.

use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Debug, Write};
use std::hash::Hasher;

use quipu_consensus::input::{PersistSeq, Tick};

/// Beyond this distance all times are alike: no setting of the model is as long.
const FAR_MS: u64 = 1000;

/// The fingerprint of `value`, whose times and numbers of writes are seen from `now` and `done`.
pub(super) fn fingerprint(value: &dyn Debug, now: Tick, done: PersistSeq) -> u64 {
    let mut relative = Relative {
        hasher: DefaultHasher::new(),
        now: now.0,
        done: done.0,
        place: Place::Elsewhere,
    };
    write!(relative, "{value:?}").expect("hashing never fails");
    relative.hasher.finish()
}

/// Where in `Tick(5)` or `PersistSeq(5)` the text stands; the derived `Debug` writes name, bracket and number apart.
enum Place {
    Elsewhere,
    Name(Kind),
    Bracket(Kind),
}

#[derive(Clone, Copy)]
enum Kind {
    Time,
    Write,
}

struct Relative {
    hasher: DefaultHasher,
    now: u64,
    done: u64,
    place: Place,
}

impl Write for Relative {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.place = match (&self.place, text) {
            (_, "Tick") => Place::Name(Kind::Time),
            (_, "PersistSeq") => Place::Name(Kind::Write),
            (Place::Name(kind), "(") => Place::Bracket(*kind),
            (Place::Bracket(kind), number) => {
                let number: u64 = number.parse().map_err(|_| fmt::Error)?;
                let distance = match kind {
                    // A time that has come is as good as any before it, but how long ago counts.
                    Kind::Time => number.saturating_add(FAR_MS).saturating_sub(self.now).min(2 * FAR_MS),
                    // What is done is done.
                    Kind::Write => number.saturating_sub(self.done),
                };
                self.hasher.write_u64(distance);
                self.place = Place::Elsewhere;
                return Ok(());
            }
            _ => Place::Elsewhere,
        };
        self.hasher.write(text.as_bytes());
        Ok(())
    }
}

#[test]
fn only_distances_count_of_times_and_of_writes() {
    let seen = |now: u64, at: u64, done: u64, seq: u64| {
        fingerprint(&(Tick(at), PersistSeq(seq), "text"), Tick(now), PersistSeq(done))
    };
    let one = seen(5000, 5100, 3, 4);
    assert_eq!(one, seen(9000, 9100, 7, 8));
    assert_ne!(one, seen(5000, 5101, 3, 4));
    assert_ne!(one, seen(5000, 5100, 3, 5));
    assert_eq!(seen(5000, 0, 3, 1), seen(9000, 7000, 7, 7), "long ago, and done");
    assert_ne!(seen(5000, 4990, 3, 1), seen(5000, 4980, 3, 1), "lately");
}
