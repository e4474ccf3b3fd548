//! The process that captured an event.

use std::fmt;

/// A random number of the process that captured an event, from which its anonymous identifiers
/// are made.
///
/// A durable queue keeps it with the event, so that an event that is sent by another process
/// keeps its identifier.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(pub(crate) [u8; Self::BYTES]);

impl Process {
    pub(crate) const BYTES: usize = 16;

    /// Creates a number from the randomness of the operating system.
    pub(crate) fn random() -> Self {
        let mut bytes = [0; Self::BYTES];
        // Failures are not known once a system has started. A guess of the number is of use only
        // together with the account's ID.
        if getrandom::fill(&mut bytes).is_err() {
            fastrand::fill(&mut bytes);
        }
        Self(bytes)
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Process(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_process_is_not_printed() {
        assert_eq!(format!("{:?}", Process([7; 16])), "Process(..)");
    }
}
