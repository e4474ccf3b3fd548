//! The contract finds every fault that a backend can have.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::FutureExt as _;
use matrix_analytics::{
    Backend, Batch, DeliveryError, OutgoingEvent, PartialDelivery,
    testing::{
        DeliveryFailure, ReceivedEvent,
        contract::{self, BackendHarness, Limitation, Mode, Promises},
    },
};
use tokio::sync::Notify;
use uuid::Uuid;

const DAY: Duration = Duration::from_secs(86_400);
const SECRET: &str = "key-5e0c";

/// A backend and its service, which keep the contract apart from one fault.
struct Faulty {
    fault: &'static str,
    limitations: &'static [Limitation],
    mode: Mutex<Mode>,
    received: Mutex<Vec<ReceivedEvent>>,
    /// The events of batches that were refused.
    refused: Mutex<Vec<Uuid>>,
    /// The events of a `send` that was dropped.
    dropped: Mutex<Vec<ReceivedEvent>>,
    has_sent: AtomicBool,
    is_closed: AtomicBool,
    stalled: Notify,
}

impl Faulty {
    fn new(fault: &'static str, limitations: &'static [Limitation]) -> Self {
        Self {
            fault,
            limitations,
            mode: Mutex::new(Mode::Accept),
            received: Mutex::default(),
            refused: Mutex::default(),
            dropped: Mutex::default(),
            has_sent: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            stalled: Notify::new(),
        }
    }

    fn log(&self) -> MutexGuard<'_, Vec<ReceivedEvent>> {
        self.received.lock().unwrap()
    }

    fn has(&self, limitation: Limitation) -> bool {
        self.limitations.contains(&limitation)
    }

    /// Returns what the service receives of `event`.
    fn received_form(&self, batch: &Batch, event: &OutgoingEvent) -> ReceivedEvent {
        let person = self.stored_identifier(batch.distinct_id());
        let mut received = ReceivedEvent::new(&person, event);
        if self.has(Limitation::NoUniqueId) && self.fault != "has a unique ID after all" {
            received.uuid = Uuid::nil();
        }
        if self.has(Limitation::NoFractionOfSecond) && self.fault != "has fractions after all" {
            received.time -= Duration::from_millis(fraction(received.time).into());
        }
        if self.has(Limitation::NoUserProperties) && self.fault != "sends about the person" {
            received.set.clear();
            received.set_once.clear();
        }
        if self.has(ONLY_TEXTS) && self.fault != "sends other properties" {
            let ReceivedEvent { properties, set, set_once, .. } = &mut received;
            let keeps_numbers = self.fault == "sends numbers";
            for (members, keys) in
                [(properties, &["half", "mark"][..]), (set, &["app"]), (set_once, &["app"])]
            {
                members.retain(|key, _| keys.contains(&&**key));
                for value in members.values_mut().filter(|value| value.is_f64() && !keeps_numbers) {
                    *value = value.to_string().into();
                }
            }
        }
        match self.fault {
            "changes the person" => received.distinct_id = "another ID".to_owned(),
            "changes the unique ID" => received.uuid = Uuid::new_v4(),
            "changes the name" => received.name.make_ascii_lowercase(),
            "cuts the time" => {
                received.time -= Duration::from_millis(fraction(received.time).into());
            }
            "adds a property" => {
                received.properties.insert("host".to_owned(), "added".into());
            }
            "loses user properties" => received.set.clear(),
            "loses numbers" => received.properties.retain(|_, value| !value.is_u64()),
            _ => {}
        }
        received
    }

    fn accept(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let mut partial = PartialDelivery::default();
        let mut events = Vec::new();
        for event in batch.events() {
            let is_old = event.time() < SystemTime::now() - DAY;
            if is_old && self.has(Limitation::NoEventOlderThan(DAY)) {
                match self.fault {
                    "sends what is too old" => events.push(self.received_form(batch, event)),
                    "loses what is too old" => {}
                    "rejects what is too old" => partial.rejected += 1,
                    _ => partial.expired += 1,
                }
            } else {
                events.push(self.received_form(batch, event));
            }
        }
        match self.fault {
            "loses an event" if events.len() > 1 => drop(events.remove(0)),
            "changes the order" => events.reverse(),
            "sends twice" => events.extend(events.clone()),
            "loses a batch with old events" if partial.expired > 0 => events.clear(),
            "drops a batch that it knows" => {
                let known = self.log().clone();
                events.retain(|event| known.iter().all(|other| other.uuid != event.uuid));
            }
            _ => {}
        }
        self.log().extend(events);
        if partial.dropped() == 0 { Ok(()) } else { Err(DeliveryError::Partial(partial)) }
    }

    fn refuse(&self, batch: &Batch, failure: DeliveryFailure) -> Result<(), DeliveryError> {
        let shown = match self.fault {
            "accepts what is refused" => return self.accept(batch),
            "reports no refusal" => return Ok(()),
            "reports another failure" => return Err(DeliveryFailure::Rejected.into()),
            "shows the person" => Some(batch.distinct_id().to_owned()),
            "shows a property" => Some(batch.events().next().unwrap().properties().to_json()),
            "shows the secret" => Some(SECRET.to_owned()),
            _ => None,
        };
        if let Some(shown) = shown {
            return Err(DeliveryError::Transient(shown.into()));
        }
        let arrives = match failure {
            DeliveryFailure::Partial(_) if self.fault == "delivers more than it says" => 2,
            DeliveryFailure::Partial(_) => 1,
            _ if self.fault == "delivers a part of what failed" => 1,
            _ => 0,
        };
        let events = batch.events().map(|event| self.received_form(batch, event));
        self.log().extend(events.take(arrives));
        self.refused.lock().unwrap().extend(batch.events().map(OutgoingEvent::uuid));
        Err(failure.into())
    }
}

