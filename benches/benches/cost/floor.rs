//! The minimum cost of a capture.

use std::{
    hint::black_box,
    io::Write as _,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::{
    Settings,
    boxed::{self, AppEvent, Telemetry},
    event::{NAME, RoomJoined},
    measure,
};

/// A relaxed load.
pub(crate) fn denied(settings: &Settings) {
    let open = AtomicBool::new(black_box(false));
    let capture = |n| {
        if open.load(Relaxed) {
            black_box(n);
        }
    };
    measure::back_to_back(settings.rounds, capture, || {});
}

/// A buffer behind a lock to which each event is appended as JSON, without time, unique
/// ID or limit.
#[derive(Default)]
struct Text(Mutex<Vec<u8>>);

impl Text {
    fn capture(&self, n: u32) {
        self.append(&RoomJoined::new(n));
    }

    fn append(&self, event: &RoomJoined) {
        let mut text = self.0.lock().expect("no panic");
        write!(text, r#"{{"event":"{NAME}","properties":"#).expect("memory");
        serde_json::to_writer(&mut *text, event).expect("JSON");
        text.extend_from_slice(b"}\n");
    }

    fn clear(&self) {
        self.0.lock().expect("no panic").clear();
    }
}

pub(crate) fn typed(settings: &Settings) {
    let text = Text::default();
    measure::back_to_back(settings.rounds, |n| text.capture(n), || text.clear());
}

pub(crate) fn two_threads(settings: &Settings) {
    let text = Text::default();
    measure::two_threads(settings.rounds, |n| text.capture(n), || text.clear());
}

pub(crate) fn sparse(settings: &Settings, pause: fn()) {
    let text = Text::default();
    measure::now_and_then(settings.samples, |n| text.capture(n), pause);
}

/// A relaxed load behind a virtual call.
struct Switch(AtomicBool);

impl Telemetry for Switch {
    fn capture(&self, event: &AppEvent) {
        if self.0.load(Relaxed) {
            black_box(event.members);
        }
    }
}

impl Telemetry for Text {
    fn capture(&self, event: &AppEvent) {
        self.append(&RoomJoined::from(event));
    }

    fn settle(&self) {
        self.clear();
    }
}

pub(crate) fn boxed_denied(settings: &Settings) {
    boxed::back_to_back(settings.rounds, Box::new(Switch(AtomicBool::new(false))));
}

pub(crate) fn boxed_typed(settings: &Settings) {
    boxed::back_to_back(settings.rounds, Box::new(Text::default()));
}

pub(crate) fn boxed_sparse(settings: &Settings) {
    boxed::sparse(settings.samples, Box::new(Text::default()));
}
