//! What is drawn at each size.

use matrix_analytics::{ClosedReason, GateState, HoldReason, Note};
use matrix_analytics_examples::{describe_gate, describe_note};
use ratatui::{Terminal, backend::TestBackend};

use super::{
    model,
    snapshot::{check, text},
};
use crate::{
    model::{Model, Page},
    text::Entry,
    view::view,
};

fn drawn(mut model: Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    model.size = terminal.size().unwrap();
    terminal.draw(|frame| view(&model, frame)).unwrap();
    text(terminal.backend().buffer())
}

#[test]
fn a_terminal_that_is_too_small_shows_how_large_it_has_to_be() {
    check("small-79x24", &drawn(model(), 79, 24));
    check("small-30x6", &drawn(model(), 30, 6));
}

#[test]
fn every_page_can_be_drawn_at_every_size() {
    for page in [Page::Settings, Page::History, Page::Disclosure, Page::Preview, Page::Report] {
        for (width, height) in [(1, 1), (80, 1), (1, 24), (80, 24), (81, 25), (200, 60)] {
            let mut model = model();
            model.page = page;
            model.devices[0].history = vec![Entry::Detail("a long line ".repeat(30)); 30];
            drawn(model, width, height);
        }
    }
}

#[test]
fn one_device_has_the_whole_width() {
    let mut model = model();
    model.devices.truncate(1);
    model.devices[0].counters = None;
    check("one-device", &drawn(model, 80, 24));
}

#[test]
fn every_note_and_every_state_fits_in_its_rows() {
    let notes = [
        Note::DoNotTrack,
        Note::DeviceVeto,
        Note::OptingIn,
        Note::Settling,
        Note::DecisionErased,
        Note::MissingId,
        Note::Unverified,
        Note::SoftLogout,
        Note::RemovalPending,
    ];
    let holding = [
        HoldReason::Rechecking,
        HoldReason::MissingId,
        HoldReason::OptingIn,
        HoldReason::Settling,
        HoldReason::SoftLogout,
        HoldReason::Unverified,
    ];
    let closed = [ClosedReason::Unavailable, ClosedReason::DecisionErased, ClosedReason::Unknown];
    let gates = holding.map(GateState::Holding).into_iter().chain(closed.map(GateState::Closed));
    let gates: Vec<_> = gates.collect();
    for (number, note) in notes.into_iter().enumerate() {
        let mut model = model();
        model.devices[0].note = Some(note);
        model.devices[0].gate = gates[number];
        let screen = drawn(model, 80, 24);
        let left =
            screen.lines().skip(2).take(17).map(|line| {
                line.chars().skip(2).take(36).collect::<String>().trim_end().to_owned()
            });
        let left = left.collect::<Vec<_>>().join(" ");
        for expected in [describe_note(note), describe_gate(gates[number])] {
            assert!(left.contains(expected), "{expected}:\n{screen}");
        }
        assert!(left.contains("dropped"), "{screen}");
    }
}
