//! Which devices are the same.

use super::{Command, Device, Running, SALT, SETTLE};
use crate::consent::machine::{OptIns, Retry, Sign, Ticket};

impl Device {
    /// Makes states that no transition can tell apart equal.
    pub(super) fn normalise(&mut self) {
        const SIGN: Sign = Sign { closing: 2, change: 2 };

        let machine = &mut self.machine;
        if let Some(
            Running::Getting { sent, .. }
            | Running::Putting { sent, .. }
            | Running::SavingBeforeRemoval { sent, .. },
        ) = &mut self.running
        {
            *sent = Sign {
                closing: if sent.closing == machine.sign.closing { SIGN.closing } else { 0 },
                change: if sent.change == machine.sign.change { SIGN.change } else { 0 },
            };
        }
        machine.sign = SIGN;

        let OptIns { in_progress, first_valid, .. } = machine.opt_ins;
        let renew = |ticket: &mut Ticket| ticket.0 = u64::from(ticket.0 >= first_valid);
        for command in &mut self.queue {
            if let Command::OptIn(opt_in) = command {
                renew(&mut opt_in.ticket);
            }
        }
        if let Some(opt_in) = self.running_opt_in() {
            renew(&mut opt_in.ticket);
        }
        let machine = &mut self.machine;
        machine.opt_ins = OptIns { in_progress, next: 2, first_valid: 1 };

        machine.requests = Retry::default();
        if machine.saves.not_before.is_some() {
            machine.saves = Retry { failures: 0, not_before: Some(self.now + SETTLE) };
        }
        machine.timer.due = None;
        // It is told, and decides nothing.
        machine.lost_id = None;

        // Only which of these epochs is the higher one matters.
        let mut records = vec![&mut self.machine.record, &mut self.durable];
        records.extend(self.saving.as_mut().map(|save| &mut save.record));
        let mut epochs: Vec<u64> = records.iter().map(|record| record.epoch).collect();
        epochs.sort_unstable();
        epochs.dedup();
        for record in records {
            let rank = 1 + epochs.partition_point(|epoch| *epoch < record.epoch) as u64;
            record.cleaned_in_epoch =
                record.cleaned_in_epoch.filter(|epoch| *epoch == record.epoch).map(|_| rank);
            record.epoch = rank;
            // A record that starts anew has a new salt and no digest.
            if !record.has_digests() {
                *record = record.clone().with_salt(SALT);
            }
        }
    }
}
