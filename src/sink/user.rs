//! Passes user properties from the app to the lanes and into the file.

use super::Sink;
use crate::{
    event::{InvalidEvent, UserProperties, UserUpdate},
    locks::{MutexGuard, PoisonError},
};

/// The user properties that were not passed to the lanes yet.
#[derive(Debug, Default)]
pub(super) struct UserUpdates {
    /// Set by the app since events last left the intake.
    update: UserUpdate,
    /// Set by the builder: passed once in each epoch.
    configured: UserProperties,
    /// The epoch in which the configured properties were last passed.
    configured_in: Option<u64>,
}

impl UserUpdates {
    pub(super) fn configured(user: UserProperties) -> Self {
        Self { configured: user, ..Self::default() }
    }

    /// Forgets the properties that were set at run time.
    pub(super) fn wipe(&mut self) {
        self.update = UserUpdate::default();
    }

    /// Returns whether there are properties to pass in `epoch`, which is `None` while the gate
    /// is closed.
    fn is_due(&self, epoch: Option<u64>) -> bool {
        let is_configured = !self.configured.is_empty();
        !self.update.user.is_empty()
            || (is_configured && epoch.is_some() && epoch != self.configured_in)
    }

    /// Takes the properties to pass in `epoch`, the oldest first.
    fn take(&mut self, epoch: Option<u64>) -> Vec<UserUpdate> {
        let mut updates = Vec::new();
        if let Some(epoch) = epoch.filter(|epoch| self.configured_in != Some(*epoch)) {
            self.configured_in = Some(epoch);
            updates.push(UserUpdate { user: self.configured.clone(), epoch });
        }
        updates.push(std::mem::take(&mut self.update));
        updates.retain(|update| !update.user.is_empty());
        updates
    }
}

impl Sink {
    /// Sets user properties, which are kept until each backend has accepted them.
    pub(crate) fn set_user_properties(&self, newer: &UserProperties) -> Result<(), InvalidEvent> {
        newer.check()?;
        let Some(epoch) = self.gate.capture_epoch() else {
            return Ok(());
        };
        let newer = &self.guard.without_refused_user(newer.clone());
        let mut updates = self.user();
        // A wipe may have happened before the lock was taken. Properties that were set
        // before the wipe must not be sent in the next epoch.
        if self.gate.capture_epoch() != Some(epoch) {
            return Ok(());
        }
        let update = &mut updates.update;
        let mut user =
            if update.epoch == epoch { update.user.clone() } else { UserProperties::default() };
        user.add(newer);
        user.check()?;
        *update = UserUpdate { user, epoch };
        Ok(())
    }

    pub(super) fn user(&self) -> MutexGuard<'_, UserUpdates> {
        self.user.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_user_updates(&self) -> bool {
        self.user().is_due(self.gate.capture_epoch())
    }

    /// Passes the configured properties to the lanes if events were restored, because these
    /// leave without passing the intake.
    pub(super) fn pass_user_updates_before_restored_events(&self) {
        if self.lanes.iter().any(|lane| lane.lock().restored > 0) {
            self.guard.refresh();
            self.pass_user_updates();
        }
    }

    /// Passes the user properties that are new to the lanes through the guard.
    pub(super) fn pass_user_updates(&self) {
        let updates = self.user().take(self.gate.capture_epoch());
        for update in updates {
            let user = self.guard.user("user properties", update.user);
            let update = UserUpdate { user, ..update };
            if update.user.is_empty() {
                continue;
            }
            for lane in self.lanes.iter().filter(|lane| lane.takes_user_properties()) {
                let mut state = lane.lock();
                // Checked under the lock. A wipe advances the epoch before it takes this lock.
                if update.epoch == self.gate.epoch() {
                    state.user.add(&update);
                }
            }
        }
    }

    /// Writes the user properties that wait in each lane to the file, if there is one.
    pub(super) fn keep_user(&self) {
        if let Some(journal) = &self.journal {
            for (number, lane) in self.lanes.iter().enumerate() {
                lane.keep_user(number, journal);
            }
        }
    }
}
