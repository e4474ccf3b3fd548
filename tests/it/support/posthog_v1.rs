//! A double of PostHog's v1 capture endpoint, after `rust/capture/src/v1` of its source.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
};

use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::any};

use super::collector::unzipped;

const PATH: &str = "/i/v1/analytics/events";
/// The longest `distinct_id`, in bytes.
const LONGEST_ID: usize = 200;

/// What the project and the server are like.
#[derive(Debug, Default)]
pub(crate) struct Project {
    /// Whether the quota of all events is used up.
    pub(crate) is_over_quota: bool,
    /// Whether that of exceptions is.
    pub(crate) is_over_quota_of_exceptions: bool,
    /// The names of events that a restriction drops.
    pub(crate) restricted: Vec<&'static str>,
    /// The names of events that cannot be stored now.
    pub(crate) not_persisted: Vec<&'static str>,
    /// Whether the person of each event goes unprocessed, because there are too many events.
    pub(crate) skips_persons: bool,
    /// The largest body, in bytes.
    pub(crate) largest: Option<usize>,
    /// The events that were stored, with the properties as PostHog completes them.
    pub(crate) stored: Vec<Value>,
    /// The headers of each request that had all of them: attempt and request ID.
    pub(crate) attempts: Vec<(u32, Uuid)>,
}

pub(crate) struct PostHogV1 {
    server: MockServer,
    project: Arc<Mutex<Project>>,
}

impl PostHogV1 {
    pub(crate) async fn start(project: Project) -> Self {
        let server = MockServer::start().await;
        let project = Arc::new(Mutex::new(project));
        Mock::given(any()).respond_with(Endpoint(project.clone())).mount(&server).await;
        Self { server, project }
    }

    pub(crate) fn url(&self) -> String {
        self.server.uri()
    }

    pub(crate) fn project(&self) -> MutexGuard<'_, Project> {
        self.project.lock().unwrap()
    }

    pub(crate) async fn requests(&self) -> Vec<Request> {
        self.server.received_requests().await.unwrap()
    }
}

struct Endpoint(Arc<Mutex<Project>>);

/// A failure of the whole request: its status and what it is called.
struct Refused(u16, &'static str);

impl Respond for Endpoint {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        match respond(request, &mut self.0.lock().unwrap()) {
            Ok(results) => {
                let mut answer = ResponseTemplate::new(200);
                if results.values().any(|result| result["result"] == "retry") {
                    answer = answer.insert_header("retry-after", "1");
                }
                answer.set_body_json(json!({ "results": results }))
            }
            Err(Refused(status, error)) => {
                let mut answer = ResponseTemplate::new(status);
                if status == 429 {
                    answer = answer.insert_header("retry-after", "1");
                }
                let uri = "https://posthog.com/docs/api";
                let description = "as the source has it";
                answer.set_body_json(json!({
                    "error": error, "error_description": description, "error_uri": uri,
                }))
            }
        }
    }
}

fn respond(request: &Request, project: &mut Project) -> Result<Map<String, Value>, Refused> {
    if request.url.path() != PATH {
        return Err(Refused(404, "not_found"));
    }
    let header = |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap());
    let Some(authorization) = header("authorization") else {
        return Err(Refused(401, "missing_authorization"));
    };
    for name in [
        "posthog-sdk-info",
        "posthog-attempt",
        "posthog-request-id",
        "posthog-request-timestamp",
        "content-type",
        "user-agent",
    ] {
        header(name).ok_or(Refused(400, "missing_required_headers"))?;
    }
    let invalid = Refused(400, "invalid_header_value");
    let Some(token) = authorization.strip_prefix("Bearer ") else { return Err(invalid) };
    if token.is_empty() || token.len() > 64 || token.starts_with("phx_") {
        return Err(Refused(401, "invalid_api_token"));
    }
    if header("content-type") != Some("application/json") {
        return Err(Refused(415, "unsupported_content_type"));
    }
    let attempt = header("posthog-attempt").and_then(|number| number.parse::<u32>().ok());
    let request_id = header("posthog-request-id").and_then(|id| id.parse().ok());
    let (Some(attempt @ 1..), Some(request_id)) = (attempt, request_id) else {
        return Err(invalid);
    };
    if !is_time(header("posthog-request-timestamp")) {
        return Err(invalid);
    }
    project.attempts.push((attempt, request_id));
    let body = match header("content-encoding") {
        None => request.body.clone(),
        Some("gzip") => unzipped(&request.body),
        Some(_) => return Err(Refused(415, "unsupported_encoding")),
    };
    if project.largest.is_some_and(|largest| body.len() > largest) {
        return Err(Refused(413, "payload_too_large"));
    }
    let unparsed = |_| Refused(400, "request_parsing_error");
    let mut batch: Value = serde_json::from_slice(&body).map_err(unparsed)?;
    if !is_time(batch["created_at"].as_str()) {
        return Err(Refused(400, "invalid_batch"));
    }
    let sdk = header("posthog-sdk-info").unwrap_or_default().to_owned();
    let Value::Array(events) = batch["batch"].take() else {
        return Err(Refused(400, "request_parsing_error"));
    };
    if events.is_empty() {
        return Err(Refused(400, "empty_batch"));
    }
    results(events, &sdk, project)
}

