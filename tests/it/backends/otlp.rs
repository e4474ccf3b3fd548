use std::time::{Duration, SystemTime, UNIX_EPOCH};

use matrix_analytics::{
    Backend as _, Batch, DeliveryError, Otlp, OtlpBuildError, OtlpBuilder, OtlpEncoding,
    PartialDelivery, Properties,
    testing::{
        self, DeliveryFailure, ReceivedEvent,
        contract::{self, BackendHarness, Limitation, Mode, Promises},
    },
};
use serde_json::{Map, Value};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{any, method, path},
};

use super::text;
use crate::support::{
    collector::{Answer, Collector, OK},
    protobuf,
};

const ID: &str = "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa";
const TOKEN: &str = "Bearer 7c0a93";

fn builder(endpoint: &str) -> OtlpBuilder {
    Otlp::builder(endpoint, "example-client").service_version("1.4.0")
}

fn opened() -> Batch {
    testing::batch(ID, [testing::event("Opened", Properties::new().with("trigger", "Icon"))])
}

/// Returns what an attribute says.
fn flat(value: &Value) -> Value {
    let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
    match &**kind {
        "intValue" => text(value).parse::<i64>().unwrap().into(),
        "arrayValue" => value["values"].as_array().unwrap().iter().map(flat).collect(),
        // A number above `i64::MAX` is a text.
        "stringValue" if text(value) == u64::MAX.to_string() => u64::MAX.into(),
        _ => value.clone(),
    }
}

fn received(record: &Value) -> ReceivedEvent {
    let mut received = ReceivedEvent {
        name: text(&record["eventName"]),
        uuid: uuid::Uuid::nil(),
        distinct_id: String::new(),
        time: time(&record["timeUnixNano"]),
        properties: Map::new(),
        set: Map::new(),
        set_once: Map::new(),
    };
    assert_eq!(record["observedTimeUnixNano"], record["timeUnixNano"]);
    for attribute in record["attributes"].as_array().unwrap() {
        let (key, value) = (text(&attribute["key"]), flat(&attribute["value"]));
        let replaced = if key == "log.record.uid" {
            received.uuid = text(&value).parse().unwrap();
            None
        } else if key == "enduser.pseudo.id" {
            received.distinct_id = text(&value);
            None
        } else if let Some(key) = key.strip_prefix("user_property.") {
            received.set.insert(key.to_owned(), value)
        } else if let Some(key) = key.strip_prefix("initial_user_property.") {
            received.set_once.insert(key.to_owned(), value)
        } else {
            received.properties.insert(key, value)
        };
        assert_eq!(replaced, None, "an attribute is there twice");
    }
    received
}

fn time(nanoseconds: &Value) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(text(nanoseconds).parse().unwrap())
}

struct Harness {
    collector: Collector,
    backend: Otlp,
    encoding: OtlpEncoding,
}

impl BackendHarness for Harness {
    type Backend = Otlp;

    fn promises(&self) -> Promises {
        let failures = [
            DeliveryFailure::Partial(all_rejected()),
            DeliveryFailure::Refused { status: 404 },
            DeliveryFailure::Refused { status: 500 },
            DeliveryFailure::Throttled { retry_after: Some(Duration::from_secs(7)) },
            DeliveryFailure::TooLarge,
            DeliveryFailure::Transient,
        ];
        Promises {
            modes: failures.map(Mode::Refuse).into_iter().chain([Mode::Stall]).collect(),
            added_properties: &[],
            limitations: &[Limitation::NoSecondAttempt],
            secrets: &[TOKEN],
        }
    }

    fn backend(&self) -> &Otlp {
        &self.backend
    }

    async fn was_contacted(&self) -> bool {
        self.collector.seen().opened > 0
    }

    async fn received(&self) -> Vec<ReceivedEvent> {
        let mut events = Vec::new();
        for body in self.collector.seen().requests {
            let records = match self.encoding {
                OtlpEncoding::Json => {
                    let body: Value = serde_json::from_slice(&body).unwrap();
                    let records = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
                    records.as_array().unwrap().clone()
                }
                _ => protobuf::log_records(&body),
            };
            events.extend(records.iter().map(received));
        }
        events
    }

