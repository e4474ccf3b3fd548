//! Tests of the sink's parts, each by itself.

mod intake;
mod lane;
mod stale_epochs;
mod wake_ups;
