//! I18 a read sees at least what was final when it was asked.

use quipu_crypto::id::{Height, Slot};

use super::{Oracle, Verdict, violation};

impl Oracle {
    /// A client asks.
    pub fn read_asked(&mut self, ticket: u64) {
        self.reads.insert(ticket, self.final_height());
    }

    /// It is answered from `height`.
    ///
    /// # Errors
    /// I18.
    pub fn read_answered(&mut self, slot: Slot, ticket: u64, height: Height) -> Verdict {
        let least = self.reads.remove(&ticket).unwrap_or(Height::MAX);
        if height < least {
            return violation(
                "I18",
                format!("{slot} answers read {ticket} from {height}, final was {least}"),
            );
        }
        Ok(())
    }
}
