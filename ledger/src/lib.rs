//! The data of Quipu: transactions, blocks, chain, state and their verification.
