//! Tests of the last check after every wipe: an event of another epoch that is still in a
//! queue is not sent.

use std::{
    sync::{Arc, Mutex},
    time::SystemTime,
};

use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    analytics_id::AnalyticsId,
    backend::{Backend, Batch, DeliveryError},
    event::{OutgoingEvent, Process, Properties},
    gate::{Gate, Phase},
    sink::{
        counters::DropSignal,
        lane::{FlushKind, Lane},
        limits::Limits,
        queue::Queued,
        stats::DropReason,
    },
    stop::Stop,
};

/// A backend that records the names of events.
#[derive(Clone, Default)]
struct Witness(Arc<Mutex<Vec<String>>>);

impl Backend for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let names = batch.events().map(|event| event.name().to_owned());
        self.0.lock().unwrap().extend(names);
        Ok(())
    }
}

fn queued(name: &'static str, epoch: u64) -> Queued {
    let event = OutgoingEvent {
        uuid: Uuid::new_v4(),
        name: name.into(),
        at: SystemTime::UNIX_EPOCH,
        properties: Properties::new(),
        user: None,
        epoch,
        process: Process::random(),
    };
    Queued::new(Arc::new(event), Instant::now())
}

#[tokio::test]
async fn a_queued_event_of_another_epoch_is_dropped_unsent() {
    let witness = Witness::default();
    let lane = Lane::new(witness.clone().into(), &DropSignal::default());
    let (gate, limits, stop) = (Gate::closed(), Limits::default(), Stop::default());
    gate.set(Phase::Open, 2, Some(AnalyticsId::random()));
    for event in [queued("Old", 1), queued("New", 2), queued("Newer", 3)] {
        lane.lock().push(event, &limits, |_| {});
    }
    let flush = lane.ask_flush(FlushKind::Flush, lane.last_event());
    tokio::select! {
        () = lane.run(&gate, &limits, &stop) => {}
        () = lane.flushed(flush) => {}
    }
    assert_eq!(*witness.0.lock().unwrap(), ["New"]);
    let state = lane.lock();
    assert_eq!((state.delivered, state.queue.len()), (1, 0));
    assert_eq!(state.drops.count(DropReason::Withdrawn), 2);
    assert_eq!(state.drops.total(), 2);
}
