//! Normalises devices, so that equivalent ones are equal.

use std::collections::HashMap;

use super::{super::content::Content, Device, SALT};
use crate::consent::machine::{CallId, Generation, backoff::RecheckTimer, operation::Step};

impl Device {
    /// Makes states equal that no transition can distinguish.
    pub(super) fn normalise(&mut self) {
        const GENERATION: Generation = Generation { closing: 2, change: 2 };

        let machine = &mut self.machine;
        if let Some(operation) = &mut machine.operation {
            let Generation { closing, change } = machine.server.generation;
            let asked_at = &mut operation.asked_at;
            let is_sent = matches!(operation.step, Step::Sent(_));
            *asked_at = Generation {
                closing: if is_sent && asked_at.closing == closing { 2 } else { 0 },
                change: if is_sent && asked_at.change == change { 2 } else { 0 },
            };
        }
        machine.server.generation = GENERATION;
        // This is only reported, and influences no decision.
        machine.server.removed_id = None;

        // Only a write that follows the read in the same operation is merged into it.
        if machine.operation.is_none() {
            self.base = Content::UNSET;
            self.monitor.race.take_if(|race| !race.is_written);
            self.monitor.may_race = false;
        }
        let machine = &mut self.machine;
        machine.wake.backoff.normalise(self.now);
        machine.disk.backoff.normalise(self.now);
        let RecheckTimer { due, .. } = machine.wake.timer;
        if due.is_some_and(|due| due > self.now) {
            machine.wake.timer.restart(self.now);
        }
        if let Some(minted) = &mut machine.opt_in.minted
            && minted.settled_at.is_some_and(|settled_at| settled_at > self.now)
        {
            minted.settled_at = Some(machine.settings.settles_after_failure(self.now));
        }
        self.renumber_calls();

        // Only the order of these epochs matters.
        let machine = &mut self.machine;
        let mut records = vec![&mut machine.record, &mut machine.disk.stored, &mut self.durable];
        records.extend(machine.disk.saving.as_mut());
        records.extend(self.saving.as_mut().map(|save| &mut save.record));
        let mut epochs: Vec<u64> = records.iter().map(|record| record.epoch).collect();
        epochs.sort_unstable();
        epochs.dedup();
        for record in records {
            let rank = 1 + epochs.partition_point(|epoch| *epoch < record.epoch) as u64;
            record.cleaned_in_epoch =
                record.cleaned_in_epoch.filter(|epoch| *epoch == record.epoch).map(|_| rank);
            record.epoch = rank;
            // A new record has a new salt and no digest.
            if !record.has_digests() {
                *record = record.clone().with_salt(SALT);
            }
        }
    }

    /// Renumbers the calls, because only their order matters.
    fn renumber_calls(&mut self) {
        let mut numbers = HashMap::new();
        let mut count = 0;
        let mut renumber = |call: &mut CallId| {
            let number = *numbers.entry(*call).or_insert_with(|| {
                count += 1;
                count
            });
            call.0 = call.0 / Self::CALLS * Self::CALLS + number;
        };
        let machine = &mut self.machine;
        if let Some(operation) = &mut machine.operation {
            operation.call.iter_mut().for_each(&mut renumber);
        }
        machine.calls.queue.iter_mut().for_each(|call| renumber(&mut call.id));
        for waiter in &mut machine.disk.waiters {
            waiter.call.iter_mut().for_each(&mut renumber);
        }
        self.calls = count;
    }
}