/// Returns the milliseconds of `time` after its last whole second.
fn fraction(time: SystemTime) -> u32 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_millis()
}

const ONLY_TEXTS: Limitation =
    Limitation::OnlyTexts { properties: &["half", "mark"], user_properties: &["app"] };

impl Backend for Faulty {
    fn name(&self) -> &'static str {
        match self.fault {
            "has no name" => " ",
            "changes its name" if self.has_sent.load(Ordering::Relaxed) => "other",
            _ => "faulty",
        }
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        self.has_sent.store(true, Ordering::Relaxed);
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(DeliveryFailure::Transient.into());
        }
        let mode = *self.mode.lock().unwrap();
        match mode {
            Mode::Refuse(failure) => self.refuse(batch, failure),
            Mode::Stall if self.fault == "fails instead of waiting" => {
                Err(DeliveryFailure::Transient.into())
            }
            Mode::Stall if self.fault == "delivers to a service that stalls" => Ok(()),
            Mode::Stall => {
                let events = batch.events().map(|event| self.received_form(batch, event));
                self.dropped.lock().unwrap().extend(events);
                self.stalled.notify_one();
                std::future::pending().await
            }
            _ => {
                let dropped = std::mem::take(&mut *self.dropped.lock().unwrap());
                if self.fault == "delivers after a drop" {
                    self.log().extend(dropped);
                }
                let refused = self.refused.lock().unwrap().clone();
                if self.fault == "never repeats"
                    && batch.events().any(|event| refused.contains(&event.uuid()))
                {
                    return Err(DeliveryFailure::Rejected.into());
                }
                self.accept(batch)
            }
        }
    }

    fn carries_user_properties(&self, _event: &OutgoingEvent) -> bool {
        match self.fault {
            "denies what it carries" => false,
            "claims to carry" => true,
            _ => !self.has(Limitation::NoUserProperties),
        }
    }

    fn stored_identifier(&self, distinct_id: &str) -> String {
        if self.fault == "mixes accounts" { "one" } else { distinct_id }.to_owned()
    }

    fn host(&self) -> Option<String> {
        Some(match self.fault {
            "has a path in its host" => "example.org/path".to_owned(),
            "has a user in its host" => "user@example.org".to_owned(),
            _ => "example.org:8080".to_owned(),
        })
    }

    fn render(&self, batch: &Batch) -> Option<String> {
        let name = batch.events().next()?.name().to_owned();
        match self.fault {
            "has an empty preview" => Some(String::new()),
            "has a secret in its preview" => Some(format!("{name} {SECRET}")),
            "sends a preview" => self.accept(batch).ok().map(|()| name),
            _ => Some(name),
        }
    }

    fn close(&self) {
        self.is_closed.store(self.fault == "does not work after `close`", Ordering::Relaxed);
    }

    async fn closed(&self) {
        if self.fault == "is never closed" {
            std::future::pending::<()>().await;
        }
    }
}

