//! The event that all cases capture: two strings, an integer, a boolean and a float.

use serde::Serialize;

pub(crate) const NAME: &str = "RoomJoined";

#[derive(Serialize)]
pub(crate) struct RoomJoined {
    pub(crate) trigger: &'static str,
    pub(crate) room_type: &'static str,
    pub(crate) members: u32,
    pub(crate) is_dm: bool,
    pub(crate) seconds: f64,
}

impl matrix_analytics::AnalyticsEvent for RoomJoined {
    const NAME: &'static str = NAME;
}

impl RoomJoined {
    /// Creates event `n`. No two are equal.
    pub(crate) fn new(n: u32) -> Self {
        Self {
            trigger: if n.is_multiple_of(3) { "Invite" } else { "RoomDirectory" },
            room_type: "community",
            members: n,
            is_dm: n.is_multiple_of(2),
            seconds: f64::from(n) / 1000.0,
        }
    }
}
