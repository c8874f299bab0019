//! Messages that a scenario makes by hand, be they true or not.

use quipu_consensus::message::{
    Accepted, Append, Found, Message, Promise, Rejected, Report, TimeoutNow, VoteAnswer, VoteRequest, VoteSignature,
    Welcome,
};
use quipu_consensus::raft::Rules;
use quipu_crypto::id::{Height, Term};

use super::arguments::Arguments;
use super::{Block, Event, Script, show};

impl<R: Rules + Clone> Script<R> {
    pub(super) fn forge(&mut self, kind: &str, arguments: &Arguments<'_>) {
        let (from, to) = arguments.way(0);
        let message = match kind {
            "append" => Message::Append(self.append(arguments)),
            "vote" => Message::RequestVote(self.request(arguments)),
            "pre-vote" => Message::PreVote(self.request(arguments)),
            _ => self.answer(kind, arguments),
        };
        self.say(format!("{from}>{to} {}", show::message(&message)));
        let session = self.sessions.get(&(to, from)).copied().unwrap_or_default();
        self.event(to, Event::Receive(from, session, message));
    }

    /// The chain that the message speaks of.
    fn spoken(&self, arguments: &Arguments<'_>) -> Vec<Block> {
        self.chain(arguments.value("chain").unwrap_or(""))
    }

    /// append N>M term=T chain=C from=H upto=H commit=H: the blocks of C above `from`, to its end or to `upto`; what is
    /// committed may lie beyond them.
    fn append(&self, arguments: &Arguments<'_>) -> Append<Block> {
        let chain = self.spoken(arguments);
        let at = |height: u64| chain[usize::try_from(height).unwrap()].id;
        let first = arguments.number("from").unwrap_or(chain.last().unwrap().id.height.0);
        let last = arguments.number("upto").unwrap_or(chain.last().unwrap().id.height.0);
        let sent = usize::try_from(first).unwrap() + 1..usize::try_from(last).unwrap() + 1;
        Append {
            term: term(arguments),
            previous: at(first),
            blocks: chain[sent].to_vec(),
            commit: at(arguments.number("commit").unwrap_or(0)),
            read_token: 0,
            sign_at: Height::ZERO,
        }
    }

    /// vote or pre-vote N>M term=T chain=C round=R transfer=1.
    fn request(&self, arguments: &Arguments<'_>) -> VoteRequest {
        VoteRequest {
            term: term(arguments),
            round: arguments.number("round").unwrap_or(1),
            last: self.spoken(arguments).last().unwrap().id,
            membership: Height::ZERO,
            transfer: arguments.number("transfer").is_some(),
        }
    }

    /// voted N>M round=R, accepted upto=H (the end of C where it is missing), refused at=H (by one that ends with C),
    /// welcome start=S vote=T (it remembers that the end of C was acknowledged), timeout-now; each with term=T chain=C;
    /// found (the end of C).
    fn answer(&self, kind: &str, arguments: &Arguments<'_>) -> Message<Block> {
        let last = self.spoken(arguments).last().unwrap().id;
        if kind == "found" {
            let (height, hash) = (last.height, last.hash);
            let block = self.spoken(arguments).pop();
            return Message::Found(Found { height, hash, block });
        }
        let term = term(arguments);
        match kind {
            "voted" => Message::VoteAnswer(VoteAnswer {
                term,
                round: arguments.number("round").unwrap_or(1),
                granted: true,
                last,
                signature: VoteSignature::default(),
            }),
            "accepted" => Message::Accepted(Accepted {
                term,
                upto: match arguments.number("upto") {
                    Some(height) => self.spoken(arguments)[usize::try_from(height).unwrap()].id,
                    None => last,
                },
                executed: Report::default(),
                read_token: 0,
            }),
            "refused" => Message::Rejected(Rejected {
                term,
                previous: Height(arguments.number("at").unwrap()),
                conflict_term: last.term,
                conflict_first: last.height,
                tip: last,
                read_token: 0,
            }),
            "welcome" => Message::Welcome(Welcome {
                nonce: arguments.number("process").unwrap(),
                term,
                tip: last,
                takes_part: true,
                remembered: Promise {
                    start: 0,
                    vote: Term(arguments.number("vote").unwrap()),
                    accepted: last,
                },
            }),
            _ => Message::TimeoutNow(TimeoutNow {
                term,
                target: arguments.way(0).1,
            }),
        }
    }
}

fn term(arguments: &Arguments<'_>) -> Term {
    Term(arguments.number("term").unwrap())
}
