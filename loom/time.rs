//! A stand-in for `tokio::time`. Every sleep ends at once, and a timeout never expires,
//! except a timeout of zero, which expires at once.

use std::{
    future::{Ready, poll_fn, ready},
    pin::pin,
    task::Poll,
    time::Duration,
};

pub(crate) use tokio_real::time::Instant;

#[derive(Debug)]
pub(crate) struct Elapsed(());

pub(crate) fn sleep(_: Duration) -> Ready<()> {
    ready(())
}

pub(crate) fn sleep_until(_: Instant) -> Ready<()> {
    ready(())
}

pub(crate) async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Pending if limit.is_zero() => Poll::Ready(Err(Elapsed(()))),
        answer => answer.map(Ok),
    })
    .await
}

pub(crate) async fn timeout_at<F: Future>(_: Instant, future: F) -> Result<F::Output, Elapsed> {
    Ok(future.await)
}