fn is_time(text: Option<&str>) -> bool {
    text.is_some_and(|text| OffsetDateTime::parse(text, &Rfc3339).is_ok())
}

fn results(
    events: Vec<Value>,
    sdk: &str,
    project: &mut Project,
) -> Result<Map<String, Value>, Refused> {
    let mut ids = BTreeSet::new();
    let mut results = Map::new();
    let mut to_store = Vec::new();
    for event in events {
        let Ok(id) = event["uuid"].as_str().unwrap_or_default().parse::<Uuid>() else {
            return Err(Refused(400, "invalid_event_uuid"));
        };
        if !ids.insert(id) {
            return Err(Refused(400, "duplicate_event_uuid"));
        }
        let (result, details) = result_of(&event, project);
        if matches!(result, "ok" | "warning") {
            to_store.push(completed(event, sdk));
        }
        let entry = match details {
            Some(details) => json!({ "result": result, "details": details }),
            None => json!({ "result": result }),
        };
        results.insert(id.to_string(), entry);
    }
    let is_for_quota = |result: &Value| result["details"] == "exceptions_over_quota";
    let drops_all = results.values().all(|result| result["result"] == "drop");
    if project.is_over_quota || (drops_all && results.values().any(is_for_quota)) {
        return Err(Refused(402, "billing_limit_exceeded"));
    }
    project.stored.extend(to_store);
    Ok(results)
}

fn result_of(event: &Value, project: &Project) -> (&'static str, Option<&'static str>) {
    let name = event["event"].as_str().unwrap_or_default();
    let id = event["distinct_id"].as_str().unwrap_or_default().trim();
    let options = &event["options"];
    let is_option = |name: &str| options[name].is_null() || options[name].is_boolean();
    if name.is_empty() {
        ("drop", Some("missing_event_name"))
    } else if name.len() > 200 {
        ("drop", Some("event_name_too_long"))
    } else if id.is_empty() {
        ("drop", Some("missing_distinct_id"))
    } else if id.len() > LONGEST_ID {
        ("drop", Some("distinct_id_too_large"))
    } else if !is_time(event["timestamp"].as_str()) {
        ("drop", Some("invalid_event_timestamp"))
    } else if !event["properties"].is_object() {
        ("drop", Some("malformed_event_properties"))
    } else if !is_option("process_person_profile") || !is_option("disable_skew_correction") {
        ("drop", Some("invalid_options"))
    } else if name == "$exception" && project.is_over_quota_of_exceptions {
        ("drop", Some("exceptions_over_quota"))
    } else if project.restricted.contains(&name) {
        ("drop", Some("event_restriction_drop"))
    } else if project.not_persisted.contains(&name) {
        ("retry", Some("not_persisted"))
    } else if project.skips_persons {
        ("warning", Some("person_processing_disabled"))
    } else if ["anonymous", "guest", "user", "0"].contains(&id) {
        ("ok", Some("person_processing_disabled"))
    } else {
        ("ok", None)
    }
}

/// Returns `event` as it is stored: with what the request said once for all events.
fn completed(mut event: Value, sdk: &str) -> Value {
    let options = event["options"].take();
    let members = event.as_object_mut().unwrap();
    members.remove("options");
    let lifted = [
        ("$session_id", members.remove("session_id")),
        ("$window_id", members.remove("window_id")),
        ("$product_tour_id", options.get("product_tour_id").cloned()),
        ("$process_person_profile", options.get("process_person_profile").cloned()),
        ("$ignore_sent_at", options.get("disable_skew_correction").cloned()),
    ];
    let properties = members["properties"].as_object_mut().unwrap();
    for (key, value) in lifted {
        if let Some(value) = value {
            properties.insert(key.to_owned(), value);
        }
    }
    if let Some((lib, version)) = sdk.rsplit_once('/') {
        properties.insert("$lib".to_owned(), lib.into());
        properties.insert("$lib_version".to_owned(), version.into());
    }
    event
}
