//! The state of a lane that its lock protects: events and counters.

use std::num::NonZeroU64;

use super::user::PendingUser;
use crate::backend::identity::Session;
use crate::sink::{
    counted::HasDrops,
    counters::Drops,
    limits::Limits,
    queue::{Queue, Queued, Refused, Row},
    stats::DropReason,
};

/// The epoch and the session of all events of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) epoch: u64,
    /// Present if the recipient must not be able to join two sessions.
    pub(super) session: Option<Session>,
}

#[derive(Debug, Default)]
pub(crate) struct LaneState {
    pub(crate) queue: Queue,
    pub(crate) in_flight: usize,
    /// The number of events in flight that have a row, and the first of these rows.
    pub(super) in_flight_rows: usize,
    pub(super) in_flight_row: Option<Row>,
    /// The number of the first event in flight.
    in_flight_number: Option<u64>,
    /// The number of the last event that was offered.
    pub(super) last_number: u64,
    pub(crate) restored: u64,
    pub(crate) delivered: u64,
    /// Events that are left to the next process.
    pub(crate) kept: u64,
    pub(crate) drops: Drops,
    /// The user properties that wait to be sent.
    pub(crate) user: PendingUser,
    /// The last row that was offered.
    pub(super) last_row: Row,
    /// The rows that have left although earlier ones wait, for the file.
    pub(super) left_early: Vec<NonZeroU64>,
    /// Whether delivery has ended for good.
    pub(super) ended: bool,
    /// The numbers of the last flush that was requested and of the last that was done.
    pub(super) flush_asked: u64,
    pub(super) flush_done: u64,
    /// Whether the last attempt of this process was requested.
    pub(super) shutting_down: bool,
    /// The last use of the backend, which may still hold a connection.
    pub(super) connected: Option<Connection>,
}

impl HasDrops for LaneState {
    fn drops(&mut self) -> &mut Drops {
        &mut self.drops
    }
}

impl LaneState {
    /// Adds an event to the queue. Passes to `lost` the rows that were dropped for lack of
    /// room and that a mark up to [`LaneState::done`] may not cover.
    pub(crate) fn push(&mut self, mut queued: Queued, limits: &Limits, mut lost: impl FnMut(Row)) {
        if self.ended {
            self.kept += 1;
            return;
        }
        self.last_number += 1;
        queued.number = self.last_number;
        let own = queued.row.map(NonZeroU64::get);
        self.note_row(own.unwrap_or_default());
        let behind_another = self.in_flight_row.is_some();
        self.queue.push(queued, limits, &mut self.drops, |row| {
            if behind_another || Some(row) == own {
                lost(row);
            }
        });
    }

    /// Returns the number of events that have not left and would survive a kill of the
    /// process.
    pub(crate) fn durable(&self, durable_from: Row) -> u64 {
        let in_flight = match self.in_flight_row {
            Some(row) if row >= durable_from => self.in_flight_rows,
            _ => 0,
        };
        (self.queue.durable(durable_from) + in_flight) as u64
    }

    /// Notes that `row` was offered.
    pub(crate) fn note_row(&mut self, row: Row) {
        self.last_row = self.last_row.max(row);
    }

    /// Returns the row up to which all events have left. Those after it that have left as well
    /// are in `left_early`.
    pub(super) fn done(&self) -> Row {
        let first = self.in_flight_row.or_else(|| self.queue.first_row());
        first.map_or(self.last_row, |row| row - 1)
    }

    /// Takes the rows that have left although earlier ones wait in the lane with `number`.
    pub(super) fn take_left_early(&mut self, number: usize) -> Vec<Refused> {
        let mut left = Vec::new();
        for row in std::mem::take(&mut self.left_early) {
            Refused::note(&mut left, number, row.get());
        }
        left
    }

    /// Returns the number of the oldest event that has not left.
    pub(super) fn first_number(&self) -> Option<u64> {
        self.in_flight_number.or_else(|| self.queue.first_number())
    }

    /// Notes that `batch` is in flight.
    pub(super) fn start_flight(&mut self, batch: &[Queued]) {
        self.in_flight = batch.len();
        self.in_flight_number = batch.first().map(|queued| queued.number);
        let mut rows = batch.iter().filter_map(|queued| queued.durable_row(0));
        self.in_flight_row = rows.next();
        self.in_flight_rows = usize::from(self.in_flight_row.is_some()) + rows.count();
    }

    /// Notes that no event is in flight.
    pub(super) fn end_flight(&mut self) {
        self.in_flight = 0;
        self.in_flight_number = None;
        self.in_flight_row = None;
    }

    /// Puts the events of `batch` back into the queue, except those that were withdrawn
    /// during the request.
    pub(super) fn put_back(&mut self, batch: Vec<Queued>, epoch: u64) {
        let (batch, withdrawn): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|queued| queued.event.epoch == epoch);
        self.drops.add(DropReason::Withdrawn, withdrawn.len());
        self.queue.put_back(batch);
    }
}
