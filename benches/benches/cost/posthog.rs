//! The cost of posthog-rs.

use std::time::Instant;

use posthog_rs::{Client, ClientOptionsBuilder, Event};
use tokio::runtime::Runtime;

use crate::{
    BURST, Settings,
    boxed::{self, AppEvent, Telemetry},
    event::{NAME, RoomJoined},
    measure,
    process::report,
    servers,
};

const ID: &str = "9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f";

struct App {
    runtime: Runtime,
    client: Client,
}

impl App {
    fn new(url: &str, configure: impl FnOnce(&mut ClientOptionsBuilder)) -> Self {
        let mut options = ClientOptionsBuilder::default();
        options.host(url).api_key("phc_bench".to_owned()).disable_geoip(true).is_server(false);
        configure(&mut options);
        let options = options.build().expect("options");
        let runtime = Runtime::new().expect("a runtime");
        let client = runtime.block_on(posthog_rs::client(options));
        Self { runtime, client }
    }

    fn roomy(url: &str) -> Self {
        Self::new(url, |options| {
            options.max_queue_size(2 * BURST as usize);
        })
    }

    fn capture(&self, n: u32) {
        self.send(&RoomJoined::new(n));
    }

    fn send(&self, properties: &RoomJoined) {
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

impl Telemetry for App {
    fn capture(&self, event: &AppEvent) {
        self.send(&event.into());
    }

    fn settle(&self) {
        self.flush();
    }
}

fn disabled(settings: &Settings) -> App {
    App::new(&settings.collector, |options| {
        options.disabled(true);
    })
}

pub(crate) fn boxed_denied(settings: &Settings) {
    boxed::back_to_back(settings.rounds, Box::new(disabled(settings)));
}

pub(crate) fn boxed_typed(settings: &Settings) {
    boxed::back_to_back(settings.peer_rounds, Box::new(App::roomy(&settings.collector)));
}

pub(crate) fn boxed_sparse(settings: &Settings) {
    boxed::sparse(settings.samples, Box::new(App::roomy(&settings.collector)));
}

pub(crate) fn denied(settings: &Settings) {
    let app = disabled(settings);
    measure::back_to_back(settings.rounds, |n| app.capture(n), || {});
}

pub(crate) fn named(settings: &Settings) {
    let app = App::roomy(&settings.collector);
    measure::back_to_back(settings.peer_rounds, |n| app.capture(n), || app.flush());
}

pub(crate) fn two_threads(settings: &Settings) {
    let app = App::roomy(&settings.collector);
    measure::two_threads(settings.peer_rounds, |n| app.capture(n), || app.flush());
}

pub(crate) fn sparse(settings: &Settings, pause: fn()) {
    let app = App::roomy(&settings.collector);
    app.capture(0);
    measure::now_and_then(settings.samples, |n| app.capture(n), pause);
}

pub(crate) fn queued(settings: &Settings) {
    let app = App::roomy(&settings.black_hole);
    measure::queued(settings.queued, |n| app.capture(n));
    leave();
}

pub(crate) fn to_collector(settings: &Settings) {
    let app = App::roomy(&settings.collector);
    app.capture(0);
    app.flush();
    measure::end_to_end(BURST, || {
        for n in 0..BURST {
            app.capture(n);
        }
        app.flush();
    });
}

pub(crate) fn burst(settings: &Settings) {
    let app = App::new(&settings.collector, |_| {});
    servers::collected(&settings.collector).expect("a count");
    for n in 0..BURST {
        app.capture(n);
    }
    app.flush();
    app.runtime.block_on(app.client.shutdown());
    let collected = servers::collected(&settings.collector).expect("a count");
    report("lost_percent", 100.0 * (f64::from(BURST) - collected) / f64::from(BURST));
}

pub(crate) fn shutdown(settings: &Settings, events: u32) {
    let app = App::new(&settings.black_hole, |_| {});
    for n in 0..events {
        app.capture(n);
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    let began = Instant::now();
    app.runtime.block_on(app.client.shutdown());
    report("seconds", began.elapsed().as_secs_f64());
    leave();
}

/// Ends the process without waiting for a server that never answers.
fn leave() -> ! {
    std::process::exit(0)
}
