//! The journal of a build without the feature `sqlite`, which never exists.

use super::{Marks, QueueError, Queued, Refused, Row};
use crate::{
    event::UserUpdate,
    sink::stats::{DropReason, QueueStats},
};

#[derive(Debug)]
pub(crate) enum Journal {}

#[expect(clippy::unused_async, reason = "has the same signatures as the SQLite journal")]
impl Journal {
    pub(crate) async fn write(&self, _events: &mut [Result<Queued, DropReason>]) {
        match *self {}
    }

    pub(crate) fn refuse(&self, _refused: Vec<Refused>) {
        match *self {}
    }

    pub(crate) fn mark(&self, _lane: usize, _done: Row) {
        match *self {}
    }

    pub(crate) fn keep_user(&self, _lane: usize, _update: UserUpdate) {
        match *self {}
    }

    pub(crate) fn durable_from(&self) -> Row {
        match *self {}
    }

    pub(crate) fn stats(&self) -> QueueStats {
        match *self {}
    }

    pub(crate) fn begin_wipe(&self, _epoch: u64) {
        match *self {}
    }

    pub(crate) async fn wiped(&self) -> Result<(), QueueError> {
        match *self {}
    }

    pub(crate) fn keep_erasures(&self, _version: u64, _plain: Option<Vec<u8>>) {
        match *self {}
    }

    pub(crate) async fn tried_erasures(&self, _version: u64) {
        match *self {}
    }

    pub(crate) fn has_erasures(&self, _version: u64) -> bool {
        match *self {}
    }

    pub(crate) fn begin_close(&self, _marks: Marks) {
        match *self {}
    }

    pub(crate) async fn closed(&self) {
        match *self {}
    }
}
