//! How a transcript writes messages and writes: short, heights and terms, no hashes.

use quipu_consensus::message::Message;
use quipu_consensus::output::LogOperation;
use quipu_consensus::simulator::block::SimulatedBlock;
use quipu_crypto::id::BlockId;

/// A block: `height@term`.
pub fn id(id: BlockId) -> String {
    format!("{}@{}", id.height, id.term)
}

fn range(blocks: &[SimulatedBlock]) -> String {
    match blocks {
        [] => "nothing".to_owned(),
        [one] => id(one.id),
        [first, .., last] => format!("{}..{}", id(first.id), id(last.id)),
    }
}

fn answer(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}

/// A message.
pub fn message(message: &Message<SimulatedBlock>) -> String {
    match message {
        Message::Append(append) => format!(
            "append t{}: {} after {}, commit {}",
            append.term,
            range(&append.blocks),
            id(append.previous),
            append.commit.height
        ),
        Message::Accepted(accepted) => format!("accepted t{}: upto {}", accepted.term, id(accepted.upto)),
        Message::Rejected(rejected) => format!(
            "rejected t{}: at {}, conflict t{} from {}, tip {}",
            rejected.term,
            rejected.previous,
            rejected.conflict_term,
            rejected.conflict_first,
            id(rejected.tip)
        ),
        Message::PreVote(ask) => format!("pre-vote t{}? last {}", ask.term, id(ask.last)),
        Message::PreVoteAnswer(vote) => format!("pre-vote t{}: {}", vote.term, answer(vote.granted)),
        Message::RequestVote(ask) => format!("vote t{}? last {}", ask.term, id(ask.last)),
        Message::VoteAnswer(vote) => format!("vote t{}: {}", vote.term, answer(vote.granted)),
        Message::Hello(hello) if hello.claimed => format!("claims start {}", hello.start),
        Message::Hello(hello) => format!("hello start {} t{} tip {}", hello.start, hello.term, id(hello.tip)),
        Message::Welcome(welcome) => format!(
            "welcome{}, remembers start {} vote t{} accepted {}",
            if welcome.takes_part {
                ""
            } else {
                " by one who takes no part"
            },
            welcome.remembered.start,
            welcome.remembered.vote,
            id(welcome.remembered.accepted)
        ),
        Message::TimeoutNow(order) => format!("timeout-now t{}", order.term),
        Message::Want(want) => format!("wants {}", want.height),
        Message::Found(found) => match &found.block {
            Some(block) => format!("found {}", id(block.id)),
            None => format!("has no {}", found.height),
        },
    }
}

/// A write.
pub fn write(operations: &[LogOperation<SimulatedBlock>]) -> String {
    let one = |operation: &LogOperation<SimulatedBlock>| match operation {
        LogOperation::SetVote(record) => match record.voted_for {
            Some(slot) => format!("term {} vote {slot}", record.term),
            None => format!("term {}", record.term),
        },
        LogOperation::Truncate { from } => format!("cut {from}"),
        LogOperation::Append(blocks) => format!("append {}", range(blocks)),
        LogOperation::CommitHint(height) => format!("hint {height}"),
        LogOperation::Remember { peer, .. } => format!("remember {peer}"),
        LogOperation::Restore(block) => format!("restore {}", id(block.id)),
        // It goes with every synced write, and says what the write says.
        LogOperation::Watermark(_) => String::new(),
        LogOperation::Start(number) => format!("start {number}"),
        LogOperation::Recover(Some(lacking)) => format!("recovers {}", id(*lacking)),
        LogOperation::Recover(None) => "recovered".to_owned(),
    };
    let said: Vec<String> = operations.iter().map(one).filter(|said| !said.is_empty()).collect();
    said.join(", ")
}
