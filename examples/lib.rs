//! Helpers shared by the examples of `matrix-analytics`. The examples are the `[[example]]`
//! targets of this package; start with `quickstart.rs`.

mod collector;
mod describe;
mod only_event;
mod session;

use std::{error::Error, time::Duration};

use futures_util::StreamExt as _;
use matrix_analytics::{Analytics, ConsentState};
use tokio::time::timeout;

pub use self::{
    collector::Collector,
    describe::{chain, describe_gate, describe_note, describe_step},
    only_event::only_event,
    session::{LoginError, Session, is_session_lost, secret},
};

/// Prints a section heading.
#[expect(clippy::print_stdout, reason = "an example prints its progress")]
pub fn heading(title: &str) {
    println!("\n=== {title}");
}

/// Prints `claim` if it `holds`.
///
/// # Errors
///
/// Returns an error if it does not hold.
#[expect(clippy::print_stdout, reason = "an example prints its progress")]
pub fn check(claim: &str, holds: bool) -> Result<(), Box<dyn Error>> {
    if !holds {
        return Err(format!("check failed: {claim}").into());
    }
    println!("  ok  {claim}");
    Ok(())
}

/// Waits until the consent state is `wanted`, and returns it.
///
/// # Errors
///
/// Returns an error after 30 seconds. Its text names the expected state with `what`.
pub async fn wait_for(
    analytics: &Analytics,
    what: &str,
    wanted: impl Fn(ConsentState) -> bool,
) -> Result<ConsentState, Box<dyn Error>> {
    // The stream yields the current state first, so no change is missed.
    let mut states = analytics.state_stream();
    let found = timeout(Duration::from_secs(30), async {
        while let Some(state) = states.next().await {
            if wanted(state) {
                return Some(state);
            }
        }
        None
    });
    let state = found.await.ok().flatten();
    state.ok_or_else(|| format!("timed out waiting for {what}: {:?}", analytics.state()).into())
}
