//! What the examples of `matrix-analytics` share. The examples themselves are the
//! `[[example]]` targets of this package; begin with `quickstart.rs`.

mod collector;
mod describe;
mod session;

use std::{error::Error, time::Duration};

use futures_util::StreamExt as _;
use matrix_analytics::{Analytics, ConsentState};
use tokio::time::timeout;

pub use self::{
    collector::Collector,
    describe::{chain, describe_gate, describe_step},
    session::{LoginError, Session, is_session_lost, secret},
};

/// Begins a part of a story.
#[expect(clippy::print_stdout, reason = "an example tells its story")]
pub fn heading(title: &str) {
    println!("\n=== {title}");
}

/// Goes on with the story if what it claims is so.
///
/// # Errors
///
/// Fails if it is not.
#[expect(clippy::print_stdout, reason = "an example tells its story")]
pub fn check(claim: &str, holds: bool) -> Result<(), Box<dyn Error>> {
    if !holds {
        return Err(format!("not so: {claim}").into());
    }
    println!("  ok  {claim}");
    Ok(())
}

/// Waits until consent is as `wanted`, for half a minute at most.
///
/// # Errors
///
/// Fails if it is not so in time; `what` says what was waited for.
pub async fn wait_for(
    analytics: &Analytics,
    what: &str,
    wanted: impl Fn(ConsentState) -> bool,
) -> Result<ConsentState, Box<dyn Error>> {
    // The stream begins with the state now, so no change is missed.
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
    state.ok_or_else(|| format!("waited in vain for: {what}; it is {:?}", analytics.state()).into())
}
