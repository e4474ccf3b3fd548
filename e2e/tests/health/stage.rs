//! The setting of one run of a scenario.

use std::sync::Arc;

use super::personal::Personal;
use crate::{homeserver::Homeserver, syncing::SyncKind, user::User, waiting::Result};

pub(crate) struct Stage {
    pub(crate) homeserver: Arc<Homeserver>,
    /// How the client under test syncs.
    pub(crate) kind: SyncKind,
    pub(crate) personal: Personal,
    number: usize,
}

impl Stage {
    pub(crate) fn new(homeserver: Arc<Homeserver>, kind: SyncKind, number: usize) -> Self {
        Self { homeserver, kind, personal: Personal::default(), number }
    }

    /// Registers a user whose name no other scenario has.
    pub(crate) async fn register(&self, name: &str) -> Result<User> {
        let name = format!("{name}{}-{}", self.number, self.kind as usize);
        let user = self.homeserver.register(&name).await?;
        for identifier in [&user.id, &user.name, &user.device, &user.token] {
            self.personal.add(identifier);
        }
        Ok(user)
    }
}
