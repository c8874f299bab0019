//! # quipu-consensus: who decides what comes next
//!
//! The ordering engine of Quipu: an own Raft core without I/O, and the simulator that tries to break it. An engine is
//! told what happened ([`input::Input`]) and answers with what to do ([`output::Output`]). It never waits, reads a
//! clock, draws a number or touches a disk: time and chance are arguments of [`engine::Engine::step`], so one seed is
//! one run, to the last bit. The log of the engine *is* the chain: Raft's index is the height of a block, and the
//! consistency check compares the hash of the block before.
//!
//! ## The caller's duties, in this order
//!
//! 1. **Begin the write** of [`output::Output::Persist`]: as one batch, in the order of the numbers, and with a sync if
//!    asked. It comes first among the outputs of a step. Report it with [`input::Input::Persisted`] once it is durable,
//!    never before, in order; one report may cover several.
//! 2. **Hold every message** until the write that it names in `after` is durable; then sign what must be signed (a
//!    granted vote) and send. Doing this before the first can make an honest member vote twice.
//! 3. **Execute** up to the committed block, but no further than what is durable here, and report it.
//! 4. **Tell the truth about the disk**: what it cannot read ([`input::Input::Damaged`]), whether it has room
//!    ([`input::Input::MayAppend`]), and at the start what was noted of the node's promises beside the log
//!    ([`output::LogOperation::Watermark`]). A block that cannot be read is waited for, not answered as absent.
//! 5. **Propose** where [`engine::Engine::proposal`] says, in the same turn: the opening block at once after a win,
//!    then whatever clients want. A block that does not stand exactly there is a mistake, and the engine halts.
//!
//! What arrives from a peer goes in only when the host has verified every signature in it and has itself executed what
//! its blocks call executed. The loop, as [`simulator::engine_host`] has it in full:
//!
//! ```text
//! loop {
//!     let input = wait_for(tick | message | session | write done | client);
//!     engine.step(now, entropy, input, &mut outputs);
//!     for output in outputs.drain(..) {
//!         match output {
//!             Persist { seq, operations, sync } => disk.begin(seq, operations, sync),  // later: Input::Persisted
//!             Send { after: Some(seq), .. } if !disk.has(seq) => gate.hold(seq, output),
//!             Send { to, session, message, .. } => peers.send(to, session, message),
//!             Commit { upto } => executor.allow(upto),                                 // later: Input::Executed
//!             Fetch { .. } => store.read(..),                                          // later: Input::Loaded
//!             ReadReady { .. } | ReadLost { .. } | Truncated { .. } => clients.tell(..),
//!             Role(_) | Evidence(_) => log(..),
//!             Halt(_) => exit(1),
//!         }
//!     }
//!     while let Some(place) = engine.proposal() { /* the opening block, or a block of transactions, or break */ }
//! }
//! ```
//!
//! ## The way of a block
//!
//! | step | where |
//! | --- | --- |
//! | the leader appends it, stages the write, sends before the sync | `raft/replication.rs`: `propose`, `replicate` |
//! | a follower compares the hash before it, cuts what differs, stages it | `raft/follower.rs`: `receive_append` |
//! | the write is durable; the acknowledgement leaves | `raft/persistence.rs`: `complete`, `after_block` |
//! | the leader counts durable copies, its own among them | `raft/replication.rs`: `try_commit`; `quorum.rs` |
//! | a block of the own term is on a quorum: committed; idle followers hear it at once | `raft/state.rs`: `commit_to` |
//!
//! ## The map
//!
//! * [`engine`], [`input`], [`output`], [`message`], [`block`]: the interface, and nothing else.
//! * [`raft`]: `step` dispatches; `election`, `vote`, `replication`, `follower`, `read`, `transfer`, `repair` handle
//!   one thing each; `hello`, `participation`, `recovery` say whether a node takes part after a start, and `memory`
//!   what it knows of the others' promises; `log`, `progress`, `pace`, `membership`, `persistence`, `evidence`,
//!   `horizon` keep one thing each;
//!   [`raft::Rules`] has every decision on which safety rests, so that a test can plant a bug by changing one.
//! * [`quorum`]: the arithmetic, a leaf.
//! * [`simulator`]: a network in one thread under every fault; [`simulator::checkers`] hold the invariants against it
//!   after every step. `cargo xtask simulate` runs as many seeds as one likes, and shows the trace of one.
//! * `tests/scenarios/*.txt`: what must hold in each known bug of others, as transcripts; `tests/planted`: bugs that
//!   the simulator must find by a seed and that a scenario must show (`cargo xtask mutants` searches both anew);
//!   `tests/simulation.rs`: seeds that must find none.
//!
//! ## What is absent on purpose
//!
//! * No leases: a read is confirmed by a round of contacts, whatever clocks do.
//! * No forwarding: who does not lead says so, and the host knows where to.
//! * No second log, no snapshot of its own: the store of the host is the log.
//! * Changes of membership are followed where a leader sends them, joint ones included, but not proposed yet; commit
//!   certificates (`sign_at`) and snapshots are seams.
//! * No agreement against liars. Ordering tolerates crashes; lies are made visible ([`output::Evidence`]), and the word
//!   of one peer cannot take a term to the end of numbers (`raft/horizon.rs`). What a liar can still do, by messages
//!   that any member may send:
//!   - Force an election with each of them, for as long as it goes on.
//!   - Move the others on by two leaps (2^32 terms each) while a node is away: that node hears them again when more
//!     than half of the other voters answer it; in a network of three that takes the liar's answer too.
//!   - Hold a node that starts in recovery, by a false memory of it. An impossible memory is void. A false block at a
//!     height that the chain has holds the node until it has that height committed; one beyond, or in a network of
//!     three a false tip of the liar's own, until a block of a later term than that is committed, so a transfer of
//!     leadership frees it, where there is a quorum without it. The memory of an honest peer must hold it just as
//!     fast, or an old copy of a disk could vote (D-10).
#![forbid(unsafe_code)]
#![warn(clippy::as_conversions)]

pub mod block;
pub mod engine;
pub mod input;
pub mod message;
pub mod output;
pub mod quorum;
pub mod raft;
pub mod simulator;
