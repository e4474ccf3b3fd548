//! The disclosure names everything that a sweep of files and sockets finds, and nothing else.

use std::{collections::BTreeSet, fs, path::Path};

use matrix_analytics::{
    Analytics, ELEMENT_EVENT_TYPE, GuardPolicy, Party, Policy, PostHog, Properties, Recipient,
    SqliteQueue, TextPolicy, testing::RecordingBackend,
};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{ALICE, AnalyticsExt as _, World, collector::Collector, eventually};

/// A place, and the identifier or file that it has.
type Found = (String, String);

/// A device with a durable queue and a history in its file, which has sent two events to a PostHog
/// endpoint and to a recipient without a host. Another event waits.
struct Setup {
    world: World,
    directory: TempDir,
    endpoint: Collector,
    recorder: RecordingBackend,
    analytics: Analytics,
}

impl Setup {
    async fn new() -> Self {
        let world = World::new().await;
        let directory = TempDir::new().unwrap();
        let endpoint = Collector::start();
        let recorder = RecordingBackend::new();
        let login = world.server.add_device(ALICE, "PHONE");
        let device = world.device_on_disk(&login, &directory.path().join("store")).await;
        let posthog = Recipient::new(PostHog::new(&endpoint.url(), "phc_key").unwrap())
            .name("Example | Analytics")
            .party(Party::Third)
            .purpose("To learn which features are used")
            .retention("13 months");
        let builder = device.builder().backend(posthog).backend(recorder.clone());
        let queue = SqliteQueue::new(directory.path().join("queue")).keep_history();
        let builder = builder.queue(queue);
        let builder = builder.text_policy(TextPolicy::Refuse).history(10);
        let builder = builder.policy(Policy::new("3.0.0"));
        let analytics = builder.build().await.unwrap();
        analytics.opt_in_and_settle().await;
        device.sync().await;
        // The file has the entry of the first event once it has the second event.
        for _ in 0..2 {
            analytics.capture_named("Opened", Properties::new().with("count", 1));
            assert!(eventually(analytics.flush_all()).await.is_complete());
        }
        analytics.capture_named("Waiting", Properties::new());
        Self { world, directory, endpoint, recorder, analytics }
    }

    /// Returns what a sweep of the account, the sockets and the files finds.
    fn sweep(&self) -> BTreeSet<Found> {
        let mut found = BTreeSet::new();
        let homeserver = host(self.world.server.uri());
        let content: Value = serde_json::from_str(&self.world.content().unwrap()).unwrap();
        for key in content.as_object().unwrap().keys() {
            found.insert((homeserver.clone(), format!("{key} in {ELEMENT_EVENT_TYPE}")));
        }
        let id = self.analytics.analytics_id().unwrap().reveal().to_owned();
        for request in self.endpoint.seen().requests {
            let body = serde_json::from_slice(&request).unwrap();
            let host = host(&self.endpoint.url());
            found.extend(unique(&body, &id).map(|name| (host.clone(), name)));
            // A host sees the address that a request comes from.
            found.insert((host, "IP address".to_owned()));
        }
        for event in self.recorder.events() {
            let uuid = event.uuid.to_string();
            let sent = json!([uuid, event.distinct_id, event.properties, event.set]);
            found.extend(unique(&sent, &id).map(|name| ("recording".to_owned(), name)));
        }
        found.extend(files(self.directory.path()));
        found.extend(entries(&self.directory.path().join("store"), &id));
        if self.analytics.stats().backends[0].queued > 0 {
            found.insert(("device".to_owned(), "memory".to_owned()));
        }
        if !self.analytics.history().is_empty() {
            found.insert(("device".to_owned(), "history in memory".to_owned()));
        }
        let queue = self.directory.path().join("queue");
        if has_history(&queue) {
            found.insert(("device".to_owned(), format!("history in {}", queue.display())));
        }
        found
    }
}

fn host(uri: &str) -> String {
    uri.trim_start_matches("http://").trim_end_matches('/').to_owned()
}

/// Returns a name for each text in `value` that is unique to something.
fn unique<'a>(value: &'a Value, id: &'a str) -> impl Iterator<Item = String> + use<'a> {
    let mut texts = Vec::new();
    collect(value, &mut texts);
    texts
        .into_iter()
        .filter(|text| Uuid::parse_str(text).is_ok())
        .map(move |text| if text == id { "analytics ID".to_owned() } else { "event ID".to_owned() })
}

fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        Value::Object(members) => members.values().for_each(|value| collect(value, texts)),
        _ => {}
    }
}

/// Returns each file of the app's directory; those that SQLite adds count as the one that they
/// belong to.
fn files(directory: &Path) -> BTreeSet<Found> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.is_file()).map(|path| {
        let path = path.to_str().unwrap();
        let name = ["-journal", "-wal", "-shm"].iter().find_map(|end| path.strip_suffix(end));
        ("device".to_owned(), name.unwrap_or(path).to_owned())
    });
    files.collect()
}

/// Returns whether the file of a queue, which may be open, has sent events.
fn has_history(queue: &Path) -> bool {
    let copy = TempDir::new().unwrap();
    for suffix in ["", "-wal"] {
        let from = format!("{}{suffix}", queue.display());
        fs::copy(from, copy.path().join(format!("queue{suffix}"))).unwrap();
    }
    let connection = Connection::open(copy.path().join("queue")).unwrap();
    connection.query_row("SELECT count(*) FROM history", [], |row| row.get::<_, i64>(0)).unwrap()
        > 0
}

