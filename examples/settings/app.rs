//! The loop that connects the keys, the devices and the screen.

use std::time::Duration;

use futures_util::{StreamExt as _, future::join_all, stream, stream::BoxStream};
use matrix_analytics::{Rageshake, RecentLogs};
use ratatui::{Terminal, backend::Backend, crossterm::event::KeyEvent};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    device::{Device, act},
    input::Input,
    model::Model,
    report::{self, Draft},
    update::{Action, Command, update},
    view::view,
};

/// How often the counters are read, which have no stream.
const TICK: Duration = Duration::from_millis(250);

/// The longest wait at the end for actions in progress.
const LAST_ACTIONS: Duration = Duration::from_secs(2);

/// The page, and the devices that it shows.
pub(crate) struct App {
    pub(crate) devices: Vec<Device>,
    pub(crate) model: Model,
    /// The actions in progress, which return their results.
    actions: JoinSet<Done>,
    logs: RecentLogs,
    /// The server for bug reports.
    server: Option<Rageshake>,
    draft: Option<Draft>,
    changes: stream::SelectAll<BoxStream<'static, ()>>,
}

/// The result of an action.
enum Done {
    Message(String),
    /// The report was changed, and read again.
    Draft(Draft),
}

impl App {
    pub(crate) fn new(
        user: String,
        devices: Vec<Device>,
        logs: RecentLogs,
        server: Option<Rageshake>,
    ) -> Self {
        let changes = devices.iter().map(|device| device.changes().boxed());
        Self {
            model: Model::new(user, devices.iter().map(Device::model).collect()),
            actions: JoinSet::new(),
            logs,
            server,
            draft: None,
            changes: stream::select_all(changes),
            devices,
        }
    }

    /// Runs until the user quits, or the terminal or the keys are gone.
    pub(crate) async fn run<B: Backend>(
        &mut self,
        terminal: &mut Terminal<B>,
        inputs: &mut UnboundedReceiver<Input>,
    ) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A closed terminal cannot be drawn on.
        while self.draw(terminal).is_ok() {
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(Input::Key(key)) => {
                        if self.press(key) == Some(Command::Quit) {
                            return;
                        }
                    }
                    Some(Input::Resized) => {}
                    Some(Input::Ended) | None => return,
                },
                Some(result) = self.actions.join_next() => self.report(result),
                Some(()) = self.changes.next() => {}
                _ = tick.tick() => {}
            }
        }
    }

    /// Draws the current state.
    pub(crate) fn draw<B: Backend>(&mut self, terminal: &mut Terminal<B>) -> Result<(), B::Error> {
        for (device, shown) in self.devices.iter().zip(&mut self.model.devices) {
            let preview = std::mem::take(&mut shown.preview);
            *shown = device.model();
            shown.preview = preview;
        }
        terminal.draw(|frame| {
            self.model.size = frame.area().as_size();
            view(&self.model, frame);
        })?;
        Ok(())
    }

    /// Applies a key to what was drawn last, which is what the user has seen, and begins the
    /// action that it asks for.
    pub(crate) fn press(&mut self, key: KeyEvent) -> Option<Command> {
        let command = update(&mut self.model, key);
        if let Some(Command::Act(action)) = command {
            self.begin(action);
        }
        command
    }

    fn begin(&mut self, action: Action) {
        let selected = self.model.selected;
        let (Some(device), Some(shown)) =
            (self.devices.get(selected), self.model.devices.get_mut(selected))
        else {
            return;
        };
        if action == Action::Preview {
            shown.preview = device.preview();
            return;
        }
        let report = match (action, self.draft.take()) {
            (Action::Report, _) => report::new(&device.analytics, &self.logs),
            (Action::RemovePart(number), Some(draft)) => draft.without(number),
            (Action::IncludeUserId, Some(draft)) => draft.with_user_id(&self.model.user),
            (Action::Submit, draft) => {
                self.draft = draft;
                return self.submit();
            }
            (_, draft) => {
                self.draft = draft;
                self.model.message = "...".to_owned();
                let (name, action) = (device.name, act(device.analytics.clone(), action));
                self.actions.spawn(async move {
                    let result = action.await;
                    Done::Message(format!("{name}: {result}"))
                });
                return;
            }
        };
        self.model.report.clear();
        self.actions.spawn(async move { Done::Draft(Draft::of(report).await) });
    }

    /// Submits the report, which the user has seen.
    fn submit(&mut self) {
        let (Some(draft), Some(server)) = (&self.draft, &self.server) else {
            self.model.message = "There is no server for bug reports.".to_owned();
            return;
        };
        self.model.message = "...".to_owned();
        let submission = report::submit(draft.report().clone(), server.clone());
        self.actions.spawn(async move { Done::Message(submission.await) });
    }

    /// Waits until all actions have returned.
    pub(crate) async fn finish_actions(&mut self) {
        while let Some(result) = self.actions.join_next().await {
            self.report(result);
        }
    }

    fn report(&mut self, result: Result<Done, tokio::task::JoinError>) {
        match result {
            Ok(Done::Message(message)) => self.model.message = message,
            Ok(Done::Draft(draft)) => {
                self.model.report = draft.entries();
                self.draft = Some(draft);
            }
            Err(error) => self.model.message = format!("Failed: {error}"),
        }
    }

    /// Ends the sessions of the devices, and returns what the user has to know.
    pub(crate) async fn end(mut self) -> Vec<String> {
        // An opt-out takes effect even if the user quits at once.
        let _ = timeout(LAST_ACTIONS, self.finish_actions()).await;
        self.actions.shutdown().await;
        join_all(self.devices.into_iter().map(Device::end)).await
    }
}
