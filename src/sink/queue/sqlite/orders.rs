//! What the sink asks of the file and is not done yet. It is bounded, however long the
//! disk takes: marks, wipes and user properties are kept as the state that is wanted, and
//! there is one write at most.

use std::{collections::BTreeMap, num::NonZeroU64, sync::Arc};

use tokio::sync::oneshot;

use crate::{
    event::{OutgoingEvent, Said},
    sink::queue::{Marks, QueueError, Refused, Row},
};

/// Events to write down. The answer is the row of each that has one.
///
/// If no caller waits for the answer any more, the events count as not written, and their rows
/// are to be deleted.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) events: Vec<Arc<OutgoingEvent>>,
    pub(super) written: oneshot::Sender<Vec<Option<NonZeroU64>>>,
}

/// A caller that waits for a wipe.
pub(super) type WipeWaiter = oneshot::Sender<Result<(), QueueError>>;

/// One thing to do with the file.
#[derive(Debug)]
pub(super) enum Job {
    /// Deletes what is below the floor, and tells these.
    Wipe(Vec<WipeWaiter>),
    /// Notes what lanes did not take.
    Refuse(Vec<Refused>),
    /// Notes what each lane has seen.
    Mark(Marks),
    /// Notes what some lanes have still to say about the user.
    Users(BTreeMap<usize, Said>),
    Write(Write),
    Close,
}

#[derive(Debug, Default)]
pub(super) struct Orders {
    wipe: bool,
    wipe_waiters: Vec<WipeWaiter>,
    refused: Vec<Refused>,
    marks: Marks,
    marks_changed: bool,
    /// The newest of each lane.
    users: BTreeMap<usize, Said>,
    write: Option<Write>,
    close: bool,
    /// A job was taken, and the one that took it has not come back.
    is_busy: bool,
    /// It takes longer than a write is waited for.
    is_late: bool,
}

impl Orders {
    /// For lanes that are known to have seen all up to `marks`.
    pub(super) fn new(marks: Marks) -> Self {
        Self { marks, ..Self::default() }
    }

    pub(super) fn wipe(&mut self, waiter: Option<WipeWaiter>) {
        self.wipe = true;
        // Each is a caller that still waits.
        self.wipe_waiters.retain(|waiter| !waiter.is_closed());
        self.wipe_waiters.extend(waiter);
    }

    /// Rows that are in the file, so that there is an end to them.
    pub(super) fn refuse(&mut self, refused: Vec<Refused>) {
        self.refused.extend(refused);
    }

    /// Says whether that is new.
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

    /// `lane` has still to say `said` about the user, and nothing that it had before.
    pub(super) fn keep_user(&mut self, lane: usize, said: Said) {
        self.users.insert(lane, said);
    }

    /// Takes `write`, unless the disk is late already or the file is to be closed.
    pub(super) fn write(&mut self, write: Write) -> bool {
        let takes = !self.is_late && !self.close && self.write.is_none();
        if takes {
            self.write = Some(write);
        }
        takes
    }

    /// Takes the write back if it was not begun. If the disk is at work, no write is taken
    /// until it has come back. Says whether that is so.
    pub(super) fn give_up_write(&mut self) -> bool {
        self.write = None;
        self.is_late = self.is_busy;
        self.is_late
    }

    pub(super) fn close(&mut self) {
        self.close = true;
    }

    /// The next job, for one that has done the last. What was withdrawn goes first.
    pub(super) fn next(&mut self) -> Option<Job> {
        self.is_late = false;
        let job = if std::mem::take(&mut self.wipe) {
            Some(Job::Wipe(std::mem::take(&mut self.wipe_waiters)))
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
            orders.keep_user(0, Said { epoch: round, ..Said::default() });
            let (waiter, gone) = oneshot::channel();
            orders.wipe(Some(waiter));
            drop(gone);
        }
        orders.close();
        // It came back.
        let Some(Job::Wipe(waiters)) = orders.next() else { panic!("no wipe") };
        assert_eq!(waiters.len(), 1);
        assert!(matches!(orders.next(), Some(Job::Mark(marks)) if marks == [999, 1_998]));
        let Some(Job::Users(users)) = orders.next() else { panic!("no user properties") };
        assert_eq!(users.values().map(|said| said.epoch).collect::<Vec<_>>(), [999]);
        assert!(matches!(orders.next(), Some(Job::Close)));
        assert!(orders.next().is_none());
    }

    #[test]
    fn a_write_that_was_not_begun_is_taken_back_and_the_next_is_taken() {
        let mut orders = Orders::new(vec![0]);
        let (first, mut rows) = write();
        assert!(orders.write(first));
        // The thread has not looked yet: nothing says that the disk is slow.
        assert!(!orders.give_up_write());
        assert!(rows.try_recv().is_err());
        assert!(orders.next().is_none());
        assert!(orders.write(write().0));
    }

    #[test]
    fn a_disk_that_came_back_takes_the_next_write() {
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
    fn what_was_said_about_the_user_is_written_before_events_and_behind_a_wipe() {
        let mut orders = Orders::new(vec![0]);
        assert!(orders.write(write().0));
        orders.keep_user(0, Said::default());
        orders.wipe(None);
        assert!(matches!(orders.next(), Some(Job::Wipe(_))));
        assert!(matches!(orders.next(), Some(Job::Users(_))));
        assert!(matches!(orders.next(), Some(Job::Write(_))));
    }

    #[test]
    fn nothing_is_written_behind_a_close() {
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
