//! This example simulates many devices, each with an account that opts in and sends events to an
//! OpenTelemetry collector, to test a collector of yours and what is behind it.
//!
//!     cargo run --example devices -- http://127.0.0.1:4318 --accounts 100
//!
//! The homeserver is a local server in this process. Each request to the collector is one line of
//! JSON on standard output, with its events and its result. `scripts/pipeline self-test` runs
//! this against a collector that it kills.

// For the futures of a client with encryption.
#![recursion_limit = "256"]
#![expect(clippy::print_stdout, reason = "the result of each request is its output")]

use std::{
    error::Error,
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use clap::Parser;
use futures_util::future::try_join_all;
use matrix_analytics::{
    Analytics, AnalyticsEvent, Backend, Batch, DeliveryError, ErasureEndpoint, Identity, Limits,
    Otlp, OutgoingEvent, Recipient, testing::AccountDataServer,
};
use matrix_analytics_examples::wait_for;
use serde::Serialize;
use serde_json::json;
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, sleep_until, timeout},
};

type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const EVENT_TYPE: &str = "org.example.devices.analytics";
/// The longest outage of the homeserver or of the collector that a device waits for.
const LONGEST_OUTAGE: Duration = Duration::from_secs(120);

/// Devices that send events to a collector.
#[derive(Clone, Parser)]
struct Arguments {
    /// Base URL of the collector
    endpoint: String,
    /// Number of accounts, each with one device
    #[arg(long, default_value_t = 10)]
    accounts: u32,
    /// Number of requests of each device
    #[arg(long, default_value_t = 2)]
    requests: u32,
    /// Number of events in each request
    #[arg(long, default_value_t = 25)]
    events: usize,
    /// Seconds within which the devices start
    #[arg(long, default_value_t = 1.0)]
    start_within: f64,
    /// Seconds between the requests of a device
    #[arg(long, default_value_t = 1.0)]
    interval: f64,
    /// One of this number of devices loses the first answer of the collector; 0 for none
    #[arg(long, default_value_t = 0)]
    lose_answers: u32,
    /// Once standard input ends, the last two accounts opt out, and ask this URL for the erasure of
    /// what the collector has got
    #[arg(long, value_name = "URL")]
    erase: Option<String>,
}

#[derive(Serialize)]
struct MessageSent {
    kind: Kind,
    members: u32,
    encrypted: bool,
    seconds: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Text,
    Image,
    Poll,
}

impl AnalyticsEvent for MessageSent {
    const NAME: &'static str = "MessageSent";
}

impl MessageSent {
    fn new(number: u32) -> Self {
        Self {
            kind: match number % 3 {
                0 => Kind::Text,
                1 => Kind::Image,
                _ => Kind::Poll,
            },
            members: number % 1000,
            encrypted: number.is_multiple_of(2),
            seconds: f64::from(number % 80) + 0.125,
        }
    }
}

/// The collector, whose answers are printed.
struct Witness {
    otlp: Otlp,
    /// Whether the device loses the next answer.
    loses_answer: AtomicBool,
}

impl Backend for Witness {
    fn name(&self) -> &'static str {
        self.otlp.name()
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let sent = unix_seconds();
        let mut result = self.otlp.send(batch).await;
        let outcome = match &result {
            Ok(()) if self.loses_answer.swap(false, Ordering::Relaxed) => {
                result = Err(DeliveryError::Transient("the answer is lost".into()));
                "lost"
            }
            Ok(()) => "delivered",
            Err(DeliveryError::Transient(_)) => "transient",
            Err(_) => "refused",
        };
        println!(
            "{}",
            json!({
                "pseudonym": batch.distinct_id(),
                "sent": sent,
                "answered": unix_seconds(),
                "outcome": outcome,
                "events": batch.events().map(described).collect::<Vec<_>>(),
            })
        );
        result
    }

    fn default_identity(&self) -> Identity {
        self.otlp.default_identity()
    }

    fn default_label(&self) -> Option<String> {
        self.otlp.default_label()
    }

    fn close(&self) {
        self.otlp.close();
    }

    async fn closed(&self) {
        self.otlp.closed().await;
    }
}

fn described(event: &OutgoingEvent) -> serde_json::Value {
    json!([event.uuid(), event.name(), event.properties()])
}

fn unix_seconds() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

