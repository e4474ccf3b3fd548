//! What each key does.

use matrix_analytics::{ClosedReason, GateState, Note, Switch};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{char, key, model};
use crate::{
    model::{Model, Page},
    text::Entry,
    update::{Action, Command, update},
};

/// Returns a model whose devices are in a state.
fn in_state(switch: Switch, note: Option<Note>, gate: GateState) -> Model {
    let mut model = model();
    for device in &mut model.devices {
        (device.switch, device.note, device.gate) = (switch, note, gate);
    }
    model
}

fn on(note: Note) -> Model {
    in_state(Switch::On, Some(note), GateState::Open)
}

#[test]
fn the_switch_opts_out_if_it_is_on_and_in_if_it_is_off() {
    let open = in_state(Switch::On, None, GateState::Open);
    for (mut model, action) in [
        (model(), Action::OptIn),
        (open, Action::OptOut),
        (on(Note::OptingIn), Action::OptOut),
        (on(Note::Settling), Action::OptOut),
    ] {
        assert_eq!(update(&mut model, char(' ')), Some(Command::Act(action)));
    }
}

#[test]
fn a_switch_that_cannot_be_flipped_gives_the_reason() {
    let closed = |reason, switch, note| in_state(switch, note, GateState::Closed(reason));
    for mut model in [
        closed(ClosedReason::DoNotTrack, Switch::Off, Some(Note::DoNotTrack)),
        closed(ClosedReason::DeviceVeto, Switch::Off, Some(Note::DeviceVeto)),
        closed(ClosedReason::SessionEnded, Switch::Hidden, None),
        closed(ClosedReason::Unknown, Switch::Pending, None),
    ] {
        assert_eq!(update(&mut model, char(' ')), None);
        assert!(!model.message.is_empty(), "{model:?}");
    }
}

#[test]
fn the_veto_is_set_or_lifted_except_under_do_not_track() {
    let closed = |reason, note| in_state(Switch::Off, Some(note), GateState::Closed(reason));
    for (mut model, action) in [
        (model(), Some(Action::Veto)),
        (closed(ClosedReason::DeviceVeto, Note::DeviceVeto), Some(Action::LiftVeto)),
        (closed(ClosedReason::DoNotTrack, Note::DoNotTrack), None),
    ] {
        assert_eq!(update(&mut model, char('v')), action.map(Command::Act));
    }
}

#[test]
fn an_opt_in_can_be_renewed_if_the_account_has_lost_it() {
    for (mut model, action) in [
        (on(Note::MissingId), Some(Action::OptIn)),
        (on(Note::DecisionErased), Some(Action::OptIn)),
        (on(Note::Unverified), None),
        (model(), None),
    ] {
        assert_eq!(update(&mut model, char('n')), action.map(Command::Act));
    }
}

#[test]
fn q_and_ctrl_c_quit_even_if_the_terminal_is_too_small_and_no_other_key_acts_there() {
    let mut small = model();
    small.size.height -= 1;
    for mut model in [model(), small.clone()] {
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(update(&mut model, interrupt), Some(Command::Quit));
        assert_eq!(update(&mut model, char('q')), Some(Command::Quit));
    }
    for char in [' ', 'v', 'c', 'h', 'p'].map(char) {
        assert_eq!(update(&mut small, char), None);
    }
    assert_eq!(small.page, Page::Settings);
}

#[test]
fn a_bug_report_is_begun_on_the_settings_and_changed_and_submitted_on_its_own_page() {
    let mut model = model();
    for key in ['s', 'u', '1'] {
        assert_eq!(update(&mut model, char(key)), None);
    }
    assert_eq!(update(&mut model, char('b')), Some(Command::Act(Action::Report)));
    assert_eq!(model.page, Page::Report);
    for (pressed, action) in [
        (char('1'), Action::RemovePart(0)),
        (char('9'), Action::RemovePart(8)),
        (char('u'), Action::IncludeUserId),
        (char('s'), Action::Submit),
        (key(KeyCode::Tab), Action::Report),
    ] {
        assert_eq!(update(&mut model, pressed), Some(Command::Act(action)));
    }
    assert_eq!(update(&mut model, key(KeyCode::Esc)), None);
    assert_eq!(model.page, Page::Settings);
}

#[test]
fn a_key_with_a_modifier_is_not_the_key() {
    for modifier in [KeyModifiers::CONTROL, KeyModifiers::ALT] {
        assert_eq!(update(&mut model(), KeyEvent::new(KeyCode::Char(' '), modifier)), None);
    }
}

#[test]
fn tab_selects_the_other_device() {
    let mut model = model();
    for selected in [1, 0] {
        update(&mut model, key(KeyCode::Tab));
        assert_eq!(model.selected, selected);
    }
}

#[test]
fn a_page_scrolls_from_its_first_line_to_its_last() {
    let mut model = model();
    // 30 lines, of which 18 are on the screen at once.
    model.devices[0].history = vec![Entry::Detail("line".to_owned()); 30];
    update(&mut model, char('h'));
    for (code, scroll) in [
        (KeyCode::Up, 0),
        (KeyCode::Down, 1),
        (KeyCode::PageDown, 12),
        (KeyCode::Down, 12),
        (KeyCode::Up, 11),
        (KeyCode::PageUp, 0),
        (KeyCode::End, 12),
        (KeyCode::Home, 0),
    ] {
        update(&mut model, key(code));
        assert_eq!(model.scroll, scroll, "{code:?}");
    }
    update(&mut model, key(KeyCode::Esc));
    assert_eq!(model.page, Page::Settings);
}
