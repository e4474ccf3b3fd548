//! Bounded waits for conditions.

use std::{error::Error, fmt::Display, time::Duration};

use tokio::time::{sleep, timeout};

pub(crate) type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The longest wait for anything. A busy machine takes seconds, but never this long.
const BOUND: Duration = Duration::from_secs(45);

/// The interval between two polls of a condition.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// Fails unless `claim` holds.
pub(crate) fn ensure(claim: impl Display, holds: bool) -> Result {
    if holds { Ok(()) } else { Err(format!("does not hold: {claim}").into()) }
}

pub(crate) async fn within<F: Future>(what: impl Display, future: F) -> Result<F::Output> {
    let waited = timeout(BOUND, future).await;
    waited.map_err(|_| format!("timed out while waiting for: {what}").into())
}

/// Polls until `look` finds something.
pub(crate) async fn eventually<T>(
    what: impl Display,
    look: impl AsyncFn() -> Result<Option<T>>,
) -> Result<T> {
    within(what, async {
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            sleep(TICK).await;
        }
    })
    .await?
}