#[tokio::main]
async fn main() -> Result {
    let arguments = Arguments::parse();
    let homeserver = AccountDataServer::start().await;
    let http = matrix_sdk::reqwest::Client::builder().no_proxy().build()?;
    let began = Instant::now();
    let mut devices = JoinSet::new();
    for number in 0..arguments.accounts {
        let device = Device {
            arguments: arguments.clone(),
            homeserver: homeserver.clone(),
            http: http.clone(),
            number,
        };
        let share = f64::from(number) / f64::from(arguments.accounts);
        let start = began + Duration::from_secs_f64(arguments.start_within * share);
        devices.spawn(async move {
            sleep_until(start).await;
            device.run().await
        });
    }
    let (mut delivered, mut leaving) = (0, Vec::new());
    while let Some(device) = devices.join_next().await {
        let (events, analytics) = device??;
        delivered += events;
        leaving.extend(analytics);
    }
    println!("{}", json!({ "delivered": delivered }));
    if !leaving.is_empty() {
        spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await??;
        try_join_all(leaving.iter().map(erase)).await?;
    }
    Ok(())
}

/// A device of an account of its own.
struct Device {
    arguments: Arguments,
    homeserver: AccountDataServer,
    /// Shared, because each client of its own would read the system's certificates.
    http: matrix_sdk::reqwest::Client,
    number: u32,
}

impl Device {
    /// Opts in, sends the events, and returns how many were delivered, which are all, and its
    /// analytics if the user is to opt out.
    async fn run(self) -> Result<(u64, Option<Analytics>)> {
        let Arguments { requests, events, interval, lose_answers, .. } = self.arguments;
        let login = self.homeserver.add_device(&format!("@u{}:example.org", self.number), "PHONE");
        let client = self.homeserver.client_with(&login, |client| client.http_client(self.http));
        let otlp = Otlp::builder(&self.arguments.endpoint, "devices").service_version("1.0.0");
        let loses_answer = lose_answers != 0 && self.number.is_multiple_of(lose_answers);
        let witness = Witness { otlp: otlp.build()?, loses_answer: AtomicBool::new(loses_answer) };
        let mut collector = Recipient::new(witness).label("pipeline");
        let leaves = self.number + 2 >= self.arguments.accounts;
        let erasure = self.arguments.erase.as_ref().filter(|_| leaves);
        if let Some(url) = erasure {
            collector = collector.erasure(ErasureEndpoint::new(url)?);
        }
        let analytics = Analytics::builder(client.await?, EVENT_TYPE)
            .backend(collector)
            .super_properties([("client.platform", "linux")])
            .limits(Limits::default().batch_max_events(events))
            // A new ID is held for twice this time.
            .request_timeout(Duration::from_secs(5))
            .build()
            .await?;
        opt_in(&analytics).await?;
        wait_for(&analytics, "an open gate", |state| state.is_open())
            .await
            .map_err(|error| error.to_string())?;

        for request in 0..requests {
            for event in 0..events {
                let number = self.number + request * 7 + u32::try_from(event)?;
                analytics.capture(&MessageSent::new(number));
            }
            delivered(&analytics).await?;
            sleep(Duration::from_secs_f64(interval)).await;
        }
        let stats = analytics.stats();
        let backend = &stats.backends[0];
        let expected = u64::from(requests) * u64::try_from(events)?;
        if !backend.is_balanced() || backend.delivered != expected {
            return Err(format!("{expected} events, but {backend:?}").into());
        }
        if erasure.is_some() {
            return Ok((expected, Some(analytics)));
        }
        analytics.shutdown(Duration::from_secs(1)).await;
        Ok((expected, None))
    }
}

/// Opts out, waits until the erasure is accepted, and prints its receipt and the statistics.
async fn erase(analytics: &Analytics) -> Result {
    let receipt = analytics.opt_out().erase_recipients().await;
    let known = receipt.identifiers().first().and_then(|known| known.reveal());
    let pseudonym = known.ok_or("nothing to erase")?;
    println!("{}", json!({ "opted_out": pseudonym, "erasure": receipt.erasures.first() }));
    let accepted = async {
        while analytics.stats().erasures.pending > 0 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LONGEST_OUTAGE, accepted).await.map_err(|_| "the erasure is not accepted")?;
    println!("{}", json!({ "opted_out": pseudonym, "erasure": analytics.stats().erasures }));
    Ok(())
}

/// Opts in, as often as it takes on a machine that is too busy to answer in time.
async fn opt_in(analytics: &Analytics) -> Result {
    let done = async {
        while analytics.opt_in().await.is_err() {
            sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(LONGEST_OUTAGE, done).await.map_err(|_| "the homeserver does not answer".into())
}

/// Waits until nothing is queued.
async fn delivered(analytics: &Analytics) -> Result {
    let all = async { while !analytics.flush(Duration::from_secs(5)).await.is_complete() {} };
    timeout(LONGEST_OUTAGE, all).await.map_err(|_| "the collector does not come back".into())
}
