//! Whose file it is, who takes events from it, and what may be in it.

use std::{sync::Arc, time::Duration};

use matrix_sdk::ruma::UserId;
use zeroize::Zeroizing;

#[cfg(feature = "testing")]
use super::hanging_disk::HangingDisk;
use crate::guard::Guard;

#[derive(Debug)]
pub(crate) struct OpenSettings {
    /// What user and event type are known by.
    pub(super) owner: Vec<u8>,
    pub(super) lanes: Vec<String>,
    pub(super) passphrase: Option<Zeroizing<String>>,
    pub(super) longest_wait: Duration,
    /// Looks at what another process wrote.
    pub(super) guard: Arc<Guard>,
    #[cfg(feature = "testing")]
    pub(super) disk: HangingDisk,
}

impl OpenSettings {
    /// For the backends named, of which none takes an event older than `longest_wait`.
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

/// A name for each backend that is the same at the next start: two of one name are told
/// apart by their order.
fn lane_names(backends: &[&'static str]) -> Vec<String> {
    let number = |place: usize| backends[..place].iter().filter(|b| **b == backends[place]).count();
    (0..backends.len()).map(|place| format!("{}#{}", backends[place], number(place))).collect()
}
