//! Pending work for the file's thread. It is bounded, however long the disk takes: of marks,
//! wipes and user properties only the latest state is kept, and there is at most one write.

use std::{num::NonZeroU64, sync::Arc};

use tokio::sync::oneshot;

use crate::{
    event::{OutgoingEvent, UserUpdate},
    sink::queue::{Marks, QueueError, Refused, Row},
};

/// Events to write. The reply has the row of each event that was written.
///
/// If the caller no longer waits for the reply, the events count as not written, and their
/// rows must be deleted.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) events: Vec<Arc<OutgoingEvent>>,
    pub(super) written: oneshot::Sender<Vec<Option<NonZeroU64>>>,
}

/// A caller that waits for a wipe.
pub(super) type WipeWaiter = oneshot::Sender<Result<(), QueueError>>;

/// A job of the file's thread.
#[derive(Debug)]
pub(super) enum Job {
    /// Delete everything of epochs below the floor, and reply to these callers.
    Wipe(Vec<WipeWaiter>),
    /// Note the rows that lanes did not take.
    Refuse(Vec<Refused>),
    /// Write the mark of each lane.
    Mark(Marks),
    /// Write the changes of the history.
    History,
    /// Write the user properties that wait in these lanes.
    Users(Vec<(usize, UserUpdate)>),
    Write(Write),
    Close,
}

#[derive(Debug, Default)]
pub(super) struct Orders {
    wipe: bool,
    wipe_waiters: Vec<WipeWaiter>,
    history_changed: bool,
    refused: Vec<Refused>,
    marks: Marks,
    marks_changed: bool,
    /// The newest user properties of each lane.
    users: Vec<(usize, UserUpdate)>,
    write: Option<Write>,
    close: bool,
    /// Whether the thread is working on a job.
    is_busy: bool,
    /// Whether that job has taken longer than callers wait for a write.
    is_late: bool,
}

impl Orders {
    /// Creates an empty list of orders. `marks` are the marks that the file already has.
    pub(super) fn new(marks: Marks) -> Self {
        Self { marks, ..Self::default() }
    }

    pub(super) fn wipe(&mut self, waiter: Option<WipeWaiter>) {
        self.wipe = true;
        // Keeps only callers that still wait, so that their number is bounded.
        self.wipe_waiters.retain(|waiter| !waiter.is_closed());
        self.wipe_waiters.extend(waiter);
    }

    /// Adds rows that lanes did not take. They are in the file, whose size bounds their
    /// number.
    pub(super) fn refuse(&mut self, refused: Vec<Refused>) {
        self.refused.extend(refused);
    }

    pub(super) fn keep_history(&mut self) {
        self.history_changed = true;
    }

    /// Sets the mark of `lane`, and returns whether it has changed.
    pub(super) fn mark(&mut self, lane: usize, done: Row) -> bool {
        match self.marks.get_mut(lane) {
            Some(known) if *known < done => {
                *known = done;
                self.marks_changed = true;
                true
            }
            _ => false,
        }
    }

    /// Replaces the user properties that wait in `lane` by `update`.
    pub(super) fn keep_user(&mut self, lane: usize, update: UserUpdate) {
        self.users.retain(|(other, _)| *other != lane);
        self.users.push((lane, update));
    }

    /// Accepts `write`, unless the disk is late or the file is about to be closed. Returns
    /// whether the write was accepted.
    pub(super) fn write(&mut self, write: Write) -> bool {
        let takes = !self.is_late && !self.close && self.write.is_none();
        if takes {
            self.write = Some(write);
        }
        takes
    }

    /// Withdraws the write if it has not begun. If the thread is busy, no write is accepted
    /// until it finishes its job. Returns whether the thread is busy.
    pub(super) fn give_up_write(&mut self) -> bool {
        self.write = None;
        self.is_late = self.is_busy;
        self.is_late
    }

    pub(super) fn close(&mut self) {
        self.close = true;
    }

