//! The events of a batch that were not delivered although the backend took the batch.

/// The numbers of events of a batch that were dropped, by reason, although the backend took the
/// batch. All other events count as delivered.
///
/// ```
/// use matrix_analytics::{DeliveryError, PartialDelivery};
///
/// let mut partial = PartialDelivery::default();
/// partial.rejected = 2;
/// let error = DeliveryError::Partial(partial);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialDelivery {
    /// The number of events that were too old for the service.
    pub expired: usize,
    /// The number of events that the service refused.
    pub rejected: usize,
    /// The number of events that were larger than the service accepts.
    pub too_large: usize,
}

impl PartialDelivery {
    /// Returns the number of events that were not delivered.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.expired.saturating_add(self.rejected).saturating_add(self.too_large)
    }

    /// Returns the same numbers, lowered where they exceed a batch of `events` events.
    pub(crate) fn within(self, events: usize) -> Self {
        let rejected = self.rejected.min(events);
        let expired = self.expired.min(events - rejected);
        let too_large = self.too_large.min(events - rejected - expired);
        Self { expired, rejected, too_large }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_events_are_dropped_than_the_batch_has() {
        let partial = PartialDelivery { expired: 2, rejected: 3, too_large: 4 };
        assert_eq!(partial.within(9), partial);
        assert_eq!(partial.within(100), partial);
        for events in 0..9 {
            assert_eq!(partial.within(events).dropped(), events, "{events}");
        }
        let most = usize::MAX;
        let absurd = PartialDelivery { expired: most, rejected: most, too_large: most };
        assert_eq!(absurd.dropped(), most);
        assert_eq!(absurd.within(7).dropped(), 7);
    }
}