impl BackendHarness for Faulty {
    type Backend = Self;

    fn promises(&self) -> Promises {
        let mut rejected = PartialDelivery::default();
        rejected.rejected = 1;
        let mut modes = vec![
            Mode::Refuse(DeliveryFailure::Transient),
            Mode::Refuse(DeliveryFailure::Partial(rejected)),
            Mode::Stall,
        ];
        if self.has(Limitation::NoSecondAttempt) != (self.fault == "refuses for good") {
            modes.push(Mode::Refuse(DeliveryFailure::Refused { status: 500 }));
        }
        Promises {
            modes,
            added_properties: if self.fault == "lacks what it adds" { &["$lib"] } else { &[] },
            limitations: self.limitations,
            secrets: &[SECRET],
        }
    }

    fn backend(&self) -> &Self {
        self
    }

    async fn was_contacted(&self) -> bool {
        self.fault == "connects at once" || self.has_sent.load(Ordering::Relaxed)
    }

    async fn received(&self) -> Vec<ReceivedEvent> {
        self.log().clone()
    }

    async fn set_mode(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    async fn stalled(&self) {
        self.stalled.notified().await;
    }
}

/// Returns the message with which the contract finds the fault.
async fn found(fault: &'static str, limitations: &'static [Limitation]) -> String {
    let faulty = Faulty::new(fault, limitations);
    let result = AssertUnwindSafe(contract::check(&faulty)).catch_unwind().await;
    let Err(panic) = result else { panic!("{fault:?} was not found") };
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap().to_owned()
}

#[tokio::test]
async fn the_contract_finds_every_fault() {
    for (fault, message) in [
        ("has no name", "a backend needs a name"),
        ("changes its name", "the name of a backend never changes"),
        ("has a path in its host", "more than a host"),
        ("has a user in its host", "more than a host"),
        ("connects at once", "contacted before the first `send`"),
        ("loses an event", "number of events received"),
        ("sends twice", "number of events received"),
        ("drops a batch that it knows", "the second time: number of events received"),
        ("changes the order", "differs from what was sent"),
        ("changes the person", "differs from what was sent"),
        ("changes the unique ID", "differs from what was sent"),
        ("changes the name", "differs from what was sent"),
        ("cuts the time", "differs from what was sent"),
        ("adds a property", "differs from what was sent"),
        ("lacks what it adds", "the declared property \"$lib\" is missing"),
        ("loses user properties", "differs from what was sent"),
        ("loses numbers", "differs from what was sent"),
        ("denies what it carries", "says that it carries the user properties"),
        ("mixes accounts", "two accounts have the same identifier"),
        ("has an empty preview", "does not show the event"),
        ("has a secret in its preview", "a preview shows a secret"),
        ("sends a preview", "a preview was sent"),
        ("does not work after `close`", "was not delivered"),
        ("refuses for good", "belong together"),
        ("accepts what is refused", "was reported as a delivery"),
        ("reports no refusal", "was reported as a delivery"),
        ("reports another failure", "another kind of failure"),
        ("shows the person", "an error shows the identifier"),
        ("shows a property", "an error shows a property"),
        ("shows the secret", "an error shows a secret"),
        ("delivers a part of what failed", "accepted in a batch that failed as Transient"),
        ("delivers more than it says", "accepted in a batch that failed as Partial"),
        ("never repeats", "a batch after the refusal Transient was not delivered"),
        ("fails instead of waiting", "failed before it was dropped"),
        ("delivers to a service that stalls", "was delivered to a service that stalls"),
        ("delivers after a drop", "arrived after the drop"),
    ] {
        let found = found(fault, &[]).await;
        assert!(found.contains(message), "{fault:?} was found as {found:?}");
    }
    contract::check(&Faulty::new("none", &[])).await;
}

#[tokio::test]
async fn the_contract_finds_a_backend_that_does_not_keep_to_its_limitations() {
    use Limitation::{
        NoEventOlderThan, NoFractionOfSecond, NoSecondAttempt, NoUniqueId, NoUserProperties,
    };

    const DIFFERS: &str = "differs from what was sent";
    const EXPIRED: &str = "was not reported as partly expired";
    const TOO_OLD: &[Limitation] = &[NoEventOlderThan(DAY)];
    for (fault, limitations, message) in [
        ("has a unique ID after all", &[NoUniqueId][..], DIFFERS),
        ("has fractions after all", &[NoFractionOfSecond], DIFFERS),
        ("sends about the person", &[NoUserProperties], DIFFERS),
        ("claims to carry", &[NoUserProperties], "says that it carries the user properties"),
        ("sends other properties", &[ONLY_TEXTS], DIFFERS),
        ("sends numbers", &[ONLY_TEXTS], DIFFERS),
        ("sends what is too old", TOO_OLD, EXPIRED),
        ("loses what is too old", TOO_OLD, EXPIRED),
        ("rejects what is too old", TOO_OLD, EXPIRED),
        ("loses a batch with old events", TOO_OLD, "the events that are not too old"),
        ("refuses for good", &[NoSecondAttempt], "belong together"),
    ] {
        let found = found(fault, limitations).await;
        assert!(found.contains(message), "{fault:?} was found as {found:?}");
    }
    // Each one alone, and all together.
    let all = &[
        NoEventOlderThan(DAY),
        NoFractionOfSecond,
        NoSecondAttempt,
        NoUniqueId,
        NoUserProperties,
        ONLY_TEXTS,
    ];
    contract::check(&Faulty::new("none", all)).await;
    for limitation in all {
        contract::check(&Faulty::new("none", std::slice::from_ref(limitation))).await;
    }
}

#[tokio::test]
async fn the_contract_finds_a_limitation_that_a_backend_does_not_declare() {
    for limitation in [
        Limitation::NoEventOlderThan(DAY),
        Limitation::NoFractionOfSecond,
        Limitation::NoSecondAttempt,
        Limitation::NoUniqueId,
        Limitation::NoUserProperties,
        ONLY_TEXTS,
    ] {
        let limited = Undeclared(Faulty::new("none", Box::leak(Box::new([limitation]))));
        let result = AssertUnwindSafe(contract::check(&limited)).catch_unwind().await;
        assert!(result.is_err(), "{limitation:?} was not found");
    }
}

#[tokio::test(start_paused = true)]
async fn the_contract_finds_a_backend_that_is_never_closed() {
    let found = found("is never closed", &[]).await;
    assert!(found.contains("`closed` does not end"), "{found}");
}

/// A backend with limitations that its harness does not declare.
struct Undeclared(Faulty);

impl BackendHarness for Undeclared {
    type Backend = Faulty;

    fn promises(&self) -> Promises {
        Promises { limitations: &[], ..self.0.promises() }
    }

    fn backend(&self) -> &Faulty {
        &self.0
    }

    async fn was_contacted(&self) -> bool {
        self.0.was_contacted().await
    }

    async fn received(&self) -> Vec<ReceivedEvent> {
        self.0.received().await
    }

    async fn set_mode(&self, mode: Mode) {
        self.0.set_mode(mode).await;
    }

    async fn stalled(&self) {
        self.0.stalled().await;
    }
}
