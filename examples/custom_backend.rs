//! This example implements a custom backend, the smallest that keeps the contract of [`Backend`].
//!
//!     cargo run --example custom_backend
//!
//! Its service takes one batch per TCP connection: a line of JSON for each event, and an empty line
//! at the end. It answers `taken` or `bad`.

#![expect(clippy::print_stdout, reason = "the service prints what it takes")]

use std::{
    error::Error,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use matrix_analytics::{
    Analytics, Backend, Batch, DeliveryError, OutgoingEvent, Properties, testing::AccountDataServer,
};
use matrix_analytics_examples::wait_for;
use serde_json::{Map, Value, json};
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A backend for the service at this address.
struct Lines(SocketAddr);

impl Backend for Lines {
    fn name(&self) -> &'static str {
        "lines"
    }

    // Do all the work inside this future, because the sink drops it when the user opts out. Here,
    // the drop closes the connection, and the service discards a batch without its empty line.
    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let person = batch.distinct_id();
        let lines: String = batch.events().map(|event| line(person, event)).collect();
        // The error variant determines whether and when the sink sends the batch again.
        let answer = self.exchange(&lines).await.map_err(|e| DeliveryError::Transient(e.into()))?;
        match &*answer {
            "taken" => Ok(()),
            "bad" => Err(DeliveryError::Rejected("the service does not take an event".into())),
            _ => Err(DeliveryError::Misconfigured("the service gave another answer".into())),
        }
    }

    fn host(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

impl Lines {
    /// Sends `lines` and an empty line, and returns the answer.
    async fn exchange(&self, lines: &str) -> io::Result<String> {
        let mut connection = TcpStream::connect(self.0).await?;
        connection.write_all(format!("{lines}\n").as_bytes()).await?;
        connection.shutdown().await?;
        let mut answer = String::new();
        // Limit what is read, because a service may send anything.
        connection.take(16).read_to_string(&mut answer).await?;
        if answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answer)
    }
}

/// Returns all that a service can know of an event. The unique ID lets it recognise an event that
/// is sent again because an answer was lost.
fn line(person: &str, event: &OutgoingEvent) -> String {
    let object = |of: &Properties| of.deserialize::<Map<String, Value>>().unwrap_or_default();
    let user = event.user_properties();
    let line = json!({
        "name": event.name(),
        "id": event.uuid().to_string(),
        "milliseconds": event.time().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
        "person": person,
        "properties": object(event.properties()),
        "set": object(user.values()),
        "set_once": object(user.initial_values()),
    });
    format!("{line}\n")
}

/// How the service treats a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(not(test), expect(dead_code, reason = "the tests use the others"))]
enum Reaction {
    Answer(&'static str),
    Close,
    /// Reads nothing, and closes when the reaction changes.
    Stall,
}

struct Seen {
    reaction: Reaction,
    connections: usize,
    stalled: usize,
    lines: Vec<Value>,
}

/// The service, on a loopback address.
struct Service {
    address: SocketAddr,
    seen: Arc<watch::Sender<Seen>>,
}

impl Service {
    async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let reaction = Reaction::Answer("taken");
        let nothing = Seen { reaction, connections: 0, stalled: 0, lines: Vec::new() };
        let seen = Arc::new(watch::Sender::new(nothing));
        let all = seen.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                all.send_modify(|seen| seen.connections += 1);
                tokio::spawn(serve(connection, all.clone()));
            }
        });
        Ok(Self { address, seen })
    }
}

async fn serve(mut connection: TcpStream, all: Arc<watch::Sender<Seen>>) -> io::Result<()> {
    let reaction = all.borrow().reaction;
    if reaction == Reaction::Stall {
        all.send_modify(|seen| seen.stalled += 1);
        let _ = all.subscribe().wait_for(|seen| seen.reaction != Reaction::Stall).await;
        return Ok(());
    }
    let mut text = String::new();
    connection.read_to_string(&mut text).await?;
    let (Some(lines), Reaction::Answer(answer)) = (text.strip_suffix("\n\n"), reaction) else {
        return Ok(());
    };
    if answer == "taken" {
        let lines: Vec<Value> = lines.lines().flat_map(serde_json::from_str).collect();
        println!("the service takes {} events", lines.len());
        all.send_modify(|seen| seen.lines.extend(lines));
    }
    connection.write_all(answer.as_bytes()).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = Service::start().await?;
    let homeserver = AccountDataServer::start().await;
    let device = homeserver.add_device("@alice:example.org", "PHONE");
    let client = homeserver.client(&device).await?;
    let builder = Analytics::builder(client, "org.example.lines.analytics")
        .request_timeout(Duration::from_millis(250));
    let analytics = builder.backend(Lines(service.address)).build().await?;

    analytics.opt_in().await?;
    wait_for(&analytics, "an open gate", |state| state.is_open()).await?;
    for name in ["RoomJoined", "MessageSent", "MessageSent"] {
        analytics.capture_named(name, Properties::new());
    }
    let report = analytics.shutdown(Duration::from_secs(2)).await;
    let taken = service.seen.borrow().lines.len();
    if (report.backends[0].delivered, taken) != (3, 3) {
        return Err("not every event was delivered".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use matrix_analytics::testing::{
        DeliveryFailure, ReceivedEvent,
        contract::{self, BackendHarness, Mode, Promises},
    };

    use super::*;

    struct Harness {
        service: Service,
        backend: Lines,
    }

    impl BackendHarness for Harness {
        type Backend = Lines;

        fn promises(&self) -> Promises {
            Promises {
                modes: vec![
                    Mode::Refuse(DeliveryFailure::Misconfigured),
                    Mode::Refuse(DeliveryFailure::Rejected),
                    Mode::Refuse(DeliveryFailure::Transient),
                    Mode::Stall,
                ],
                added_properties: &[],
                limitations: &[],
                secrets: &[],
            }
        }

        fn backend(&self) -> &Lines {
            &self.backend
        }

        async fn was_contacted(&self) -> bool {
            self.service.seen.borrow().connections > 0
        }

        async fn received(&self) -> Vec<ReceivedEvent> {
            self.service.seen.borrow().lines.iter().map(received).collect()
        }

        async fn set_mode(&self, mode: Mode) {
            let reaction = match mode {
                Mode::Refuse(DeliveryFailure::Misconfigured) => Reaction::Answer("220 mail"),
                Mode::Refuse(DeliveryFailure::Rejected) => Reaction::Answer("bad"),
                Mode::Refuse(_) => Reaction::Close,
                Mode::Stall => Reaction::Stall,
                _ => Reaction::Answer("taken"),
            };
            self.service.seen.send_modify(|seen| seen.reaction = reaction);
        }

        async fn stalled(&self) {
            let mut seen = self.service.seen.subscribe();
            seen.wait_for(|seen| seen.stalled > 0).await.unwrap();
        }
    }

    fn received(line: &Value) -> ReceivedEvent {
        let object = |key: &str| line[key].as_object().unwrap().clone();
        ReceivedEvent {
            name: line["name"].as_str().unwrap().to_owned(),
            uuid: line["id"].as_str().unwrap().parse().unwrap(),
            distinct_id: line["person"].as_str().unwrap().to_owned(),
            time: UNIX_EPOCH + Duration::from_millis(line["milliseconds"].as_u64().unwrap()),
            properties: object("properties"),
            set: object("set"),
            set_once: object("set_once"),
        }
    }

    #[tokio::test]
    async fn the_backend_keeps_the_contract() {
        let service = Service::start().await.unwrap();
        let backend = Lines(service.address);
        contract::check(&Harness { service, backend }).await;
    }
}
