//! Waiting for conditions, each within a bound.

use std::{error::Error, fmt::Display, time::Duration};

use tokio::time::{sleep, timeout};

pub(crate) type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The longest wait for anything: a machine that is busy takes seconds, none takes this.
const BOUND: Duration = Duration::from_secs(45);

/// Between two looks at what nobody announces.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// Fails unless `claim` holds.
pub(crate) fn ensure(claim: impl Display, holds: bool) -> Result {
    if holds { Ok(()) } else { Err(format!("not so: {claim}").into()) }
}

pub(crate) async fn within<F: Future>(what: impl Display, future: F) -> Result<F::Output> {
    let waited = timeout(BOUND, future).await;
    waited.map_err(|_| format!("waited in vain for: {what}").into())
}

/// Looks again and again until `look` finds something.
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
