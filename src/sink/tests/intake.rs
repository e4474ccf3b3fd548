//! Tests of the intake: when it asks to be drained, and how it counts.

use std::{sync::Arc, time::SystemTime};

use futures_util::FutureExt as _;

use crate::{
    event::{CapturedEvent, Properties},
    sink::{counters::DropSignal, intake::Intake, limits::Limits, stats::DropReason},
};

fn event() -> CapturedEvent {
    CapturedEvent { name: "Event".into(), super_properties: None, at: SystemTime::now(), epoch: 1 }
}

fn text(bytes: usize) -> Properties {
    Properties::new().with("text", "x".repeat(bytes))
}

/// Returns the size for the limits of an event with such a text.
fn size(text_bytes: usize) -> usize {
    event().bytes(text(text_bytes).borrowed())
}

fn push(intake: &Intake, text_bytes: usize) {
    intake.push(event(), text(text_bytes).borrowed());
}

fn intake(limits: &Limits) -> Intake {
    Intake::new(limits, &DropSignal::default())
}

#[test]
fn a_batch_is_ready_by_count_or_by_bytes_whichever_is_first() {
    let batch =
        |events, bytes| Limits { batch_events: events, batch_bytes: bytes, ..Limits::default() };
    let of_three = size(100) * 3;
    for limits in [batch(3, usize::MAX), batch(usize::MAX, of_three), batch(3, of_three)] {
        let intake = intake(&limits);
        for _ in 0..2 {
            // Twice, because the second batch follows the same rule.
            for number in 1..=3 {
                assert!(intake.batch_ready().now_or_never().is_none(), "{number} of {limits:?}");
                push(&intake, 100);
            }
            assert!(intake.batch_ready().now_or_never().is_some(), "{limits:?}");
            assert_eq!(intake.lock().take().len(), 3);
        }
    }
}

#[test]
fn a_batch_is_ready_before_the_buffer_is_full() {
    let limits = Limits { queue_bytes: 10 * size(100), ..Limits::default() };
    let intake = intake(&limits);
    for _ in 0..5 {
        push(&intake, 100);
    }
    assert!(intake.batch_ready().now_or_never().is_some());
    assert_eq!(intake.lock().drops.total(), 0);
}

#[test]
fn super_properties_count_towards_the_size_of_an_event() {
    let shared = Properties::new().with("app", "x".repeat(500));
    let limits = Limits { queue_bytes: size(0) + shared.held_bytes(), ..Limits::default() };
    let intake = intake(&limits);
    intake.lock().super_properties = Some(Arc::new(shared));
    push(&intake, 0);
    assert_eq!(intake.lock().len(), 1);
    push(&intake, 0);
    assert_eq!(intake.lock().drops.count(DropReason::QueueFull), 1);
}

#[test]
fn each_event_leaves_with_its_own_properties_in_the_order_of_capture() {
    let intake = intake(&Limits::default());
    let all = [text(3), Properties::new(), text(0).with("n", 1), text(5)];
    for _ in 0..2 {
        // Twice, because the second batch is in the memory of the first.
        for properties in &all {
            intake.push(event(), properties.borrowed());
        }
        let mut taken = intake.lock().take();
        let left: Vec<_> =
            taken.drain().map(|(_, properties)| Properties::from(properties)).collect();
        assert_eq!(left, all);
        intake.lock().replace(taken.cleared(all.len()));
    }
}
