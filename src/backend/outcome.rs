//! The answer of a service for one event of a batch.

/// The outcome of one event, for services that answer for each event of a batch; see
/// [`DeliveryError::PerEvent`](crate::DeliveryError::PerEvent).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventOutcome {
    /// The service has the event.
    Delivered,
    /// The event is too old for the service. It is counted as
    /// [`Expired`](crate::DropReason::Expired).
    Expired,
    /// The service takes no more such events, because a quota is used up. The event is counted
    /// as [`OverQuota`](crate::DropReason::OverQuota).
    OverQuota,
    /// The service refuses the event. It is counted as
    /// [`Rejected`](crate::DropReason::Rejected).
    Rejected,
    /// The service does not have the event and will take it later, or did not say. The event is
    /// sent again after a wait, with the same unique ID.
    SendAgain,
    /// The event is larger than the service accepts. It is counted as
    /// [`TooLarge`](crate::DropReason::TooLarge).
    TooLarge,
    /// The service has the event, but ignored the user properties that it carried. These ride
    /// on a later event.
    WithoutUserProperties,
}

impl EventOutcome {
    /// Returns the outcome of the event at `place`. An event without one is sent again, because
    /// nothing shows that the service has it.
    pub(crate) fn at(outcomes: &[Self], place: usize) -> Self {
        outcomes.get(place).copied().unwrap_or(Self::SendAgain)
    }

    /// Returns whether the service has the event.
    pub(crate) fn is_delivered(self) -> bool {
        matches!(self, Self::Delivered | Self::WithoutUserProperties)
    }
}
