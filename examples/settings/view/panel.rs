//! The settings of one device.

use matrix_analytics::{Note, Switch};
use matrix_analytics_examples::{describe_gate, describe_note};
use ratatui::{
    Frame,
    layout::Rect,
    style::{Style, Stylize as _},
    text::Line,
    widgets::{Block, BorderType, Padding},
};

use super::wrap::wrap;
use crate::model::DeviceModel;

/// The rows that the note and the state can take, so that nothing below them moves.
const NOTE_ROWS: usize = 3;
const STATE_ROWS: usize = 3;

pub(super) fn draw(device: &DeviceModel, is_selected: bool, frame: &mut Frame<'_>, area: Rect) {
    let (mark, border) =
        if is_selected { ("> ", BorderType::Double) } else { ("", BorderType::Plain) };
    let block = Block::bordered()
        .border_type(border)
        .title(format!(" {mark}{} ", device.name))
        .title_style(Style::new().bold())
        .padding(Padding::horizontal(1));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    for (line, row) in lines(device, inner.width.into()).into_iter().zip(inner.rows()) {
        frame.render_widget(line, row);
    }
}

fn lines(device: &DeviceModel, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![ends("Share usage data", switch(device.switch), width).bold()];
    let note = device.note.map_or("", describe_note);
    lines.extend(padded(wrap(note, width), NOTE_ROWS));
    lines.push(Line::default());
    let veto = match device.note {
        Some(Note::DoNotTrack) => "off: DO_NOT_TRACK",
        Some(Note::DeviceVeto) => "vetoed",
        _ => "allowed",
    };
    lines.push(ends("On this device", veto, width));
    lines.push(ends("Analytics ID", if device.has_id { "in use" } else { "not in use" }, width));
    lines.push(Line::default());
    lines.push(Line::from("Events").bold());
    lines.extend(padded(wrap(describe_gate(device.gate), width), STATE_ROWS));
    let Some(counters) = &device.counters else {
        lines.push(Line::from("No recipient: see --events."));
        return lines;
    };
    for (name, number) in [
        ("captured", counters.captured),
        ("waiting", counters.waiting),
        ("delivered", counters.delivered),
        ("dropped", counters.dropped),
    ] {
        lines.push(ends(name, &number.to_string(), width));
    }
    lines.extend(wrap(&counters.reasons, width).into_iter().map(Line::from));
    lines
}

fn switch(switch: Switch) -> &'static str {
    match switch {
        Switch::On => "[x] on",
        Switch::Off => "[ ] off",
        Switch::Hidden => "not available",
        _ => "[.] wait",
    }
}

/// Returns a line with one text at each end.
fn ends(left: &str, right: &str, width: usize) -> Line<'static> {
    let width = width.saturating_sub(left.len());
    Line::from(format!("{left}{right:>width$}"))
}

fn padded(lines: Vec<String>, rows: usize) -> impl Iterator<Item = Line<'static>> {
    let lines = lines.into_iter().map(Line::from);
    lines.chain(std::iter::repeat(Line::default())).take(rows)
}
