//! The cost of a capture for an app that hides its telemetry behind a trait of its own.
//!
//! The app hands over a plain struct through a virtual call, and each candidate makes its own
//! event of the same five fields. The compiler sees neither the candidate from the call nor
//! the call from the candidate.

use std::{hint::black_box, thread, time::Duration};

use crate::{event::RoomJoined, measure};

/// An event as the app knows it.
pub(crate) struct AppEvent {
    pub(crate) trigger: &'static str,
    pub(crate) room_type: &'static str,
    pub(crate) members: u32,
    pub(crate) is_dm: bool,
    pub(crate) seconds: f64,
}

impl AppEvent {
    /// Creates event `n`. No two are equal.
    fn new(n: u32) -> Self {
        let RoomJoined { trigger, room_type, members, is_dm, seconds } = RoomJoined::new(n);
        Self { trigger, room_type, members, is_dm, seconds }
    }
}

impl From<&AppEvent> for RoomJoined {
    fn from(event: &AppEvent) -> Self {
        let AppEvent { trigger, room_type, members, is_dm, seconds } = *event;
        Self { trigger, room_type, members, is_dm, seconds }
    }
}

/// The trait of the app.
pub(crate) trait Telemetry {
    fn capture(&self, event: &AppEvent);

    /// Empties what was filled by captures. Not timed.
    fn settle(&self) {}
}

/// Measures calls that are made back to back.
pub(crate) fn back_to_back(rounds: usize, telemetry: Box<dyn Telemetry>) {
    let telemetry = black_box(telemetry);
    let events: Vec<_> = (0..1_000).map(AppEvent::new).collect();
    let capture = |n| telemetry.capture(&events[n as usize % events.len()]);
    measure::back_to_back(rounds, capture, || telemetry.settle());
}

/// Measures occasional calls while all threads sleep.
pub(crate) fn sparse(samples: u32, telemetry: Box<dyn Telemetry>) {
    const PAUSE: Duration = Duration::from_millis(2);

    let telemetry = black_box(telemetry);
    telemetry.capture(&AppEvent::new(0));
    let events: Vec<_> = (0..samples).map(AppEvent::new).collect();
    let capture = |n| telemetry.capture(&events[n as usize]);
    measure::now_and_then(samples, capture, || thread::sleep(PAUSE));
}
