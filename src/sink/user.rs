//! Passes user properties from the app to the lanes and into the file.

use super::Sink;
use crate::{
    event::{InvalidEvent, Said, UserProperties},
    locks::{MutexGuard, PoisonError},
};

/// The user properties that the lanes have not been told of.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Set by the app since events last left the intake.
    said: Said,
    /// Set by the builder: told once in each epoch.
    configured: UserProperties,
    /// The epoch in which the lanes were last told of the configured properties.
    configured_in: Option<u64>,
}

impl News {
    pub(super) fn configured(user: UserProperties) -> Self {
        Self { configured: user, ..Self::default() }
    }

    /// Forgets what the app said at run time.
    pub(super) fn wipe(&mut self) {
        self.said = Said::default();
    }

    /// Returns whether there is something to tell in `epoch`, or in none while the gate is
    /// closed.
    fn is_due(&self, epoch: Option<u64>) -> bool {
        let is_configured = !self.configured.is_empty();
        !self.said.user.is_empty()
            || (is_configured && epoch.is_some() && epoch != self.configured_in)
    }

    /// Takes what there is to tell in `epoch`, the oldest first.
    fn take(&mut self, epoch: Option<u64>) -> Vec<Said> {
        let mut news = Vec::new();
        if let Some(epoch) = epoch.filter(|epoch| self.configured_in != Some(*epoch)) {
            self.configured_in = Some(epoch);
            news.push(Said { user: self.configured.clone(), epoch });
        }
        news.push(std::mem::take(&mut self.said));
        news.retain(|said| !said.user.is_empty());
        news
    }
}

impl Sink {
    /// Sets user properties, which are kept until each backend has accepted them.
    pub(crate) fn set_user_properties(&self, newer: &UserProperties) -> Result<(), InvalidEvent> {
        newer.check()?;
        let Some(epoch) = self.gate.capture_epoch() else {
            return Ok(());
        };
        let mut news = self.user();
        // A wipe may have happened before the lock was taken. Properties that were set
        // before the wipe must not be sent in the next epoch.
        if self.gate.capture_epoch() != Some(epoch) {
            return Ok(());
        }
        let said = &mut news.said;
        let mut user =
            if said.epoch == epoch { said.user.clone() } else { UserProperties::default() };
        user.add(newer);
        user.check()?;
        *said = Said { user, epoch };
        Ok(())
    }

    pub(super) fn user(&self) -> MutexGuard<'_, News> {
        self.user.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_user_news(&self) -> bool {
        self.user().is_due(self.gate.capture_epoch())
    }

    /// Tells the lanes of the configured properties, if events were restored: these leave
    /// without passing the intake.
    pub(super) fn tell_lanes_before_restored_events(&self) {
        if self.lanes.iter().any(|lane| lane.lock().restored > 0) {
            self.guard.refresh();
            self.tell_lanes();
        }
    }

    /// Tells the lanes of the user properties that they have not been told of, past the guard.
    pub(super) fn tell_lanes(&self) {
        let news = self.user().take(self.gate.capture_epoch());
        for said in news {
            let user = self.guard.user("user properties", said.user);
            let said = Said { user, ..said };
            if said.user.is_empty() {
                continue;
            }
            for lane in &self.lanes {
                let mut state = lane.lock();
                // Checked under the lock. A wipe advances the epoch before it takes this lock.
                if said.epoch == self.gate.epoch() {
                    state.user.add(&said);
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
