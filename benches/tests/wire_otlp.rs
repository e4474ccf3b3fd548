//! Compares our OpenTelemetry backend with opentelemetry-otlp, OpenTelemetry's official
//! exporter: both send the same events, and their requests differ only as listed in this file.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[path = "common/differences.rs"]
mod differences;

use std::time::{Duration, SystemTime};

use matrix_analytics::{
    Backend as _, Otlp, OtlpEncoding, OutgoingEvent, Properties, PropertyValue, testing,
};
use opentelemetry::{
    KeyValue,
    logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity},
};
use opentelemetry_otlp::{LogExporter, Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_sdk::{Resource, logs::SdkLoggerProvider};
use prost::Message as _;
use serde_json::{Map, Value};
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::any};

use self::differences::{
    Difference::{self, OnlyOurs, OnlyTheirs, OtherValue},
    differences, listed,
};

const ID: &str = "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa";

/// All differences of the headers.
const HEADERS: [(&str, Difference); 2] = [
    // The body has another length.
    ("content-length", OtherValue),
    // Names the exporter and its version. Ours are in the scope, where a database keeps them.
    ("user-agent", OnlyTheirs),
];

/// All differences outside the records, by path.
const AROUND_RECORDS: [(&str, Difference); 5] = [
    // Names the exporter and its version. Ours are in the scope.
    ("resource.attributes.telemetry.sdk.language", OnlyTheirs),
    ("resource.attributes.telemetry.sdk.name", OnlyTheirs),
    ("resource.attributes.telemetry.sdk.version", OnlyTheirs),
    // We name this crate. The exporter names what the app says.
    ("scope.name", OtherValue),
    ("scope.version", OtherValue),
];

/// All differences within a record, by path. Each record has all of them.
const WITHIN_RECORD: [(&str, Difference); 3] = [
    // The identifier of the person. An app that uses the exporter has none, or adds its own.
    ("attributes.enduser.pseudo.id", OnlyOurs),
    // The unique ID of the event. The exporter has none: after a lost answer, a record is there
    // twice.
    ("attributes.log.record.uid", OnlyOurs),
    // The exporter sends when its SDK was called. We send the time of the event, which is the
    // time of the call unless the app names an earlier one.
    ("observedTimeUnixNano", OtherValue),
];

/// The members outside the records that the exporter writes in JSON, although they have the
/// value that they have by default.
const DEFAULTS_AROUND_RECORDS: [(&str, Difference); 6] = [
    ("resource.droppedAttributesCount", OnlyTheirs),
    ("resource.entityRefs", OnlyTheirs),
    ("schemaUrl", OnlyTheirs),
    ("scope.attributes", OnlyTheirs),
    ("scope.droppedAttributesCount", OnlyTheirs),
    ("scopeLogs.schemaUrl", OnlyTheirs),
];

/// As [`DEFAULTS_AROUND_RECORDS`], in a record.
const DEFAULTS_WITHIN_RECORD: [(&str, Difference); 6] = [
    ("body", OnlyTheirs),
    ("droppedAttributesCount", OnlyTheirs),
    ("flags", OnlyTheirs),
    ("severityText", OnlyTheirs),
    ("spanId", OnlyTheirs),
    ("traceId", OnlyTheirs),
];

/// An event that both send.
struct Sent {
    name: &'static str,
    time: SystemTime,
    attributes: Vec<(&'static str, PropertyValue)>,
}

fn sent() -> [Sent; 3] {
    let midday = SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_860_800);
    let texts = ["a", "", "ü, \"]"].map(PropertyValue::from).to_vec();
    [
        Sent {
            name: "Joined \"Room\" – ⌘",
            time: midday + Duration::from_nanos(250_000_001),
            attributes: vec![
                ("bool", false.into()),
                ("float", 0.1.into()),
                ("float_large", 1e300.into()),
                ("float_negative_zero", (-0.0).into()),
                ("float_whole", 3.0.into()),
                ("integer", (-3).into()),
                ("integer_max", i64::MAX.into()),
                ("integer_min", i64::MIN.into()),
                ("integer_zero", 0.into()),
                ("text", "line\nbreak, \"quotes\", \\, \u{0}, \u{7f}, \u{2028}, é, 🦀".into()),
                ("text_empty", "".into()),
                ("text_number", "7".into()),
                ("text_long", "long ".repeat(5_000).into()),
                ("texts", PropertyValue::Array(texts)),
                ("mixed", PropertyValue::Array(vec![1.into(), 0.5.into(), true.into()])),
                ("none", PropertyValue::Array(Vec::new())),
                ("key \"with\" \\ and é.", "kept".into()),
            ],
        },
        Sent { name: "Plain", time: midday, attributes: Vec::new() },
        Sent {
            name: "Later",
            time: midday + Duration::from_secs(1),
            attributes: vec![("trigger", "Invite".into()), ("members", 3.into())],
        },
    ]
}

