//! A crate that sends events to a recipient.

use std::error::Error;

use tokio::runtime::Runtime;

use crate::{
    collector::counts,
    otel, ours, posthog,
    process::{processor_time, report},
};

/// A crate that sends events, as an app uses it.
pub(crate) trait Sender {
    /// Captures event `n`.
    fn capture(&self, n: u32);

    /// Sends what is waiting, and waits until it has arrived.
    fn flush(&self);
}

/// How a sender is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) collector: &'a str,
    pub(crate) homeserver: &'a str,
    pub(crate) runtime: &'a Runtime,
    /// The number of events in a request.
    pub(crate) batch: usize,
    /// Whether requests are compressed.
    pub(crate) gzip: bool,
}

fn start(name: &str, setup: Setup<'_>) -> Box<dyn Sender> {
    match name.trim_end_matches("+gzip") {
        "ours/matomo" => Box::new(ours::matomo(setup)),
        "ours/otlp" => Box::new(ours::otlp(setup, false)),
        "ours/otlp-json" => Box::new(ours::otlp(setup, true)),
        "ours/posthog" => Box::new(ours::posthog(setup)),
        "theirs/otlp" => Box::new(otel::start(setup, false)),
        "theirs/otlp-json" => Box::new(otel::start(setup, true)),
        "theirs/posthog" => Box::new(posthog::start(setup)),
        other => panic!("no sender {other}"),
    }
}

/// Measures `requests` requests of `batch` events each.
pub(crate) fn measure(
    name: &str,
    batch: u32,
    requests: u32,
    collector: &str,
    homeserver: &str,
) -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let setup = Setup {
        collector,
        homeserver,
        runtime: &runtime,
        batch: batch as usize,
        gzip: name.ends_with("+gzip"),
    };
    let sender = start(name, setup);
    let mut events = 0..;
    let mut send = |requests| {
        for _ in 0..requests {
            events.by_ref().take(batch as usize).for_each(|n| sender.capture(n));
            sender.flush();
        }
    };
    // The first request opens the connection.
    send(1);
    let (before, began) = (counts(collector), processor_time());
    send(requests);
    let (time, after) = (processor_time() - began, counts(collector));
    if after.requests - before.requests != f64::from(requests) {
        let found = after.requests - before.requests;
        return Err(format!("{name}: {found} requests instead of {requests}").into());
    }
    let sent = f64::from(requests * batch);
    report("bytes", (after.bytes - before.bytes) / sent);
    report("us", time.as_secs_f64() * 1e6 / sent);
    Ok(())
}
