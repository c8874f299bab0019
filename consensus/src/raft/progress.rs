//! Keeps what a leader knows of one peer, and decides what it may be sent next.
//!
//! Invariants: `matched < next`; `matched` rises only by an acknowledgement of this term (never by a refusal, CCF#5325)
//! and falls only when the peer says hello anew; bytes in flight stay within the window, save that one block always
//! fits.
//! Leaves messages and sessions to `replication`.

use std::collections::VecDeque;

use quipu_crypto::id::{BlockId, Height};

use crate::input::{FetchId, Tick};
use crate::message::Report;

/// A peer, seen by the leader.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// The last block known to be durable there; `None` before the first acknowledgement.
    pub(crate) matched: Option<BlockId>,
    /// The next height to send.
    pub(crate) next: Height,
    /// How blocks flow.
    pub(crate) flow: Flow,
    /// Sent and not acknowledged: last height and bytes of each message.
    in_flight: VecDeque<(Height, u64)>,
    bytes_in_flight: u64,
    /// When something in flight was last acknowledged, or the flow began.
    moved: Tick,
    /// When blocks were last sent in a probe, until an answer brings news or shows that nothing was left to send.
    probed: Option<Tick>,
    /// When `matched` last rose.
    advanced: Tick,
    /// When it last answered in this term.
    pub(crate) heard: Tick,
    /// The highest number of a contact that it echoed.
    pub(crate) token: u64,
    /// The commit height that it was last told and could use.
    pub(crate) told_commit: Height,
    /// What it says to have executed.
    pub(crate) executed: Report,
    /// A question to the store on its behalf.
    pub(crate) fetch: Option<FetchId>,
}

/// How blocks flow to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Looks for where the chains part, one message at a time.
    Probe {
        /// Whether one is under way.
        sent: bool,
    },
    /// The chains meet: everything is sent as it comes.
    Stream,
}

impl Progress {
    /// A peer of which nothing is known, supposed to stand where the leader stands.
    pub(crate) fn new(next: Height, now: Tick) -> Self {
        Self {
            matched: None,
            next,
            flow: Flow::Probe { sent: false },
            in_flight: VecDeque::new(),
            bytes_in_flight: 0,
            moved: now,
            probed: None,
            advanced: now,
            heard: now,
            token: 0,
            told_commit: Height::ZERO,
            executed: Report::default(),
            fetch: None,
        }
    }

    /// Height of `matched`.
    pub(crate) fn matched_height(&self) -> Height {
        self.matched.map_or(Height::ZERO, |id| id.height)
    }

    /// Whether blocks get through to it: it has all up to `tip`, or has got further within `patience_ms`.
    pub(crate) fn gets_on(&self, tip: Height, now: Tick, patience_ms: u64) -> bool {
        self.matched_height() >= tip || now.since(self.advanced) < patience_ms
    }

    /// Whether anything sent still waits for its acknowledgement.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// How much of it that is, by the size of its blocks.
    pub(crate) fn bytes_in_flight(&self) -> u64 {
        self.bytes_in_flight
    }

    /// How many bytes may follow now; `None` for none.
    pub(crate) fn room(&self, window: u64) -> Option<u64> {
        match self.flow {
            Flow::Probe { sent } => (!sent).then_some(window),
            Flow::Stream if self.in_flight.is_empty() => Some(window),
            Flow::Stream => window.checked_sub(self.bytes_in_flight).filter(|room| *room > 0),
        }
    }

    /// Blocks up to `last` were sent.
    pub(crate) fn sent(&mut self, last: Height, bytes: u64, now: Tick) {
        match &mut self.flow {
            Flow::Probe { sent } => {
                *sent = true;
                if bytes > 0 {
                    self.probed = Some(now);
                }
            }
            Flow::Stream => {
                if self.in_flight.is_empty() {
                    self.moved = now;
                }
                self.in_flight.push_back((last, bytes));
                self.bytes_in_flight = self.bytes_in_flight.saturating_add(bytes);
                self.next = last.next();
            }
        }
    }

    /// Blocks up to `upto` are durable there, and are the leader's, whose last one stands at `tip`. Where that is no
    /// news and not all, whoever answers may hold the blocks of a probe back, or have no room for them: within
    /// `patience_ms` they are not sent anew. Then the whole window is: the first message alone may be one of which
    /// nothing is remembered there, and is passed over again.
    pub(crate) fn acknowledged(&mut self, upto: BlockId, tip: Height, now: Tick, patience_ms: u64) {
        let further = self.matched.is_none_or(|matched| upto.height > matched.height);
        let probes = matches!(self.flow, Flow::Probe { .. });
        if probes && !further && self.matched_height() < tip {
            if !self.probes_again(now, patience_ms) {
                return;
            }
            self.probed = Some(now);
        } else if probes || further {
            self.has_news();
        }
        if further {
            self.matched = Some(upto);
            self.moved = now;
            self.advanced = now;
        }
        while let Some((_, bytes)) = self.in_flight.front().copied().filter(|(last, _)| *last <= upto.height) {
            self.in_flight.pop_front();
            self.bytes_in_flight = self.bytes_in_flight.saturating_sub(bytes);
        }
        let after = self.matched_height().next();
        match self.flow {
            Flow::Probe { .. } => {
                self.flow = Flow::Stream;
                self.moved = now;
                self.next = after;
            }
            Flow::Stream => self.next = self.next.max(after),
        }
    }

    /// An answer shows that what was sent has arrived, or that nothing was left to send.
    pub(crate) fn has_news(&mut self) {
        self.probed = None;
    }

    /// Looks again from `next` on: something was refused or lost.
    pub(crate) fn probe(&mut self, next: Height) {
        self.flow = Flow::Probe { sent: false };
        self.in_flight.clear();
        self.bytes_in_flight = 0;
        self.fetch = None;
        self.next = next;
    }

    /// Whether a probe that brought nothing may be made again, with its blocks: they may have been lost, or refused for
    /// want of room.
    pub(crate) fn probes_again(&self, now: Tick, patience_ms: u64) -> bool {
        self.probed.is_none_or(|probed| now.since(probed) >= patience_ms)
    }

    /// Whether what is in flight seems lost: nothing moved for `patience_ms`.
    pub(crate) fn is_stuck(&self, now: Tick, patience_ms: u64) -> bool {
        self.flow == Flow::Stream && !self.in_flight.is_empty() && now.since(self.moved) >= patience_ms
    }
}
