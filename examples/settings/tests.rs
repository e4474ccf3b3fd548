//! Tests of the page, with a terminal in memory.

mod keys;
mod sizes;
mod snapshot;
mod story;

use matrix_analytics::{ClosedReason, ConsentState, GateState, Switch};
use matrix_analytics_examples::wait_for;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use self::snapshot::{check, text};
use crate::{
    app::App,
    embedded::{Embedded, USER},
    model::{Counters, DeviceModel, Model, SMALLEST},
    update::Command,
};

fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

fn char(char: char) -> KeyEvent {
    key(KeyCode::Char(char))
}

/// Returns a device that was not yet asked.
fn device(name: &'static str) -> DeviceModel {
    DeviceModel {
        name,
        switch: Switch::Off,
        note: None,
        gate: GateState::Closed(ClosedReason::Undecided),
        has_id: false,
        counters: Some(Counters::default()),
        history: Vec::new(),
        disclosure: Vec::new(),
        preview: Vec::new(),
    }
}

fn model() -> Model {
    Model::new(USER.to_owned(), vec![device("Phone"), device("Laptop")])
}

/// The page on the embedded servers, in a terminal of the smallest size.
struct Stage {
    app: App,
    terminal: Terminal<TestBackend>,
}

impl Stage {
    async fn start(embedded: &Embedded) -> Self {
        let (devices, logs) = (embedded.devices().await.unwrap(), embedded.logs.clone());
        let server = embedded.rageshake().unwrap();
        let app = App::new(USER.to_owned(), devices, logs, Some(server));
        let backend = TestBackend::new(SMALLEST.width, SMALLEST.height);
        Self { app, terminal: Terminal::new(backend).unwrap() }
    }

    /// Waits until both devices are in a state.
    async fn reach(&self, what: &str, wanted: impl Fn(ConsentState) -> bool) {
        for device in &self.app.devices {
            wait_for(&device.analytics, what, &wanted).await.unwrap();
        }
    }

    async fn reach_gate(&self, gate: GateState) {
        self.reach(&format!("{gate:?}"), |state| state.gate == gate && state.note().is_none())
            .await;
    }

    /// Presses a key on the current screen, and waits for the action that it begins.
    async fn press(&mut self, key: KeyEvent) -> Option<Command> {
        self.app.draw(&mut self.terminal).unwrap();
        let command = self.app.press(key);
        self.app.finish_actions().await;
        command
    }

    /// Compares the screen with the stored one.
    fn check(&mut self, name: &str) {
        self.app.draw(&mut self.terminal).unwrap();
        check(name, &text(self.terminal.backend().buffer()));
    }
}
