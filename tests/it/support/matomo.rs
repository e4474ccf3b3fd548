//! A double of Matomo's bulk tracking API.
//!
//! It does what Matomo 5.1.2 was seen to do, with a site that has the ID 1 and the custom
//! dimensions 1 to 5.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::any};

const DAY: u64 = 86_400;
/// The size of the column of an action, in characters.
const COLUMN: usize = 4096;
const SITE: &str = "1";
const DIMENSIONS: std::ops::RangeInclusive<u32> = 1..=5;

/// An event that was stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredEvent {
    pub(crate) visitor: String,
    pub(crate) time: u64,
    pub(crate) category: String,
    pub(crate) action: String,
    pub(crate) name: Option<String>,
    pub(crate) value: Option<f64>,
    pub(crate) dimensions: BTreeMap<u32, String>,
}

#[derive(Clone, Default)]
pub(crate) struct Matomo {
    stored: Arc<Mutex<Vec<StoredEvent>>>,
    /// The parameters that were ever sent.
    parameters: Arc<Mutex<BTreeSet<String>>>,
}

/// What becomes of one event.
enum Fate {
    Stored(StoredEvent),
    /// Counted as tracked, and not stored.
    Ignored,
    Invalid,
    /// The database refuses it.
    Fatal,
}

impl Matomo {
    pub(crate) async fn start() -> (Self, MockServer) {
        let matomo = Self::default();
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(matomo.clone()).mount(&server).await;
        (matomo, server)
    }

    pub(crate) fn stored(&self) -> Vec<StoredEvent> {
        self.stored.lock().unwrap().clone()
    }

    pub(crate) fn parameters(&self) -> Vec<String> {
        self.parameters.lock().unwrap().iter().cloned().collect()
    }
}

impl Respond for Matomo {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        if request.method.as_str() != "POST" || !request.url.path().ends_with("/matomo.php") {
            return ResponseTemplate::new(404);
        }
        let text = String::from_utf8_lossy(&request.body);
        let is_compressed = request.headers.contains_key("content-encoding");
        // `strpos` returns 0, which is false, if the text begins with it.
        if is_compressed || text.find("\"requests\"").is_none_or(|place| place == 0) {
            return ResponseTemplate::new(200).set_body_bytes(*b"GIF89a\x01\x00");
        }
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        if body.get("send_image").is_some_and(|image| image == 0) {
            return ResponseTemplate::new(204);
        }
        let is_bot = request
            .headers
            .get("user-agent")
            .is_some_and(|agent| agent.to_str().unwrap().contains("Googlebot"));
        let (status, counts) = self.track(&body, is_bot);
        ResponseTemplate::new(status).set_body_json(counts)
    }
}

impl Matomo {
    /// Takes a bulk request, and returns the status and the body of its answer.
    pub(crate) fn track(&self, body: &Value, is_bot: bool) -> (u16, Value) {
        let (mut stored, mut tracked, mut invalid) = (Vec::new(), 0, 0);
        for one in body["requests"].as_array().into_iter().flatten() {
            let parameters = parameters(one);
            self.parameters.lock().unwrap().extend(parameters.keys().cloned());
            match fate(&parameters, is_bot) {
                Fate::Stored(event) => {
                    stored.push(event);
                    tracked += 1;
                }
                Fate::Ignored => tracked += 1,
                Fate::Invalid => invalid += 1,
                Fate::Fatal => {
                    let counts = json!({ "status": "error", "tracked": tracked, "invalid": 0 });
                    return (500, counts);
                }
            }
        }
        self.stored.lock().unwrap().extend(stored);
        (200, json!({ "status": "success", "tracked": tracked, "invalid": invalid }))
    }
}

fn parameters(request: &Value) -> BTreeMap<String, String> {
    let members = request.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

fn fate(parameters: &BTreeMap<String, String>, is_bot: bool) -> Fate {
    let get = |name: &str| parameters.get(name).filter(|value| !value.is_empty()).cloned();
    if get("idsite").as_deref() != Some(SITE) || get("cip").is_some() {
        return Fate::Invalid;
    }
    let visitor = get("cid").unwrap_or_default();
    if visitor.len() != 16 || !visitor.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Fate::Invalid;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let time = match get("cdt").and_then(|time| time.parse().ok()) {
        Some(time) if now.saturating_sub(time) >= DAY => return Fate::Invalid,
        Some(time) if time <= now => time,
        _ => now,
    };
    if get("rec").as_deref() != Some("1") || is_bot {
        return Fate::Ignored;
    }
    let (category, action, name) = (get("e_c"), get("e_a"), get("e_n"));
    let (Some(category), Some(action)) = (category, action) else { return Fate::Fatal };
    let texts = [Some(&category), Some(&action), name.as_ref()];
    if texts.into_iter().flatten().any(|text| escaped(text).chars().count() > COLUMN) {
        return Fate::Fatal;
    }
    let dimensions = DIMENSIONS.filter_map(|number| {
        let value = parameters.get(&format!("dimension{number}"))?;
        Some((number, escaped(value).chars().take(250).collect()))
    });
    let dimensions = dimensions.collect();
    let value = get("e_v").and_then(|value| value.parse().ok());
    Fate::Stored(StoredEvent { visitor, time, category, action, name, value, dimensions })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#039;")
}
