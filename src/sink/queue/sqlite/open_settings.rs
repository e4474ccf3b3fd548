//! The settings that a queue file is opened with.

use std::{sync::Arc, time::Duration};

use matrix_sdk::ruma::UserId;
use zeroize::Zeroizing;

#[cfg(feature = "testing")]
use super::hanging_disk::HangingDisk;
use crate::guard::Guard;

#[derive(Debug)]
pub(crate) struct OpenSettings {
    /// The event type and the user, which a file stores as a salted hash.
    pub(super) owner: Vec<u8>,
    pub(super) lanes: Vec<String>,
    pub(super) passphrase: Option<Zeroizing<String>>,
    pub(super) longest_wait: Duration,
    /// Checks the events that another process wrote.
    pub(super) guard: Arc<Guard>,
    #[cfg(feature = "testing")]
    pub(super) disk: HangingDisk,
}

impl OpenSettings {
    /// Creates the settings for these backends. An event that has waited for longer than
    /// `longest_wait` has expired.
    pub(crate) fn new(
        event_type: &str,
        user: &UserId,
        backends: &[&'static str],
        longest_wait: Duration,
        guard: Arc<Guard>,
    ) -> Self {
        Self {
            owner: format!("{event_type}\0{user}").into_bytes(),
            lanes: lane_names(backends),
            passphrase: None,
            longest_wait,
            guard,
            #[cfg(feature = "testing")]
            disk: HangingDisk::default(),
        }
    }
}

/// Returns a name for each backend that is stable across restarts. Backends of the same
/// name are numbered in their order.
fn lane_names(backends: &[&'static str]) -> Vec<String> {
    let number = |place: usize| backends[..place].iter().filter(|b| **b == backends[place]).count();
    (0..backends.len()).map(|place| format!("{}#{}", backends[place], number(place))).collect()
}
