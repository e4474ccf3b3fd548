//! A page of text that scrolls.

use ratatui::{
    Frame,
    layout::{Rect, Size},
    style::Stylize as _,
    text::Line,
};

use super::{FRAME_ROWS, wrap::wrap};
use crate::{model::Model, text::Entry};

/// Returns the number of lines of a page that are on the screen at once. The first row of the
/// body stays empty.
pub(crate) fn height(size: Size) -> usize {
    usize::from(size.height.saturating_sub(FRAME_ROWS + 1))
}

/// Returns the lines of the page, wrapped.
pub(crate) fn lines(model: &Model) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for entry in model.entries() {
        let (indent, text) = match entry {
            Entry::Heading(text) => {
                if !lines.is_empty() {
                    lines.push(Line::default());
                }
                (1, text)
            }
            Entry::Item(text) => (3, text),
            Entry::Detail(text) => (5, text),
        };
        // One column on the right stays empty.
        let width = usize::from(model.size.width).saturating_sub(indent + 1);
        for line in wrap(text, width) {
            let line = Line::from(format!("{:indent$}{line}", ""));
            lines.push(if matches!(entry, Entry::Detail(_)) { line } else { line.bold() });
        }
    }
    lines
}

pub(super) fn draw(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let lines = lines(model);
    // The page may have become shorter since the last key.
    let scroll = model.scroll.min(lines.len().saturating_sub(height(model.size)));
    for (line, row) in lines.into_iter().skip(scroll).zip(area.rows().skip(1)) {
        frame.render_widget(line, row);
    }
}
