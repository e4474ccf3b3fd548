use std::time::SystemTime;

use uuid::Uuid;

use super::*;
use crate::event::{Process, Properties};

fn queued(text_bytes: usize) -> Queued {
    let event = OutgoingEvent {
        uuid: Uuid::new_v4(),
        name: "Event".into(),
        at: SystemTime::now(),
        properties: Properties::new().with("text", "x".repeat(text_bytes)),
        user: None,
        epoch: 1,
        process: Process::random(),
    };
    Queued::new(Arc::new(event), Instant::now())
}

#[test]
fn an_event_that_can_never_fit_is_refused_and_evicts_nothing() {
    let three = 3 * queued(100).bytes;
    for overflow in [OverflowPolicy::DropOldest, OverflowPolicy::DropNewest] {
        let limits = Limits { queue_bytes: three, overflow, ..Limits::default() };
        let (mut queue, mut drops) = (Queue::default(), Drops::default());
        let mut lost = Vec::new();
        for row in 1..=3 {
            let queued = Queued { row: NonZeroU64::new(row), ..queued(100) };
            queue.push(queued, &limits, &mut drops, |row| lost.push(row));
        }
        let large = Queued { row: NonZeroU64::new(4), ..queued(three) };
        queue.push(large, &limits, &mut drops, |row| lost.push(row));
        assert_eq!((queue.len(), drops.total()), (3, 1), "{overflow:?}");
        assert_eq!(drops.count(DropReason::TooLarge), 1, "{overflow:?}");
        // Its row is deleted, so that a restart does not restore it.
        assert_eq!(lost, [4], "{overflow:?}");
    }
}

#[test]
fn events_up_to_exactly_the_limits_are_kept() {
    let limits = Limits { queue_bytes: 3 * queued(7).bytes, ..Limits::default() };
    let (mut queue, mut drops) = (Queue::default(), Drops::default());
    for _ in 0..3 {
        queue.push(queued(7), &limits, &mut drops, drop);
    }
    assert_eq!((queue.len(), drops.total()), (3, 0));
    queue.push(queued(0), &limits, &mut drops, drop);
    assert_eq!((queue.len(), drops.count(DropReason::QueueFull)), (3, 1));
}