    async fn set_mode(&self, mode: Mode) {
        self.collector.set_answer(match mode {
            Mode::Refuse(DeliveryFailure::Partial(_)) => {
                Answer::Body(r#"{"partialSuccess":{"rejectedLogRecords":"2"}}"#)
            }
            Mode::Refuse(failure) => Answer::With(match failure {
                DeliveryFailure::Refused { status: 500 } => "500 Internal Server Error",
                DeliveryFailure::Throttled { .. } => "503 Unavailable\r\nretry-after: 7",
                DeliveryFailure::TooLarge => "413 Content Too Large",
                DeliveryFailure::Transient => "502 Bad Gateway",
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

/// Returns what is reported of a batch of two events if the collector takes none.
fn all_rejected() -> PartialDelivery {
    let mut partial = PartialDelivery::default();
    partial.rejected = 2;
    partial
}

#[tokio::test]
async fn otlp_keeps_the_contract_in_every_encoding() {
    for encoding in [OtlpEncoding::Json, OtlpEncoding::Protobuf] {
        for gzip in [false, true] {
            let collector = Collector::start_answering(|_request| b"{}".to_vec());
            let builder = builder(&collector.url()).encoding(encoding);
            #[cfg(feature = "gzip")]
            let builder = builder.gzip(gzip);
            let backend = builder.header("authorization", TOKEN).build().unwrap();
            contract::check(&Harness { collector, backend, encoding }).await;
            if cfg!(not(feature = "gzip")) && !gzip {
                break;
            }
        }
    }
}

/// Starts a collector that answers every request for logs with `answer`.
async fn answering(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    let only = Mock::given(method("POST")).and(path("/v1/logs"));
    only.respond_with(answer).mount(&server).await;
    server
}

#[tokio::test]
async fn the_headers_are_those_of_the_encoding_and_those_of_the_app() {
    let server = answering(ResponseTemplate::new(200)).await;
    for (encoding, content_type) in [
        (OtlpEncoding::Protobuf, "application/x-protobuf"),
        (OtlpEncoding::Json, "application/json"),
    ] {
        let builder = builder(&server.uri()).encoding(encoding).header("X-Key", TOKEN);
        #[cfg(feature = "gzip")]
        let builder = builder.gzip(false);
        builder.build().unwrap().send(&opened()).await.unwrap();
        let requests = server.received_requests().await.unwrap();
        let headers = &requests.last().unwrap().headers;
        let mut names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "content-length", "content-type", "host", "x-key"]);
        assert_eq!(headers["content-type"], content_type);
        assert_eq!(headers["x-key"], TOKEN);
    }
}

#[cfg(feature = "gzip")]
#[tokio::test]
async fn bodies_are_compressed_unless_the_app_turns_that_off() {
    use crate::support::collector::unzipped;

    let server = answering(ResponseTemplate::new(200)).await;
    let batch = opened();
    builder(&server.uri()).build().unwrap().send(&batch).await.unwrap();
    builder(&server.uri()).gzip(false).build().unwrap().send(&batch).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests[0].headers["content-encoding"], "gzip");
    assert_eq!(requests[1].headers.get("content-encoding"), None);
    assert_eq!(unzipped(&requests[0].body), requests[1].body);
}

#[tokio::test]
async fn the_text_that_is_shown_is_the_request_in_json() {
    let server = answering(ResponseTemplate::new(200)).await;
    let builder = builder(&server.uri()).encoding(OtlpEncoding::Json);
    #[cfg(feature = "gzip")]
    let builder = builder.gzip(false);
    let (backend, batch) = (builder.build().unwrap(), opened());
    backend.send(&batch).await.unwrap();
    let sent = &server.received_requests().await.unwrap()[0].body;
    assert_eq!(backend.render(&batch).unwrap().as_bytes(), sent);
}

#[tokio::test]
async fn rejected_records_are_counted_in_both_encodings() {
    for (body, rejected) in [
        (&br#"{"partialSuccess":null}"#[..], 0),
        (br#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"7c0a93"}}"#, 2),
        (b"\x0a\x0a\x08\x02\x12\x067c0a93", 2),
        (b"", 0),
    ] {
        let server = answering(ResponseTemplate::new(200).set_body_bytes(body)).await;
        let result = builder(&server.uri()).build().unwrap().send(&opened()).await;
        match result {
            Ok(()) => assert_eq!(rejected, 0),
            Err(DeliveryError::Partial(partial)) => {
                assert_eq!((partial.rejected, partial.dropped()), (rejected, rejected));
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_collector_with_another_path_refuses_the_batch_for_good() {
    let server = answering(ResponseTemplate::new(200)).await;
    let backend = builder(&format!("{}/elsewhere", server.uri())).build().unwrap();
    let error = backend.send(&opened()).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Refused { status: 404, .. }), "{error:?}");
    assert!(error.to_string().contains("404"), "{error}");
}

#[tokio::test]
async fn nothing_is_sent_before_the_first_batch_and_the_connection_is_reused() {
    let collector = Collector::start();
    let backend = builder(&collector.url()).build().unwrap();
    assert_eq!(collector.seen().opened, 0);
    for _ in 0..3 {
        backend.send(&opened()).await.unwrap();
    }
    assert_eq!(collector.seen().opened, 1);
    backend.close();
    collector.wait_until(|seen| seen.ended == 1).await;
}

#[tokio::test]
async fn a_header_of_this_backend_cannot_be_replaced() {
    for (name, value) in [
        ("content-type", "text/plain"),
        ("Content-Length", "1"),
        ("content-encoding", "br"),
        ("host", "example.org"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("", "value"),
        ("with space", "value"),
        ("x-key", "with\nbreak"),
    ] {
        let error = builder("http://127.0.0.1:1").header(name, value).build().unwrap_err();
        assert!(matches!(error, OtlpBuildError::Header), "{name}: {error:?}");
    }
}

#[test]
fn debug_output_shows_neither_a_header_nor_the_path() {
    let builder = builder("https://example.org/hidden").header("authorization", TOKEN);
    let shown = format!("{builder:?}");
    assert_eq!(shown, "OtlpBuilder { encoding: Protobuf, timeout: 10s, .. }");
    let shown = format!("{:?}", builder.build().unwrap());
    assert_eq!(shown, r#"Otlp { endpoint: "https://example.org", encoding: Protobuf, .. }"#);
}

#[tokio::test]
async fn a_redirect_is_refused_for_good() {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(307).insert_header("location", "http://127.0.0.1:1/");
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let error = builder(&server.uri()).build().unwrap().send(&opened()).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Refused { status: 307, .. }), "{error:?}");
}
