//! A crate that sends events, and an app that uses it.

use matrix_sdk::Client;
use tokio::runtime::Runtime;

use crate::{
    client::{client, http_client},
    otel, ours, posthog,
};

/// A crate that sends events, as an app uses it.
pub(crate) trait Peer {
    /// Captures event `n`.
    fn capture(&self, n: u32);

    /// Sends what is waiting, and waits until it has arrived.
    fn flush(&self);
}

/// How a peer is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) collector: &'a str,
    pub(crate) runtime: &'a Runtime,
    /// Whether requests are compressed; as by default if not set.
    pub(crate) compressed: Option<bool>,
}

/// A Matrix client without telemetry.
struct Bare;

impl Peer for Bare {
    fn capture(&self, _n: u32) {}

    fn flush(&self) {}
}

/// Starts the peer with the given name, which may end in `+gzip` or `+plain`.
pub(crate) fn start(
    name: &str,
    collector: &str,
    runtime: &Runtime,
    client: &Client,
) -> Box<dyn Peer> {
    let (name, compression) = name.split_once('+').unwrap_or((name, ""));
    let compressed = match compression {
        "gzip" => Some(true),
        "plain" => Some(false),
        _ => None,
    };
    let setup = Setup { collector, runtime, compressed };
    match name {
        "bare" => Box::new(Bare),
        "durable" => Box::new(ours::start(setup, client.clone(), true)),
        "otel" => Box::new(otel::start(setup)),
        "ours" => Box::new(ours::start(setup, client.clone(), false)),
        "posthog" => Box::new(posthog::start(setup)),
        other => panic!("no peer {other}"),
    }
}

/// Creates an app: a runtime, and a Matrix client that has sent a request.
pub(crate) fn app(homeserver: &str) -> (Runtime, Client) {
    let runtime = Runtime::new().expect("a runtime");
    let client = runtime.block_on(async {
        let client = client(homeserver, &http_client(), 0).await;
        client.supported_versions().await.expect("an answer");
        client
    });
    (runtime, client)
}
