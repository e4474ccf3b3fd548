//! P9: a flush waits only for the events that waited when it was requested.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::poll;

use super::Rig;
use crate::{
    backend::DeliveryError,
    sink::{lane::FlushKind, limits::OverflowPolicy},
};

#[tokio::test(start_paused = true)]
async fn arrivals_that_overflow_do_not_end_a_flush_early() {
    for (overflow, is_over) in
        [(OverflowPolicy::DropNewest, false), (OverflowPolicy::DropOldest, true)]
    {
        let open = Arc::new(AtomicBool::new(false));
        let mut rig = Rig::new({
            let open = open.clone();
            move |_| match open.load(Ordering::Relaxed) {
                true => Ok(()),
                false => Err(DeliveryError::Transient("not yet".into())),
            }
        });
        rig.limits.overflow = overflow;
        rig.limits.queue_events = 10;
        rig.limits.batch_events = 5;
        for _ in 0..10 {
            rig.offer("First");
        }
        let flush = rig.lane.ask_flush(FlushKind::Flush, rig.lane.last_event());
        let mut flushed = Box::pin(rig.lane.flushed(flush));
        for _ in 0..30 {
            rig.offer("Later");
        }
        // The first events are still queued, or were evicted by the later ones.
        assert_eq!(poll!(&mut flushed).is_ready(), is_over, "{overflow:?}");
        if !is_over {
            open.store(true, Ordering::Relaxed);
            rig.run(flushed).await;
            assert_eq!(rig.lane.lock().delivered, 10);
        }
    }
}
