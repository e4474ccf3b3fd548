//! What each key does.

use matrix_analytics::{Note, Switch};
use matrix_analytics_examples::describe_note;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::{
    model::{DeviceModel, Model, Page},
    view::page,
};

/// What the program has to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Carry out an action on the selected device.
    Act(Action),
    /// End the program.
    Quit,
}

/// An action on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    OptIn,
    OptOut,
    Veto,
    LiftVeto,
    Capture,
    Flush,
    Recheck,
    Preview,
    /// Begin a bug report.
    Report,
    /// Remove the part of this number from the report, counted from 0.
    RemovePart(usize),
    IncludeUserId,
    Submit,
}

/// Applies a key to `model`, and returns what is left to do.
pub(crate) fn update(model: &mut Model, key: KeyEvent) -> Option<Command> {
    let is_interrupt =
        key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    if is_interrupt || key.code == KeyCode::Char('q') {
        return Some(Command::Quit);
    }
    // The user cannot see the effect of any other key.
    if model.is_too_small() || !(key.modifiers - KeyModifiers::SHIFT).is_empty() {
        return None;
    }
    if matches!(key.code, KeyCode::Tab | KeyCode::BackTab) {
        model.selected = (model.selected + 1) % model.devices.len().max(1);
        open(model, model.page);
        // A preview and a report are made for one device.
        return match model.page {
            Page::Preview => Some(Command::Act(Action::Preview)),
            Page::Report => Some(Command::Act(Action::Report)),
            _ => None,
        };
    }
    let action = match model.page {
        Page::Settings => on_settings(model, key.code),
        Page::Report => on_report(key.code),
        _ => None,
    };
    if action.is_none() && model.page != Page::Settings {
        scroll(model, key.code);
    }
    action.map(Command::Act)
}

fn on_settings(model: &mut Model, key: KeyCode) -> Option<Action> {
    let device = model.device()?;
    match key {
        KeyCode::Char(' ') => match flip(device) {
            Ok(action) => return Some(action),
            Err(reason) => reason.clone_into(&mut model.message),
        },
        KeyCode::Char('v') if device.note == Some(Note::DoNotTrack) => {
            describe_note(Note::DoNotTrack).clone_into(&mut model.message);
        }
        KeyCode::Char('v') if device.is_vetoed() => return Some(Action::LiftVeto),
        KeyCode::Char('v') => return Some(Action::Veto),
        KeyCode::Char('n') if device.is_renewable() => return Some(Action::OptIn),
        KeyCode::Char('c') => return Some(Action::Capture),
        KeyCode::Char('f') => return Some(Action::Flush),
        KeyCode::Char('r') => return Some(Action::Recheck),
        KeyCode::Char('h') => open(model, Page::History),
        KeyCode::Char('d') => open(model, Page::Disclosure),
        KeyCode::Char('p') => {
            open(model, Page::Preview);
            return Some(Action::Preview);
        }
        KeyCode::Char('b') => {
            open(model, Page::Report);
            return Some(Action::Report);
        }
        _ => {}
    }
    None
}

fn on_report(key: KeyCode) -> Option<Action> {
    match key {
        KeyCode::Char(digit @ '1'..='9') => Some(Action::RemovePart(digit as usize - '1' as usize)),
        KeyCode::Char('u') => Some(Action::IncludeUserId),
        KeyCode::Char('s') => Some(Action::Submit),
        _ => None,
    }
}

/// Returns what flipping the switch does, or the reason why it cannot be flipped.
fn flip(device: &DeviceModel) -> Result<Action, &'static str> {
    match (device.switch, device.note) {
        (Switch::On, _) => Ok(Action::OptOut),
        (Switch::Off, Some(Note::DoNotTrack)) => Err(describe_note(Note::DoNotTrack)),
        (Switch::Off, Some(Note::DeviceVeto)) => Err("Lift the veto of this device first."),
        (Switch::Off, _) => Ok(Action::OptIn),
        (Switch::Hidden, _) => Err("This account has no switch."),
        _ => Err("The homeserver has not said yet what the account holds."),
    }
}

fn open(model: &mut Model, page: Page) {
    model.page = page;
    model.scroll = 0;
    model.message.clear();
}

fn scroll(model: &mut Model, key: KeyCode) {
    let screen = page::height(model.size);
    let last = page::lines(model).len().saturating_sub(screen);
    model.scroll = match key {
        KeyCode::Esc => return open(model, Page::Settings),
        KeyCode::Up => model.scroll.min(last).saturating_sub(1),
        KeyCode::Down => model.scroll + 1,
        KeyCode::PageUp => model.scroll.min(last).saturating_sub(screen),
        KeyCode::PageDown | KeyCode::Char(' ') => model.scroll + screen,
        KeyCode::Home => 0,
        KeyCode::End => last,
        _ => model.scroll,
    }
    .min(last);
}
