//! Draws a model.

pub(crate) mod page;
mod panel;
mod wrap;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Margin, Rect},
    style::Stylize as _,
    text::Line,
};

use self::wrap::wrap;
use crate::model::{Model, Page, SMALLEST};

/// The rows above and below the body of a page.
const FRAME_ROWS: u16 = 5;

/// Draws `model`.
pub(crate) fn view(model: &Model, frame: &mut Frame<'_>) {
    let area = frame.area();
    if model.is_too_small() {
        return explain_size(frame);
    }
    let rows = [1, area.height - FRAME_ROWS, 2, 2].map(Constraint::Length);
    let [title, body, message, keys] = Layout::vertical(rows).areas(area);
    frame.render_widget(Line::from(page_title(model)).bold(), title);
    if model.page == Page::Settings {
        let columns = Layout::horizontal(model.devices.iter().map(|_| Constraint::Fill(1)));
        for (number, column) in columns.split(body).iter().enumerate() {
            if let Some(device) = model.devices.get(number) {
                panel::draw(device, number == model.selected, frame, *column);
            }
        }
    } else {
        page::draw(model, frame, body);
    }
    let message = message.inner(Margin::new(1, 0));
    draw_lines(wrap(&model.message, message.width.into()), frame, message);
    draw_lines(keys_of(model), frame, keys);
}

fn page_title(model: &Model) -> String {
    let title = format!(" Analytics of {}", model.user);
    let (device, page) = match (model.page, model.device()) {
        (Page::Settings, _) | (_, None) => return title,
        (Page::History, Some(device)) => (device, "sent events"),
        (Page::Disclosure, Some(device)) => (device, "what is stored and sent"),
        (Page::Preview, Some(device)) => (device, "what the next event would contain"),
        (Page::Report, Some(device)) => (device, "report a problem"),
    };
    format!("{title}: {page} ({})", device.name)
}

/// Returns the keys that have an effect now.
fn keys_of(model: &Model) -> Vec<String> {
    let other = if model.devices.len() > 1 { "  Tab other device" } else { "" };
    if model.page == Page::Report {
        return vec![
            " 1-9 remove a part  u include my user ID  s submit".to_owned(),
            format!(" Up Down scroll{other}  Esc back  q quit"),
        ];
    }
    if model.page != Page::Settings {
        return vec![format!(" Up Down PgUp PgDn Home End scroll{other}  Esc back  q quit")];
    }
    let device = model.device();
    let renew = if device.is_some_and(|device| device.is_renewable()) { "  n renew" } else { "" };
    let veto = if device.is_some_and(|device| device.is_vetoed()) { "lift veto" } else { "veto" };
    vec![
        format!(" Space switch  v {veto}  c capture  f send now  r ask the homeserver{renew}"),
        format!(" h sent events  d disclosure  p preview  b bug report{other}  q quit"),
    ]
}

fn draw_lines(lines: Vec<String>, frame: &mut Frame<'_>, area: Rect) {
    for (line, row) in lines.into_iter().zip(area.rows()) {
        frame.render_widget(Line::from(line), row);
    }
}

fn explain_size(frame: &mut Frame<'_>) {
    let area = frame.area();
    let text = format!(
        "This terminal has {} columns and {} rows. Enlarge it to at least {} and {}, or press q.",
        area.width, area.height, SMALLEST.width, SMALLEST.height
    );
    draw_lines(wrap(&text, area.width.into()), frame, area);
}
