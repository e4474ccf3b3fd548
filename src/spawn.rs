//! Tasks, as one type of future.

use std::pin::Pin;

use tokio::{runtime::Handle, sync::oneshot};

/// Runs `future` in a task of its own. Returns a receiver of its output, which gets an error
/// if the runtime ends first, or if the future panics.
///
/// Dropping the receiver does not end the task. tokio compiles its code for a task again for
/// each type of future and each scheduler, so all futures have the same type here.
pub(crate) fn spawn<T: Send + 'static>(
    runtime: &Handle,
    future: impl Future<Output = T> + Send + 'static,
) -> oneshot::Receiver<T> {
    let (output, receiver) = oneshot::channel();
    detach(runtime, async move {
        // The receiver may be gone.
        let _ = output.send(future.await);
    });
    receiver
}

/// Runs `future` in a task of its own.
pub(crate) fn detach(runtime: &Handle, future: impl Future<Output = ()> + Send + 'static) {
    let future: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(future);
    runtime.spawn(future);
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    #[tokio::test]
    async fn a_future_that_panics_gives_an_error() {
        let receiver = spawn(&Handle::current(), async { panic!("part of the test") });
        assert!(receiver.await.is_err());
    }

    #[tokio::test]
    async fn a_task_goes_on_when_its_receiver_is_dropped() {
        let (sender, mut received) = oneshot::channel();
        let (start, started) = oneshot::channel::<()>();
        drop(spawn(&Handle::current(), async move {
            let _ = started.await;
            let _ = sender.send(());
        }));
        assert_eq!(received.try_recv(), Err(TryRecvError::Empty));
        start.send(()).unwrap();
        received.await.unwrap();
    }
}
