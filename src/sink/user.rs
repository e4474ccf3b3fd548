//! Passes user properties from the app to the lanes and into the file.

use super::Sink;
use crate::{
    event::{InvalidEvent, Properties, Said, UserProperties},
    locks::{MutexGuard, PoisonError},
};

impl Sink {
    /// Sets user properties, which are kept until each backend has accepted them.
    pub(crate) fn set_user_properties(
        &self,
        set: &Properties,
        set_once: &Properties,
    ) -> Result<(), InvalidEvent> {
        let newer = UserProperties { set: set.clone(), set_once: set_once.clone() };
        newer.check()?;
        let Some(epoch) = self.gate.capture_epoch() else {
            return Ok(());
        };
        let mut said = self.user();
        // A wipe may have happened before the lock was taken. Properties that were set
        // before the wipe must not be sent in the next epoch.
        if self.gate.capture_epoch() != Some(epoch) {
            return Ok(());
        }
        let mut user =
            if said.epoch == epoch { said.user.clone() } else { UserProperties::default() };
        user.add(&newer);
        user.check()?;
        *said = Said { user, epoch };
        Ok(())
    }

    pub(super) fn user(&self) -> MutexGuard<'_, Said> {
        self.user.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the user properties that were set since the last call, and passes them
    /// through the guard.
    pub(super) fn take_said(&self) -> Said {
        let said = std::mem::take(&mut *self.user());
        if said.user.is_empty() {
            return said;
        }
        Said { user: self.guard.user("user properties", said.user), ..said }
    }

    /// Adds `said` to each lane, unless it was withdrawn.
    pub(super) fn tell_lanes(&self, said: &Said) {
        if said.user.is_empty() {
            return;
        }
        for lane in &self.lanes {
            let mut state = lane.lock();
            // Checked under the lock. A wipe advances the epoch before it takes this lock.
            if said.epoch == self.gate.epoch() {
                state.user.add(said);
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
