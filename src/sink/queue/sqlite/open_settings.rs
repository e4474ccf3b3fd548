//! The settings that a queue file is opened with.

use std::{sync::Arc, time::Duration};

use matrix_sdk::ruma::UserId;
use uuid::Uuid;
use zeroize::Zeroizing;

#[cfg(feature = "testing")]
use super::hanging_disk::HangingDisk;
use crate::{guard::Guard, history::History};

#[derive(Debug)]
pub(crate) struct OpenSettings {
    /// The event type and the user, which a file stores as a salted hash.
    pub(super) owner: Vec<u8>,
    pub(super) lanes: Vec<String>,
    pub(super) passphrase: Option<Zeroizing<String>>,
    pub(super) longest_wait: Duration,
    /// Checks the events that another process wrote.
    pub(super) guard: Arc<Guard>,
    /// The history that the file has a copy of.
    pub(super) history: Option<Arc<History>>,
    /// The name of this writer in the file, a random one.
    pub(super) writer: Uuid,
    /// Whether the file is opened even if another writer has had it since.
    pub(super) takes_over: bool,
    #[cfg(feature = "testing")]
    pub(super) disk: HangingDisk,
}

impl OpenSettings {
    /// Creates the settings for the backends with these unique names. An event that has waited
    /// for longer than `longest_wait` has expired.
    pub(crate) fn new(
        event_type: &str,
        user: &UserId,
        lanes: Vec<String>,
        longest_wait: Duration,
        guard: Arc<Guard>,
    ) -> Self {
        Self {
            owner: format!("{event_type}\0{user}").into_bytes(),
            lanes,
            passphrase: None,
            longest_wait,
            guard,
            history: None,
            writer: Uuid::new_v4(),
            takes_over: true,
            #[cfg(feature = "testing")]
            disk: HangingDisk::default(),
        }
    }

    /// Keeps a copy of `history` in the file.
    #[must_use]
    pub(crate) fn with_history(mut self, history: Option<Arc<History>>) -> Self {
        self.history = history;
        self
    }
}
