use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use matrix_analytics::{
    Backend as _, DeliveryError, Matomo, MatomoBuilder, OutgoingEvent, PartialDelivery, Properties,
    testing::{
        self, DeliveryFailure, ReceivedEvent,
        contract::{self, BackendHarness, Limitation, Mode, Promises},
    },
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::support::{
    collector::{Answer, Collector, OK},
    matomo::{Matomo as Double, StoredEvent},
};

const ID: &str = "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa";
/// The first 64 bits of the SHA-256 of that ID.
const VISITOR: &str = "6c79e8fa29482e2f";
const OTHER_ID: &str = "b5580014037f1b4091fd769b7ef2ced3";

fn builder(endpoint: &str) -> MatomoBuilder {
    Matomo::builder(endpoint, 1)
        .category_property("area")
        .name_property("trigger")
        .value_property("milliseconds")
        .dimension(1, "room_size")
        .user_dimension(2, "app")
        .unique_id_dimension(3)
}

/// Returns an event that happened this number of seconds ago.
fn event(name: &str, properties: Properties, seconds: u64) -> OutgoingEvent {
    testing::event_at(name, properties, SystemTime::now() - Duration::from_secs(seconds))
}

fn plain(name: &str) -> OutgoingEvent {
    event(name, Properties::new(), 0)
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn missing(result: Result<(), DeliveryError>) -> PartialDelivery {
    match result {
        Ok(()) => PartialDelivery::default(),
        Err(DeliveryError::Partial(partial)) => partial,
        Err(error) => panic!("{error:?}"),
    }
}

struct Harness {
    collector: Collector,
    double: Double,
    backend: Matomo,
    limitations: &'static [Limitation],
}

impl Harness {
    /// Starts a Matomo, to which a backend with or without a dimension for unique IDs sends.
    fn start(has_unique_ids: bool) -> Self {
        const LIMITATIONS: &[Limitation] = &[
            Limitation::NoUniqueId,
            Limitation::NoEventOlderThan(Duration::from_secs(86_400)),
            Limitation::NoFractionOfSecond,
            Limitation::OnlyTexts {
                properties: &["half", "mark", "number", "quotes", "unicode"],
                user_properties: &["app", "first_app"],
            },
        ];
        let double = Double::default();
        let answering = double.clone();
        let collector = Collector::start_answering(move |request| {
            let (status, counts) =
                answering.track(&serde_json::from_slice(request).unwrap(), false);
            assert_eq!(status, 200, "an event that Matomo cannot store was sent");
            counts.to_string().into_bytes()
        });
        let builder = Matomo::builder(&collector.url(), 1)
            .category_property("unicode")
            .name_property("quotes")
            .value_property("half")
            .dimension(1, "mark")
            .dimension(2, "number")
            .user_dimension(4, "app")
            .user_dimension(5, "first_app");
        let (builder, limitations) = if has_unique_ids {
            (builder.unique_id_dimension(3), &LIMITATIONS[1..])
        } else {
            (builder, LIMITATIONS)
        };
        Self { collector, double, backend: builder.build().unwrap(), limitations }
    }
}

impl BackendHarness for Harness {
    type Backend = Matomo;

    fn promises(&self) -> Promises {
        let mut rejected = PartialDelivery::default();
        rejected.rejected = 2;
        let failures = [
            DeliveryFailure::Misconfigured,
            DeliveryFailure::Partial(rejected),
            DeliveryFailure::Rejected,
            DeliveryFailure::Throttled { retry_after: Some(Duration::from_secs(7)) },
            DeliveryFailure::TooLarge,
            DeliveryFailure::Transient,
            DeliveryFailure::Unauthorized,
        ];
        Promises {
            modes: failures.map(Mode::Refuse).into_iter().chain([Mode::Stall]).collect(),
            added_properties: &[],
            limitations: self.limitations,
            secrets: &[],
        }
    }

    fn backend(&self) -> &Matomo {
        &self.backend
    }

    async fn was_contacted(&self) -> bool {
        self.collector.seen().opened > 0
    }

    async fn received(&self) -> Vec<ReceivedEvent> {
        self.double.stored().into_iter().map(received).collect()
    }

    async fn set_mode(&self, mode: Mode) {
        self.collector.set_answer(match mode {
            Mode::Refuse(DeliveryFailure::Partial(_)) => {
                Answer::Body(r#"{"status":"success","tracked":0,"invalid":2}"#)
            }
            Mode::Refuse(failure) => Answer::With(match failure {
                DeliveryFailure::Rejected => "500 Internal Server Error",
                DeliveryFailure::Throttled { .. } => "429 Too Many\r\nretry-after: 7",
                DeliveryFailure::TooLarge => "413 Content Too Large",
                DeliveryFailure::Transient => "502 Bad Gateway",
                DeliveryFailure::Unauthorized => "401 Unauthorized",
                _ => "404 Not Found",
            }),
            Mode::Stall => Answer::Never,
            _ => OK,
        });
        if mode == Mode::Accept {
            self.collector.wait_until(|seen| seen.ended >= seen.stalled).await;
        }
    }

    async fn stalled(&self) {
        self.collector.wait_until(|seen| seen.stalled > 0).await;
    }
}

fn received(stored: StoredEvent) -> ReceivedEvent {
    let StoredEvent { visitor, time, category, action, name, value, dimensions } = stored;
    let dimension = |number: u32| {
        let escaped = dimensions.get(&number)?;
        Some(escaped.replace("&quot;", "\"").replace("&#039;", "'").replace("&amp;", "&"))
    };
    let texts = |pairs: &[(&str, Option<String>)]| -> Map<String, Value> {
        let found = pairs.iter().filter_map(|(key, text)| Some((*key, text.clone()?)));
        found.map(|(key, text)| (key.to_owned(), text.into())).collect()
    };
    ReceivedEvent {
        name: action,
        uuid: dimension(3).map_or(Uuid::nil(), |id| id.parse().unwrap()),
        distinct_id: visitor,
        time: UNIX_EPOCH + Duration::from_secs(time),
        properties: texts(&[
            ("unicode", (category != "event").then_some(category)),
            ("quotes", name),
            ("half", value.map(|value| value.to_string())),
            ("mark", dimension(1)),
            ("number", dimension(2)),
        ]),
        set: texts(&[("app", dimension(4))]),
        set_once: texts(&[("first_app", dimension(5))]),
    }
}

#[tokio::test]
async fn matomo_keeps_the_contract_with_and_without_a_dimension_for_unique_ids() {
    for has_unique_ids in [false, true] {
        contract::check(&Harness::start(has_unique_ids)).await;
    }
}

/// Posts a request that this crate would not send.
async fn post(endpoint: &str, body: &Value, header: (&str, &str)) -> reqwest::Response {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{endpoint}/matomo.php")).header(header.0, header.1);
    request.body(body.to_string()).send().await.unwrap()
}

async fn object(answer: reqwest::Response) -> Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

const NO_HEADER: (&str, &str) = ("x-none", "");

#[tokio::test]
async fn an_event_is_stored_as_documented() {
    let (double, server) = Double::start().await;
    let properties = Properties::new()
        .with("area", "rooms")
        .with("trigger", "Invite \"&\" <more>")
        .with("milliseconds", 12.5)
        .with("room_size", "Small")
        .with("other", "not sent");
    let full = testing::with_user_properties(
        event("RoomJoined", properties, 3600),
        Properties::new().with("app", "desktop"),
        Properties::new(),
    );
    let (full_id, time) = (full.uuid().to_string(), unix_seconds(full.time()));
    let opened = plain("Opened");
    let opened_id = opened.uuid().to_string();
    let backend = builder(&server.uri()).build().unwrap();
    backend.send(&testing::batch(ID, [full, opened])).await.unwrap();

    let stored = double.stored();
    let dimension = |number, value: &str| (number, value.to_owned());
    let expected = StoredEvent {
        visitor: VISITOR.to_owned(),
        time,
        category: "rooms".to_owned(),
        action: "RoomJoined".to_owned(),
        name: Some("Invite \"&\" <more>".to_owned()),
        value: Some(12.5),
        dimensions: BTreeMap::from([
            dimension(1, "Small"),
            dimension(2, "desktop"),
            dimension(3, &full_id),
        ]),
    };
    assert_eq!(stored[0], expected);
    assert_eq!((&*stored[1].category, &*stored[1].action), ("event", "Opened"));
    assert_eq!(stored[1].dimensions, BTreeMap::from([dimension(3, &opened_id)]));
    assert_eq!(stored.len(), 2);
    let sent = [
        "ca",
        "cdt",
        "cid",
        "dimension1",
        "dimension2",
        "dimension3",
        "e_a",
        "e_c",
        "e_n",
        "e_v",
        "idsite",
        "rec",
    ];
    assert_eq!(double.parameters(), sent);
    let request = &server.received_requests().await.unwrap()[0];
    let mut headers: Vec<_> = request.headers.keys().map(|name| name.as_str()).collect();
    headers.sort_unstable();
    assert_eq!(headers, ["accept", "content-length", "content-type", "host"]);
    assert_eq!(request.url.path(), "/matomo.php");
}

#[tokio::test]
async fn two_accounts_are_two_visitors() {
    let (double, server) = Double::start().await;
    let backend = builder(&server.uri()).build().unwrap();
    for id in [ID, OTHER_ID] {
        backend.send(&testing::batch(id, [plain("Opened")])).await.unwrap();
    }
    let visitors: Vec<_> = double.stored().into_iter().map(|event| event.visitor).collect();
    assert_eq!(visitors, [VISITOR, &OTHER_ID[..16]]);
    assert_eq!(visitors, [ID, OTHER_ID].map(|id| backend.stored_identifier(id)));
}

#[tokio::test]
async fn what_matomo_would_refuse_is_left_out_and_the_rest_is_stored() {
    let (double, server) = Double::start().await;
    let backend = builder(&server.uri()).build().unwrap();
    let long = |key: &'static str, bytes| Properties::from([(key, "x".repeat(bytes))]);
    let events = [
        plain("First"),
        event("Old", Properties::new(), 86_400),
        event("LongCategory", long("area", 5000), 0),
        event("LongName", long("trigger", 5000), 0),
        event("LongDimension", long("room_size", 251), 0),
        event("LargeValue", Properties::from([("milliseconds", 1e300)]), 0),
        event("AlmostOld", Properties::new(), 86_000),
        event("LongestName", long("trigger", 4000), 0),
        event("Future", Properties::new(), 0),
    ];
    let partial = missing(backend.send(&testing::batch(ID, events)).await);
    assert_eq!((partial.expired, partial.too_large, partial.rejected), (1, 4, 0));
    let actions: Vec<_> = double.stored().into_iter().map(|event| event.action).collect();
    assert_eq!(actions, ["First", "AlmostOld", "LongestName", "Future"]);
}

#[tokio::test]
async fn a_batch_without_an_event_that_can_be_sent_causes_no_request() {
    let (_double, server) = Double::start().await;
    let backend = builder(&server.uri()).build().unwrap();
    let events =
        [event("Old", Properties::new(), 100_000), event("Old", Properties::new(), 90_000)];
    let partial = missing(backend.send(&testing::batch(ID, events)).await);
    assert_eq!((partial.expired, partial.dropped()), (2, 2));
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_event_from_the_future_gets_the_time_of_its_arrival() {
    let (double, server) = Double::start().await;
    let backend = builder(&server.uri()).build().unwrap();
    let future = SystemTime::now() + Duration::from_secs(7200);
    let event = testing::event_at("Early", Properties::new(), future);
    backend.send(&testing::batch(ID, [event])).await.unwrap();
    assert!(double.stored()[0].time < unix_seconds(future));
}

#[tokio::test]
async fn a_site_that_does_not_exist_makes_every_event_invalid() {
    let (double, server) = Double::start().await;
    let backend = Matomo::new(&server.uri(), 2).unwrap();
    let batch = testing::batch(ID, [plain("First"), plain("Second")]);
    let partial = missing(backend.send(&batch).await);
    assert_eq!((partial.rejected, partial.dropped()), (2, 2));
    assert!(double.stored().is_empty());
}

#[tokio::test]
async fn the_same_batch_twice_is_stored_twice_with_the_same_unique_ids() {
    let (double, server) = Double::start().await;
    let backend = builder(&server.uri()).build().unwrap();
    let batch = testing::batch(ID, [plain("Opened")]);
    backend.send(&batch).await.unwrap();
    backend.send(&batch).await.unwrap();
    let stored = double.stored();
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[0].dimensions[&3], stored[1].dimensions[&3]);
}

#[tokio::test]
async fn a_dimension_that_the_site_does_not_have_is_dropped_by_matomo() {
    let (double, server) = Double::start().await;
    let backend = Matomo::builder(&server.uri(), 1).dimension(9, "size").dimension(4, "kind");
    let properties = Properties::from([("size", "large"), ("kind", "Space")]);
    let batch = testing::batch(ID, [event("Opened", properties, 0)]);
    backend.build().unwrap().send(&batch).await.unwrap();
    assert_eq!(double.stored()[0].dimensions, BTreeMap::from([(4, "Space".to_owned())]));
}

#[tokio::test]
async fn a_server_that_is_no_matomo_is_misconfigured() {
    let server = wiremock::MockServer::start().await;
    let backend = Matomo::new(&server.uri(), 1).unwrap();
    let error = backend.send(&testing::batch(ID, [plain("Opened")])).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Misconfigured(_)), "{error:?}");
}

/// The rows of the table of facts that this crate avoids by what it sends.
#[tokio::test]
async fn the_double_refuses_what_this_crate_never_sends() {
    let (double, server) = Double::start().await;
    let now = unix_seconds(SystemTime::now()).to_string();
    let good = json!({
        "idsite": "1", "rec": "1", "ca": "1", "cid": VISITOR, "cdt": now, "e_c": "c", "e_a": "a",
    });
    let with = |name: &str, value: &str| {
        let mut changed = good.clone();
        changed[name] = json!(value);
        changed
    };
    for (request, status, body) in [
        (good.clone(), 200, Some((1, 0))),
        (with("cid", "not hex, 16 long"), 200, Some((0, 1))),
        (with("cid", "6c79e8fa"), 200, Some((0, 1))),
        (with("cip", "192.0.2.1"), 200, Some((0, 1))),
        (with("rec", ""), 200, Some((1, 0))),
        (with("e_a", ""), 500, None),
        (with("e_n", &"x".repeat(5000)), 500, None),
    ] {
        let both = json!({ "requests": [good.clone(), request] });
        let answer = post(&server.uri(), &both, NO_HEADER).await;
        assert_eq!(answer.status(), status);
        if let Some((tracked, invalid)) = body {
            let answer = object(answer).await;
            let counts = json!({ "status": "success", "tracked": tracked + 1, "invalid": invalid });
            assert_eq!(answer, counts);
        }
    }
    // Both of the first request, one of the next four, and none of those with 500.
    assert_eq!(double.stored().len(), 6);
    let one = json!({ "requests": [good] });
    let bot = post(&server.uri(), &one, ("user-agent", "Googlebot/2.1")).await;
    let counts = json!({ "status": "success", "tracked": 1, "invalid": 0 });
    assert_eq!(object(bot).await, counts);
    for (body, header) in
        [(&one, ("content-encoding", "gzip")), (&json!({ "not": "it" }), NO_HEADER)]
    {
        let answer = post(&server.uri(), body, header).await.bytes().await.unwrap();
        assert!(answer.starts_with(b"GIF"));
    }
    assert_eq!(double.stored().len(), 6);
    let mut quiet = one;
    quiet["send_image"] = json!(0);
    assert_eq!(post(&server.uri(), &quiet, NO_HEADER).await.status(), 204);
}

#[test]
fn debug_output_shows_no_path() {
    let builder = Matomo::builder("https://example.org/hidden", 7);
    assert_eq!(format!("{builder:?}"), "MatomoBuilder { site_id: 7, timeout: 10s, .. }");
    let shown = format!("{:?}", builder.build().unwrap());
    assert_eq!(shown, r#"Matomo { endpoint: "https://example.org", site_id: 7, .. }"#);
}