fn our_event(sent: &Sent) -> OutgoingEvent {
    let properties: Properties = sent.attributes.iter().cloned().collect();
    testing::event_at(sent.name, properties, sent.time)
}

fn their_value(value: &PropertyValue) -> AnyValue {
    match value {
        PropertyValue::Array(values) => {
            AnyValue::ListAny(Box::new(values.iter().map(their_value).collect()))
        }
        PropertyValue::Bool(value) => (*value).into(),
        PropertyValue::Float(value) => (*value).into(),
        PropertyValue::Integer(value) => (*value).into(),
        PropertyValue::Text(value) => value.clone().into_owned().into(),
        other => panic!("{other:?}"),
    }
}

/// Sends with the exporter in one request, as the same program.
fn send_theirs(endpoint: &str, protocol: Protocol, all: &[Sent]) {
    let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
    let exporter = LogExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(format!("{endpoint}/v1/logs"))
        .with_protocol(protocol)
        .build()
        .unwrap();
    let resource = Resource::builder()
        .with_service_name("example-client")
        .with_attribute(KeyValue::new("service.version", "1.4.0"))
        .build();
    let provider =
        SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    let logger = provider.logger("example-client");
    for sent in all {
        let mut record = logger.create_log_record();
        record.set_event_name(sent.name);
        record.set_timestamp(sent.time);
        record.set_severity_number(Severity::Info);
        for (key, value) in &sent.attributes {
            record.add_attribute(*key, their_value(value));
        }
        logger.emit(record);
    }
    provider.force_flush().unwrap();
    provider.shutdown().unwrap();
}

async fn collector() -> MockServer {
    let collector = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&collector).await;
    collector
}

/// Sends the same with both, and returns the requests.
async fn requests(encoding: OtlpEncoding, protocol: Protocol) -> [Request; 2] {
    let (our_collector, their_collector) = (collector().await, collector().await);
    let backend = Otlp::builder(&our_collector.uri(), "example-client")
        .service_version("1.4.0")
        .encoding(encoding)
        .gzip(false)
        .build()
        .unwrap();
    let events: Vec<_> = sent().iter().map(our_event).collect();
    backend.send(&testing::batch(ID, events)).await.unwrap();
    let endpoint = their_collector.uri();
    // The exporter blocks its caller.
    let theirs = tokio::task::spawn_blocking(move || send_theirs(&endpoint, protocol, &sent()));
    theirs.await.unwrap();
    [only_request(&our_collector).await, only_request(&their_collector).await]
}

async fn only_request(collector: &MockServer) -> Request {
    let [request] = collector.received_requests().await.unwrap().try_into().unwrap();
    request
}

/// Compares everything but the bodies.
fn compare_heads(ours: &Request, theirs: &Request) {
    assert_eq!(ours.method, theirs.method);
    assert_eq!((ours.url.path(), ours.url.query()), (theirs.url.path(), theirs.url.query()));
    // Their HTTP client has it if any crate in the build enables decompression.
    const DECOMPRESSION: &str = "accept-encoding";
    assert!(!ours.headers.contains_key(DECOMPRESSION));
    let [ours, theirs] = [ours, theirs].map(|request| {
        let headers = request.headers.iter().filter(|(name, _)| *name != DECOMPRESSION);
        let mut headers: Map<String, Value> = headers
            .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().into()))
            .collect();
        // The collectors listen on two ports.
        assert!(headers.remove("host").is_some());
        Value::Object(headers)
    });
    assert_eq!(differences(&ours, &theirs), listed(&HEADERS), "\n{ours}\n{theirs}");
}

