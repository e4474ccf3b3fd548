//! The scenarios, and the result of each with each kind of sync and homeserver.

use std::{fmt::Write as _, pin::Pin, sync::Arc, time::Duration};

use crate::{
    device::{Device, Install},
    homeserver::{Homeserver, Msc3391},
    syncing::SyncKind,
    user::User,
    waiting::Result,
};

/// The setting of one run of a scenario.
#[derive(Clone)]
pub(crate) struct Cell {
    pub(crate) homeserver: Arc<Homeserver>,
    pub(crate) kind: SyncKind,
    /// A user name that no other cell uses.
    pub(crate) user_name: String,
}

impl Cell {
    pub(crate) async fn user(&self) -> Result<User> {
        self.homeserver.register(&self.user_name).await
    }

    pub(crate) fn install(&self) -> Install {
        Install::new(&self.homeserver.url, self.kind)
    }

    /// Starts the app on a new device of `user`.
    pub(crate) async fn device(&self, user: &User) -> Result<Device> {
        self.device_of(self.install(), user).await
    }

    pub(crate) async fn device_of(&self, install: Install, user: &User) -> Result<Device> {
        let client = install.log_in(user, self.homeserver.password()).await?;
        Device::start(install, client).await
    }
}

/// The outcome of a scenario that did not fail.
pub(crate) enum Outcome {
    Works,
    /// It works, with this measurement.
    Measured(String),
    /// Synapse or the SDK cannot do it, for this reason.
    NotPossible(&'static str),
}

pub(crate) type Run = Pin<Box<dyn Future<Output = Result<Outcome>>>>;

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: fn(Cell) -> Run,
    /// It disturbs other scenarios at the same homeserver.
    pub(crate) is_alone: bool,
}

/// The result of one run of a scenario.
pub(crate) struct Entry {
    pub(crate) scenario: &'static str,
    pub(crate) kind: SyncKind,
    pub(crate) msc3391: Msc3391,
    pub(crate) result: Result<Outcome>,
    pub(crate) took: Duration,
}

/// Renders the table as Markdown, followed by measurements and failures.
pub(crate) fn render(scenarios: &[Scenario], entries: &[Entry]) -> String {
    let columns: Vec<_> = [Msc3391::Off, Msc3391::On]
        .into_iter()
        .flat_map(|msc3391| SyncKind::ALL.map(|kind| (msc3391, kind)))
        .collect();
    let mut table = "| scenario |".to_owned();
    for (msc3391, kind) in &columns {
        let _ = write!(table, " {}, MSC3391 {} |", kind.name(), msc3391.name());
    }
    let _ = write!(table, "\n|---|{}", "---|".repeat(columns.len()));
    let mut below = String::new();
    for scenario in scenarios {
        let _ = write!(table, "\n| {} |", scenario.name);
        for (msc3391, kind) in &columns {
            let entry = entries.iter().find(|entry| {
                entry.scenario == scenario.name && entry.kind == *kind && entry.msc3391 == *msc3391
            });
            let Some(entry) = entry else {
                table.push_str(" – |");
                continue;
            };
            let seconds = entry.took.as_secs_f64();
            let (shown, note) = match &entry.result {
                Ok(Outcome::Works) => (format!("{seconds:.1} s"), None),
                Ok(Outcome::Measured(what)) => (format!("{seconds:.1} s"), Some(what.clone())),
                Ok(Outcome::NotPossible(why)) => ("n/a".to_owned(), Some((*why).to_owned())),
                Err(error) => ("**FAILED**".to_owned(), Some(error.to_string())),
            };
            let _ = write!(table, " {shown} |");
            if let Some(note) = note {
                let (kind, msc3391) = (kind.name(), msc3391.name());
                let _ = write!(below, "\n- {}; {kind}, MSC3391 {msc3391}: {note}", scenario.name);
            }
        }
    }
    format!("{table}\n{below}\n")
}