    /// Returns the next job, after the thread has finished the last one. Wipes come first.
    pub(super) fn next(&mut self) -> Option<Job> {
        self.is_late = false;
        let job = if std::mem::take(&mut self.wipe) {
            Some(Job::Wipe(std::mem::take(&mut self.wipe_waiters)))
        } else if std::mem::take(&mut self.history_changed) {
            // Before the marks: an event that was sent is deleted once the history has it.
            Some(Job::History)
        } else if !self.refused.is_empty() {
            Some(Job::Refuse(std::mem::take(&mut self.refused)))
        } else if std::mem::take(&mut self.marks_changed) {
            Some(Job::Mark(self.marks.clone()))
        } else if !self.users.is_empty() {
            Some(Job::Users(std::mem::take(&mut self.users)))
        } else if let Some(write) = self.write.take() {
            Some(Job::Write(write))
        } else {
            std::mem::take(&mut self.close).then_some(Job::Close)
        };
        self.is_busy = job.is_some();
        job
    }

    pub(super) fn is_late(&self) -> bool {
        self.is_late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write() -> (Write, oneshot::Receiver<Vec<Option<NonZeroU64>>>) {
        let (written, rows) = oneshot::channel();
        (Write { events: Vec::new(), written }, rows)
    }

    #[test]
    fn a_disk_that_hangs_leaves_a_bounded_number_of_orders() {
        let mut orders = Orders::new(vec![0, 0]);
        let (first, _rows) = write();
        assert!(orders.write(first));
        assert!(matches!(orders.next(), Some(Job::Write(_))));
        assert!(orders.give_up_write());
        for round in 1..1_000 {
            assert!(!orders.write(write().0));
            orders.mark(0, round);
            orders.mark(1, 2 * round);
            orders.keep_history();
            orders.keep_user(0, UserUpdate { epoch: round, ..UserUpdate::default() });
            let (waiter, gone) = oneshot::channel();
            orders.wipe(Some(waiter));
            drop(gone);
        }
        orders.close();
        // The disk responds again.
        let Some(Job::Wipe(waiters)) = orders.next() else { panic!("no wipe") };
        assert_eq!(waiters.len(), 1);
        assert!(matches!(orders.next(), Some(Job::History)));
        assert!(matches!(orders.next(), Some(Job::Mark(marks)) if marks == [999, 1_998]));
        let Some(Job::Users(users)) = orders.next() else { panic!("no user properties") };
        assert_eq!(users.iter().map(|(_, update)| update.epoch).collect::<Vec<_>>(), [999]);
        assert!(matches!(orders.next(), Some(Job::Close)));
        assert!(orders.next().is_none());
    }

    #[test]
    fn a_write_that_has_not_begun_is_withdrawn_and_the_next_is_accepted() {
        let mut orders = Orders::new(vec![0]);
        let (first, mut rows) = write();
        assert!(orders.write(first));
        // The thread has not taken the write, so the disk is not known to be slow.
        assert!(!orders.give_up_write());
        assert!(rows.try_recv().is_err());
        assert!(orders.next().is_none());
        assert!(orders.write(write().0));
    }

    #[test]
    fn a_disk_that_responds_again_accepts_the_next_write() {
        let mut orders = Orders::new(vec![0]);
        orders.mark(0, 1);
        assert!(matches!(orders.next(), Some(Job::Mark(_))));
        assert!(orders.write(write().0));
        assert!(orders.give_up_write());
        assert!(!orders.write(write().0));
        assert!(orders.next().is_none());
        assert!(orders.write(write().0));
    }

    #[test]
    fn user_properties_are_written_before_events_and_after_a_wipe() {
        let mut orders = Orders::new(vec![0]);
        assert!(orders.write(write().0));
        orders.keep_user(0, UserUpdate::default());
        orders.wipe(None);
        assert!(matches!(orders.next(), Some(Job::Wipe(_))));
        assert!(matches!(orders.next(), Some(Job::Users(_))));
        assert!(matches!(orders.next(), Some(Job::Write(_))));
    }

    #[test]
    fn nothing_is_written_after_a_close() {
        let mut orders = Orders::new(vec![0]);
        orders.close();
        assert!(!orders.write(write().0));
    }

    #[test]
    fn a_mark_never_goes_back() {
        let mut orders = Orders::new(vec![5]);
        assert!(!orders.mark(0, 5) && !orders.mark(0, 3) && !orders.mark(1, 9));
        assert!(orders.next().is_none());
        assert!(orders.mark(0, 6));
    }
}
