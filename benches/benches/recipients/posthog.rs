//! posthog-rs.

use posthog_rs::{CaptureCompression, Client, ClientOptionsBuilder, Event};
use tokio::runtime::Handle;

use crate::{
    event::{NAME, RoomJoined},
    sender::{Sender, Setup},
};

const ID: &str = "9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f";

struct PostHog {
    runtime: Handle,
    client: Client,
}

pub(crate) fn start(setup: Setup<'_>) -> impl Sender + use<> {
    let mut options = ClientOptionsBuilder::default();
    options.host(setup.collector).api_key("phc_bench".to_owned());
    options.disable_geoip(true).is_server(false);
    options.flush_at(setup.batch).max_batch_size(setup.batch);
    if setup.gzip {
        options.capture_compression(CaptureCompression::Gzip);
    }
    let client = setup.runtime.block_on(posthog_rs::client(options.build().expect("options")));
    PostHog { runtime: setup.runtime.handle().clone(), client }
}

impl Sender for PostHog {
    fn capture(&self, n: u32) {
        let properties = RoomJoined::new(n);
        let mut event = Event::new(NAME, ID);
        for result in [
            event.insert_prop("trigger", properties.trigger),
            event.insert_prop("room_type", properties.room_type),
            event.insert_prop("members", properties.members),
            event.insert_prop("is_dm", properties.is_dm),
            event.insert_prop("seconds", properties.seconds),
        ] {
            result.expect("a property");
        }
        self.client.capture(event);
    }

    fn flush(&self) {
        self.runtime.block_on(self.client.flush());
    }
}
