//! Requests to recipients to delete what they hold of a user who has opted out: which are wanted,
//! when each is sent, and how it ended.
//!
//! All of it is pure. `analytics/erasures.rs` sends the requests and keeps the ledger in the file
//! of a durable queue.

mod backoff;
pub(crate) mod ledger;
pub(crate) mod report;
mod stored;
