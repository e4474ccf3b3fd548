//! Stands in for the file where the feature `sqlite` is off: there never is one.

use std::sync::Arc;

use super::{Marks, QueueError, Queued, Refused, Row};
use crate::stats::{DropReason, QueueStats};

#[derive(Debug)]
pub(crate) enum Journal {}

#[expect(clippy::unused_async, reason = "as the journal that there is")]
impl Journal {
    pub(crate) fn write(&self, _events: &mut [Result<Queued, DropReason>]) {
        match *self {}
    }

    pub(crate) fn refuse(&self, _refused: &[Refused]) {
        match *self {}
    }

    pub(crate) fn durable_from(&self) -> Row {
        match *self {}
    }

    pub(crate) fn stats(&self) -> QueueStats {
        match *self {}
    }

    pub(crate) fn begin_wipe(self: &Arc<Self>, _epoch: u64) {
        match **self {}
    }

    pub(crate) async fn wiped(self: &Arc<Self>) -> Result<(), QueueError> {
        match **self {}
    }

    pub(crate) fn begin_close(self: &Arc<Self>, _marks: Marks) {
        match **self {}
    }

    pub(crate) async fn closed(&self) {
        match *self {}
    }

    pub(crate) async fn mark(self: &Arc<Self>, _lane: usize, _done: Row) -> bool {
        match **self {}
    }

    pub(crate) async fn blocking(&self, _work: impl FnOnce() + Send + 'static) {
        match *self {}
    }
}
