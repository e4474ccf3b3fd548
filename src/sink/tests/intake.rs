//! Tests of the intake: when it asks to be drained, and how it counts.

use std::{sync::Arc, time::SystemTime};

use futures_util::FutureExt as _;

use crate::{
    event::{CapturedEvent, Properties},
    sink::{counters::DropSignal, intake::Intake, limits::Limits, stats::DropReason},
};

fn event(text_bytes: usize) -> CapturedEvent {
    CapturedEvent {
        name: "Event".into(),
        properties: Properties::new().with("text", "x".repeat(text_bytes)),
        super_properties: None,
        at: SystemTime::now(),
        epoch: 1,
    }
}

fn intake(limits: &Limits) -> Intake {
    Intake::new(limits, &DropSignal::default())
}

#[test]
fn a_batch_is_ready_by_count_or_by_bytes_whichever_is_first() {
    let batch =
        |events, bytes| Limits { batch_events: events, batch_bytes: bytes, ..Limits::default() };
    let of_three = event(100).bytes() * 3;
    for limits in [batch(3, usize::MAX), batch(usize::MAX, of_three), batch(3, of_three)] {
        let intake = intake(&limits);
        for _ in 0..2 {
            // Twice, because the second batch follows the same rule.
            for number in 1..=3 {
                assert!(intake.batch_ready().now_or_never().is_none(), "{number} of {limits:?}");
                intake.push(event(100));
            }
            assert!(intake.batch_ready().now_or_never().is_some(), "{limits:?}");
            assert_eq!(intake.lock().take().len(), 3);
        }
    }
}

#[test]
fn a_batch_is_ready_before_the_buffer_is_full() {
    let limits = Limits { queue_bytes: 10 * event(100).bytes(), ..Limits::default() };
    let intake = intake(&limits);
    for _ in 0..5 {
        intake.push(event(100));
    }
    assert!(intake.batch_ready().now_or_never().is_some());
    assert_eq!(intake.lock().drops.total(), 0);
}

#[test]
fn super_properties_count_towards_the_size_of_an_event() {
    let update = Properties::new().with("app", "x".repeat(500));
    let limits =
        Limits { queue_bytes: event(0).bytes() + update.held_bytes(), ..Limits::default() };
    let intake = intake(&limits);
    intake.lock().super_properties = Some(Arc::new(update));
    intake.push(event(0));
    assert_eq!(intake.lock().len(), 1);
    intake.push(event(0));
    assert_eq!(intake.lock().drops.count(DropReason::QueueFull), 1);
}
