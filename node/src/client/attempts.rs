//! Keeps what has been tried of one call, and decides when there is no use in trying on.
//!
//! Invariants: once a node may have taken a transaction, no refusal by another that may not know of it is final; an
//! attempt that cannot have reached the ledger never makes a call unresolved. Decides only; `calls` performs.

use quipu_crypto::id::TransactionId;
use quipu_crypto::key::PublicKey;

use super::node::Failure;
use super::{ClientError, Endpoint};
use crate::client_protocol::{Answer, CloseCode, Rejection, Unavailable};

/// The last that is known of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Note {
    Untried,
    /// Cannot be reached.
    Away(String),
    /// Answers, but cannot help now.
    NotNow(String),
    /// Knows no such member.
    Stranger,
    /// Speaks something else.
    Protocol(String),
    /// Refuses a transaction that another node may have taken.
    Rejected(Box<Rejection>),
}

/// What to do after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This is the answer.
    Answer(Answer),
    /// Ask another node.
    Other,
    /// Ask the same node after so many ms.
    Same(u64),
}

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    nodes: Vec<(&'a Endpoint, Note)>,
    /// Of a submission.
    transaction: Option<TransactionId>,
    /// Whether a node may have taken the transaction.
    taken: bool,
    /// An answer that another node might better.
    last: Option<Answer>,
    /// Whether *busy* is an answer like any other, and not a reason to try again.
    takes_busy: bool,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(nodes: impl Iterator<Item = &'a Endpoint>, transaction: Option<TransactionId>) -> Self {
        Self {
            nodes: nodes.map(|node| (node, Note::Untried)).collect(),
            transaction,
            taken: false,
            last: None,
            takes_busy: false,
        }
    }

    /// Lets *busy* be an answer, where the caller wants that and as long as no node may have taken the transaction.
    #[must_use]
    pub(crate) const fn taking_busy(mut self, takes_busy: bool) -> Self {
        self.takes_busy = takes_busy;
        self
    }

    /// The deadline has cut an attempt at `node` off, after the call was `sent` or before.
    pub(crate) fn cut(&mut self, node: usize, sent: bool) {
        self.taken |= sent;
        if self.nodes.get(node).is_some_and(|(_, note)| *note == Note::Untried) {
            let what = if sent { "no answer" } else { "no connection" };
            self.note(node, Note::Away(format!("{what} before the time was over")));
        }
    }

    /// An attempt at `node` has ended, after the call was `sent` or before.
    pub(crate) fn ended(&mut self, node: usize, sent: bool, result: Result<Answer, Failure>) -> Next {
        let failure = match result {
            Ok(answer) => return self.answered(node, answer),
            Err(failure) => failure,
        };
        self.taken |= sent;
        let note = match failure {
            Failure::Closed(CloseCode::Stranger) => Note::Stranger,
            Failure::Protocol(detail) => Note::Protocol(detail),
            Failure::Closed(_) => Note::NotNow(failure.to_string()),
            Failure::Unreachable(detail) => Note::Away(detail),
        };
        self.note(node, note);
        Next::Other
    }

    fn answered(&mut self, node: usize, answer: Answer) -> Next {
        match &answer {
            Answer::Rejected(Rejection::Busy { .. }) | Answer::Unavailable(Unavailable::Busy)
                if self.takes_busy && !self.taken =>
            {
                Next::Answer(answer)
            }
            Answer::Unavailable(reason) => {
                // These two are said before the call has begun; of the others nothing is known.
                self.taken |= !matches!(reason, Unavailable::Busy | Unavailable::DiskFull { .. });
                if matches!(reason, Unavailable::Invalid(_)) && self.transaction.is_none() {
                    return Next::Answer(answer);
                }
                self.note(node, Note::NotNow(reason.to_string()));
                self.last = Some(answer);
                Next::Other
            }
            Answer::Rejected(Rejection::Busy { retry_after_ms }) => {
                let wait = *retry_after_ms;
                self.note(node, Note::NotNow("busy".to_owned()));
                self.last = Some(answer);
                Next::Same(wait)
            }
            Answer::Rejected(rejection) if self.taken && !is_of_the_bytes(rejection) => {
                self.note(node, Note::Rejected(Box::new(rejection.clone())));
                Next::Other
            }
            Answer::Pending if self.transaction.is_some() => {
                self.taken = true;
                self.note(node, Note::NotNow("accepted, not executed yet".to_owned()));
                self.last = Some(answer);
                Next::Other
            }
            _ => Next::Answer(answer),
        }
    }

    /// Every node has been asked once more: is there no use in going on?
    pub(crate) fn is_hopeless(&self) -> bool {
        let final_word = |note: &Note| matches!(note, Note::Stranger | Note::Protocol(_) | Note::Rejected(_));
        let no_hope = |note: &Note| final_word(note) || matches!(note, Note::Away(_));
        self.nodes.iter().all(|(_, note)| no_hope(note)) && self.nodes.iter().any(|(_, note)| final_word(note))
    }

    /// What to tell the caller when there is no answer in time, or none to hope for.
    pub(crate) fn give_up(self, key: PublicKey) -> Result<Answer, ClientError> {
        if let Some(id) = self.transaction
            && self.taken
        {
            return match self.last {
                Some(Answer::Pending) => Ok(Answer::Pending),
                _ => Err(ClientError::Unresolved {
                    id,
                    rejection: self.rejection(),
                    tried: self.tried(),
                }),
            };
        }
        let refused = self.nodes.iter().find(|(_, note)| *note == Note::Stranger);
        if let Some((node, _)) = refused {
            return Err(ClientError::Refused {
                node: node.name.clone(),
                code: CloseCode::Stranger,
                key,
            });
        }
        if let Some(last) = self.last {
            return Ok(last);
        }
        for (node, note) in &self.nodes {
            if let Note::Protocol(detail) = note {
                return Err(ClientError::Protocol {
                    node: node.name.clone(),
                    detail: detail.clone(),
                });
            }
        }
        Err(ClientError::Unreachable { tried: self.tried() })
    }

    fn rejection(&self) -> Option<Box<Rejection>> {
        self.nodes.iter().find_map(|(_, note)| match note {
            Note::Rejected(rejection) => Some(rejection.clone()),
            _ => None,
        })
    }

    fn tried(&self) -> Vec<String> {
        let said = |(node, note): &(&Endpoint, Note)| {
            let what = match note {
                Note::Untried => "the time was over before it was asked".to_owned(),
                Note::Away(detail) | Note::NotNow(detail) => detail.clone(),
                Note::Stranger => CloseCode::Stranger.meaning().to_owned(),
                Note::Protocol(detail) => format!("does not speak this protocol: {detail}"),
                Note::Rejected(rejection) => rejection.to_string(),
            };
            format!("{} ({}): {what}", node.name, node.address)
        };
        self.nodes.iter().map(said).collect()
    }

    fn note(&mut self, node: usize, note: Note) {
        if let Some((_, last)) = self.nodes.get_mut(node) {
            *last = note;
        }
    }
}

/// Whether every node must refuse these bytes alike, whatever it has seen.
const fn is_of_the_bytes(rejection: &Rejection) -> bool {
    matches!(
        rejection,
        Rejection::TooLarge { .. } | Rejection::Malformed(_) | Rejection::WrongNetwork { .. } | Rejection::BadSignature
    )
}