/// Replaces the attributes of `owner` with a map.
fn take_attributes_as_map(owner: &mut Value) {
    let mut map = Map::new();
    for attribute in owner["attributes"].as_array().unwrap() {
        let key = attribute["key"].as_str().unwrap().to_owned();
        assert_eq!(map.insert(key, attribute["value"].clone()), None, "a key is there twice");
    }
    owner["attributes"] = map.into();
}

/// Takes the only element of the member `key`.
fn take_only(owner: &mut Value, key: &str) -> Value {
    let Some(Value::Array(elements)) = owner.as_object_mut().unwrap().remove(key) else {
        panic!("no array {key}")
    };
    let [element] = elements.try_into().unwrap();
    element
}

/// Splits a request, in the form that JSON gives it, into what is around the records, and the
/// records.
fn split(mut request: Value) -> (Value, Vec<Value>) {
    let mut resource_logs = take_only(&mut request, "resourceLogs");
    assert_eq!(request, Value::Object(Map::new()));
    let mut scope_logs = take_only(&mut resource_logs, "scopeLogs");
    let scope_members = scope_logs.as_object_mut().unwrap();
    let Some(Value::Array(mut records)) = scope_members.remove("logRecords") else {
        panic!("no records")
    };
    resource_logs["scope"] = scope_members.remove("scope").unwrap();
    resource_logs["scopeLogs"] = scope_logs;
    take_attributes_as_map(&mut resource_logs["resource"]);
    records.iter_mut().for_each(take_attributes_as_map);
    (resource_logs, records)
}

/// Compares two requests. In JSON, the exporter also writes defaults.
fn compare_bodies(ours: Value, theirs: Value, with_defaults: bool) {
    let ((ours, our_records), (theirs, their_records)) = (split(ours), split(theirs));
    let [mut around, mut within] = [listed(&AROUND_RECORDS), listed(&WITHIN_RECORD)];
    if with_defaults {
        around.extend(listed(&DEFAULTS_AROUND_RECORDS));
        within.extend(listed(&DEFAULTS_WITHIN_RECORD));
    }
    assert_eq!(differences(&ours, &theirs), around, "\n{ours}\n{theirs}");
    assert_eq!((our_records.len(), their_records.len()), (sent().len(), sent().len()));
    for (ours, theirs) in our_records.iter().zip(&their_records) {
        assert_eq!(differences(ours, theirs), within, "\n{ours}\n{theirs}");
    }
}

fn json(request: &ExportLogsServiceRequest) -> Value {
    serde_json::to_value(request).unwrap()
}

#[tokio::test]
async fn protobuf_matches_the_official_exporter_except_for_the_listed_differences() {
    let [ours, theirs] = requests(OtlpEncoding::Protobuf, Protocol::HttpBinary).await;
    compare_heads(&ours, &theirs);
    let [ours, theirs] = [ours, theirs]
        .map(|request| json(&ExportLogsServiceRequest::decode(&*request.body).unwrap()));
    compare_bodies(ours, theirs, false);
}

#[tokio::test]
async fn json_matches_the_official_exporter_except_for_the_listed_differences() {
    let [ours, theirs] = requests(OtlpEncoding::Json, Protocol::HttpJson).await;
    compare_heads(&ours, &theirs);
    let [our_text, their_text]: [Value; 2] =
        [&ours, &theirs].map(|request| request.body_json().unwrap());
    compare_bodies(our_text, their_text, true);
}

/// The official messages read both of our encodings, and find the same in them.
#[tokio::test]
async fn both_encodings_say_the_same_to_the_official_messages() {
    let server = collector().await;
    let events: Vec<_> = sent().iter().map(our_event).collect();
    let batch = testing::batch(ID, events);
    for encoding in [OtlpEncoding::Protobuf, OtlpEncoding::Json] {
        let builder = Otlp::builder(&server.uri(), "example-client").encoding(encoding);
        builder.gzip(false).build().unwrap().send(&batch).await.unwrap();
    }
    let [protobuf, json] = server.received_requests().await.unwrap().try_into().unwrap();
    let protobuf = ExportLogsServiceRequest::decode(&*protobuf.body).unwrap();
    assert_eq!(protobuf, json.body_json().unwrap());
}