/// Returns the entries in the client's store that are ours or contain the ID.
fn entries(store: &Path, id: &str) -> BTreeSet<Found> {
    let connection = Connection::open(store.join("matrix-sdk-state.sqlite3")).unwrap();
    let mut keys = connection.prepare("SELECT key FROM kv_blob").unwrap();
    let keys = keys.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let keys = keys.map(|key| String::from_utf8_lossy(&key.unwrap()).into_owned());
    let ours = keys.filter(|key| key.contains("analytics")).map(|key| {
        // The last part is a hash of the user.
        let place = key.rsplit_once('/').map_or(&*key, |(place, _)| place);
        let place = &place[place.find("matrix-analytics").unwrap_or(0)..];
        ("device".to_owned(), format!("{place} in the client's store"))
    });
    let mut found: BTreeSet<_> = ours.collect();
    let has_id = fs::read_dir(store).unwrap().any(|file| {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        bytes.windows(id.len()).any(|window| window == id.as_bytes())
    });
    if has_id {
        found.insert(("device".to_owned(), "account data in the client's store".to_owned()));
    }
    found
}

/// Returns the places and names in the rows of a page, those of the recipients and of what is
/// kept back excepted.
fn named(page: &str) -> BTreeSet<Found> {
    let mut found = BTreeSet::new();
    let mut title = "";
    for line in page.lines() {
        if let Some(next) = line.strip_prefix("## ") {
            title = next;
        }
        let line = line.trim_start_matches("| ").trim_end_matches(" |").replace('\\', "");
        let cells: Vec<_> = line.split(" | ").collect();
        match (title, &cells[..]) {
            (_, ["Domain" | "Place", ..]) => {}
            ("Identifiers", [domain, name, _, _, _]) => {
                found.insert(((*domain).to_owned(), (*name).to_owned()));
            }
            ("Copies on this device", [place, _, _]) => {
                found.insert(("device".to_owned(), (*place).to_owned()));
            }
            _ => {}
        }
    }
    found
}

#[tokio::test]
async fn the_page_names_all_that_a_sweep_finds_and_a_page_without_one_of_its_lines_does_not() {
    let setup = Setup::new().await;
    let page = setup.analytics.disclosure().to_markdown();
    let found = setup.sweep();
    assert_eq!(named(&page), found, "{page}");
    assert_eq!(found.len(), 15);

    let mut removed = 0;
    for line in page.lines() {
        let shorter: String =
            page.lines().filter(|other| *other != line).map(|line| format!("{line}\n")).collect();
        let is_entry = !named(line_under_its_title(&page, line).as_str()).is_empty();
        if is_entry {
            assert_ne!(named(&shorter), found, "{line}");
            removed += 1;
        }
    }
    assert_eq!(removed, 15);
}

/// Returns the title of the table that `line` is in, and the line.
fn line_under_its_title(page: &str, line: &str) -> String {
    let before = page.lines().take_while(|other| *other != line);
    let title = before.filter(|other| other.starts_with("## ")).last().unwrap_or_default();
    format!("{title}\n{line}")
}

#[tokio::test]
async fn an_identifier_that_the_page_does_not_name_is_found_by_the_sweep() {
    let setup = Setup::new().await;
    fs::write(setup.directory.path().join("other"), "").unwrap();
    assert_ne!(named(&setup.analytics.disclosure().to_markdown()), setup.sweep());
}

#[tokio::test]
async fn the_data_has_what_the_app_declared_and_what_it_configured() {
    let setup = Setup::new().await;
    let disclosure = serde_json::to_value(setup.analytics.disclosure()).unwrap();
    let expected = json!([
        {
            "name": "Example | Analytics",
            "domain": host(&setup.endpoint.url()),
            "party": "third",
            "purpose": "To learn which features are used",
            "retention": "13 months",
            "erasure_host": null,
            "identity": "account",
        },
        {
            "name": "recording",
            "domain": null,
            "party": null,
            "purpose": null,
            "retention": null,
            "erasure_host": null,
            "identity": "account",
        },
    ]);
    let mut recipients = disclosure["recipients"].clone();
    for recipient in recipients.as_array_mut().unwrap() {
        let receives = recipient.as_object_mut().unwrap().remove("receives").unwrap();
        assert!(receives.as_str().unwrap().contains("properties"));
    }
    assert_eq!(recipients, expected);
    assert_eq!(disclosure["kept_back"]["guard_policy"], "redact");
    assert_eq!(disclosure["kept_back"]["text_policy"], "refuse");
    assert_eq!(disclosure["kept_back"]["kinds"].as_array().unwrap().len(), 13);
    let page = setup.analytics.disclosure().to_markdown();
    let row = "| Example \\| Analytics | ";
    assert!(
        page.lines().any(|line| line.starts_with(row) && line.ends_with("| third |")),
        "{page}"
    );
}

#[tokio::test]
async fn a_disclosure_can_be_asked_for_in_every_state_and_never_holds_the_id() {
    let setup = Setup::new().await;
    let id = setup.analytics.analytics_id().unwrap().reveal().to_owned();
    let open = setup.analytics.disclosure();
    assert!(!open.to_markdown().contains(&id));
    eventually(setup.analytics.opt_out().into_future()).await;
    assert_eq!(setup.analytics.disclosure(), open);
    eventually(setup.analytics.shutdown(std::time::Duration::ZERO)).await;
    eventually(setup.analytics.end_session()).await;
    assert_eq!(setup.analytics.disclosure(), open);
}

#[tokio::test]
async fn a_device_without_recipients_and_queue_discloses_the_account_and_the_record_only() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let analytics = device.builder().guard_policy(GuardPolicy::DropEvent).build().await.unwrap();
    let disclosure = analytics.disclosure();
    assert_eq!(disclosure.identifiers.len(), 2);
    assert_eq!(disclosure.recipients, []);
    let places: Vec<_> = disclosure.local_copies.iter().map(|copy| &*copy.place).collect();
    assert_eq!(places.len(), 4, "{places:?}");
}
