//! Tests of single parts of the sink.

mod intake;
mod lane;
mod stale_epochs;
mod wake_ups;
