//! Draws random bytes from the operating system, for keys, nonces and incarnations.
//!
//! Invariant: nothing that the replicas must agree on is drawn here; whatever is drawn enters the ledger as data.

/// The operating system gave no randomness. There is no second source: the caller stops what it was about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes ({0}); try again, and look at the system's log if it stays so")]
pub struct RandomError(#[from] getrandom::Error);

/// `N` bytes that nobody can foretell.
///
/// # Errors
/// [`RandomError`] if the operating system has none, which a running Linux system does not show.
pub fn bytes<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::bytes;

    #[test]
    fn no_two_draws_are_equal() {
        let drawn: HashSet<[u8; 16]> = (0..1000).map(|_| bytes().unwrap()).collect();
        assert_eq!(drawn.len(), 1000);
    }
}
