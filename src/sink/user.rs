//! What the app says about the user, on its way to the lanes and into the file.

use super::Sink;
use crate::{
    event::{InvalidEvent, Properties, Said, UserProperties},
    locks::{MutexGuard, PoisonError},
};

impl Sink {
    /// Remembers what to say about the user, until each backend was told.
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
        // A wipe may have been here since: what was said before it must not be
        // sent in the next epoch.
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

    /// Takes what was said about the user since the last time, past the guard.
    pub(super) fn take_said(&self) -> Said {
        let said = std::mem::take(&mut *self.user());
        if said.user.is_empty() {
            return said;
        }
        Said { user: self.guard.user("user properties", said.user), ..said }
    }

    /// Tells each lane what was `said`, unless that is withdrawn.
    pub(super) fn tell_lanes(&self, said: &Said) {
        if said.user.is_empty() {
            return;
        }
        for lane in &self.lanes {
            let mut state = lane.lock();
            // Under the lock: a wipe, which takes it too, moves the gate before.
            if said.epoch == self.gate.epoch() {
                state.user.add(said);
            }
        }
    }

    /// Tells the file, if there is one, what each lane has still to say.
    pub(super) fn keep_user(&self) {
        if let Some(journal) = &self.journal {
            for (number, lane) in self.lanes.iter().enumerate() {
                lane.keep_user(number, journal);
            }
        }
    }
}
