//! A view of a device's sync that does not depend on the library.

use std::sync::{Arc, Mutex, PoisonError};

use matrix_analytics::ELEMENT_EVENT_TYPE;
use matrix_sdk::{Client, event_handler::RawEvent, ruma::events::AnyGlobalAccountDataEvent};
use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use crate::{
    user::FENCE_TYPE,
    waiting::{Result, within},
};

pub(super) struct Sight {
    fence: watch::Receiver<u64>,
    shown: Arc<Mutex<Vec<(Instant, Value)>>>,
}

impl Sight {
    pub(super) fn of(client: &Client) -> Self {
        let (reach, fence) = watch::channel(0);
        let (reach, shown) = (Arc::new(reach), Arc::<Mutex<Vec<_>>>::default());
        let showing = shown.clone();
        client.add_event_handler(move |_: AnyGlobalAccountDataEvent, raw: RawEvent| {
            let (reach, showing) = (reach.clone(), showing.clone());
            async move {
                let event: Value = serde_json::from_str(raw.get()).unwrap_or_default();
                if event["type"] == FENCE_TYPE {
                    reach.send_replace(event["content"]["number"].as_u64().unwrap_or_default());
                } else if event["type"] == ELEMENT_EVENT_TYPE {
                    let mut shown = showing.lock().unwrap_or_else(PoisonError::into_inner);
                    shown.push((Instant::now(), event["content"].clone()));
                }
            }
        });
        Self { fence, shown }
    }

    /// Waits until sync has shown the fence.
    pub(super) async fn reaches(&self, fence: u64) -> Result {
        let mut reached = self.fence.clone();
        within("sync to show a fence", reached.wait_for(|at| *at >= fence)).await??;
        Ok(())
    }

    /// Returns each content of the analytics event in sync, with the time.
    pub(super) fn shown(&self) -> Vec<(Instant, Value)> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
