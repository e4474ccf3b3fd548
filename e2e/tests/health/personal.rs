//! Identifiers of people, rooms, devices, messages and servers, none of which may arrive.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use crate::waiting::{Result, ensure};

/// A shorter text could be part of a random ID by chance.
const SHORTEST: usize = 8;

/// The identifiers that a scenario has met.
#[derive(Debug, Default)]
pub(crate) struct Personal(Mutex<BTreeSet<String>>);

impl Personal {
    /// Remembers an identifier, and its local part.
    pub(crate) fn add(&self, identifier: impl AsRef<str>) {
        let identifier = identifier.as_ref().trim_start_matches(['@', '!', '$']);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for part in [identifier].into_iter().chain(identifier.split(':')) {
            if part.len() >= SHORTEST {
                all.insert(part.to_lowercase());
            }
        }
    }

    /// Fails if `text` contains one of the identifiers. Returns how many there are.
    pub(crate) fn sweep(&self, text: &str) -> Result<usize> {
        let text = text.to_lowercase();
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ensure("there are identifiers to look for", all.len() > 5)?;
        for identifier in all.iter() {
            ensure(format!("no trace of {identifier} in {text}"), !text.contains(identifier))?;
        }
        for sigil in ['@', '!'] {
            ensure(format!("no {sigil} in {text}"), !text.contains(sigil))?;
        }
        Ok(all.len())
    }
}
