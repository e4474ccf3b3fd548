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
