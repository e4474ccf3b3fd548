//! Kills a process with SIGKILL again and again while it captures numbered events and sometimes
//! withdraws, always on the same files. A last process delivers the remaining events.
//!
//! The guarantee covers the events that the process reported as durable before it died: all that
//! were captured before a [`flush`](matrix_analytics::Analytics::flush) returned, and those found
//! in the file. The test compares this with the log of a real collector. Each covered event must
//! arrive, or be restored by the next process. Each event has one unique ID on every try. No event
//! from before a withdrawal arrives after it, under a later ID, or is in the history of a later
//! process. What the history calls delivered has arrived. The counters balance in every process.
//!
//! A seeded random generator decides when to kill: after a number of reports from the child and
//! requests to the collector, and then of scheduler turns in the parent. The exact position of the
//! child depends on the machine, as it does in production.
//!
//! ```sh
//! MATRIX_ANALYTICS_TEST_KILLS=1000 cargo test --all-features --test it durable::kill
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use matrix_analytics::{
    Analytics, Backend, Batch, Consent, ConsentState, DeliveryError, ELEMENT_EVENT_TYPE, Limits,
    Properties, SentEvent, SentOutcome, SqliteQueue,
    testing::{AccountDataServer, DeviceLogin},
};
use matrix_sdk::{
    SqliteStateStore, config::StoreConfig, cross_process_lock::CrossProcessLockConfig,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, BufStream, Lines},
    net::{TcpListener, TcpStream},
    process::{ChildStdout, Command},
    sync::Notify,
};

use crate::{
    crash_points::client_of,
    support::{ALICE, AnalyticsExt as _, FOREIGN_ID, content},
};

/// The name of the child's test.
const CHILD: &str = "durable::kill::a_child_captures_until_it_is_killed";
/// The child's instructions. Unset in an ordinary run.
const ORDER: &str = "MATRIX_ANALYTICS_TEST_DURABLE_CHILD";
/// The number of kills; an ordinary run makes a few.
const KILLS: &str = "MATRIX_ANALYTICS_TEST_KILLS";
/// The prefix of a line for the parent. The test harness prints to the same stream.
const MARK: &str = "@@";

/// A fact reported by the child.
#[derive(Debug)]
enum Fact {
    /// The child is about to open its files.
    Begins,
    /// The child has started, and has restored this many events.
    Started(u64),
    /// The child has restored a history of these events.
    Remembers(Vec<u64>),
    /// These events of the history were delivered.
    RemembersDelivered(Vec<u64>),
    /// The child is about to capture the event of this number.
    Captures(u64),
    /// All events up to this number are durable.
    Flushed(u64),
    /// The child is about to withdraw.
    Withdraws,
    /// The receipt says that all events up to this number are withdrawn.
    Withdrawn(u64),
    /// The child has delivered its events, or has left them to the next process.
    Ended,
}

impl Fact {
    fn report(&self) {
        let line = match self {
            Self::Begins => "Begins".to_owned(),
            Self::Started(events) => format!("Started {events}"),
            Self::Remembers(events) => format!("Remembers {}", list(events)),
            Self::RemembersDelivered(events) => format!("RemembersDelivered {}", list(events)),
            Self::Captures(number) => format!("Captures {number}"),
            Self::Flushed(number) => format!("Flushed {number}"),
            Self::Withdraws => "Withdraws".to_owned(),
            Self::Withdrawn(number) => format!("Withdrawn {number}"),
            Self::Ended => "Ended".to_owned(),
        };
        let mut stdout = std::io::stdout();
        let line = format!("{MARK}{line}\n");
        stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).unwrap();
    }

    fn from_line(line: &str) -> Self {
        let (name, numbers) = line.split_once(' ').unwrap_or((line, "0"));
        let numbers = numbers.split_terminator(',').map(|number| number.parse().unwrap());
        let numbers: Vec<u64> = numbers.collect();
        let number = numbers.first().copied().unwrap_or_default();
        match name {
            "Begins" => Self::Begins,
            "Started" => Self::Started(number),
            "Remembers" => Self::Remembers(numbers),
            "RemembersDelivered" => Self::RemembersDelivered(numbers),
            "Captures" => Self::Captures(number),
            "Flushed" => Self::Flushed(number),
            "Withdraws" => Self::Withdraws,
            "Withdrawn" => Self::Withdrawn(number),
            "Ended" => Self::Ended,
            other => panic!("{other}"),
        }
    }
}

fn list(numbers: &[u64]) -> String {
    numbers.iter().map(|number| format!("{number},")).collect()
}

/// The instructions of one child.
struct Order {
    homeserver: String,
    device: String,
    token: String,
    directory: String,
    collector: String,
    /// The number of this process.
    process: u64,
    /// The number of the next event.
    next: u64,
    seed: u64,
    /// The last process is not killed, and delivers everything.
    is_last: bool,
}

impl Order {
    fn to_text(&self) -> String {
        let Self { homeserver, device, token, directory, collector, .. } = self;
        let Self { process, next, seed, is_last, .. } = self;
        let places = [homeserver, device, token, directory, collector];
        let places = places.map(String::as_str).join("\n");
        format!("{places}\n{process}\n{next}\n{seed}\n{is_last}")
    }

    fn from_text(text: &str) -> Self {
        let fields: Vec<_> = text.split('\n').map(str::to_owned).collect();
        let [homeserver, device, token, directory, collector, process, next, seed, is_last] =
            <[String; 9]>::try_from(fields).unwrap();
        Self {
            homeserver,
            device,
            token,
            directory,
            collector,
            process: process.parse().unwrap(),
            next: next.parse().unwrap(),
            seed: seed.parse().unwrap(),
            is_last: is_last.parse().unwrap(),
        }
    }
}

/// Sends one line per event, and waits for the answer.
struct Wire {
    collector: String,
    process: u64,
    connection: tokio::sync::Mutex<Option<BufStream<TcpStream>>>,
}

impl Backend for Wire {
    fn name(&self) -> &'static str {
        "wire"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let lost = |error: std::io::Error| DeliveryError::Transient(Box::new(error));
        let mut held = self.connection.lock().await;
        // Taken out, so that a cancelled request does not leave a partial line on the connection.
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => BufStream::new(TcpStream::connect(&self.collector).await.map_err(lost)?),
        };
        let mut request = format!("{} {}", self.process, batch.distinct_id());
        for event in batch.events() {
            request.push_str(&format!(" {}={}", event.name(), event.uuid()));
        }
        request.push('\n');
        connection.write_all(request.as_bytes()).await.map_err(lost)?;
        connection.flush().await.map_err(lost)?;
        let mut answer = String::new();
        connection.read_line(&mut answer).await.map_err(lost)?;
        if answer != "taken\n" {
            return Err(DeliveryError::Transient("not taken".into()));
        }
        *held = Some(connection);
        Ok(())
    }

    fn close(&self) {
        if let Ok(mut held) = self.connection.try_lock() {
            *held = None;
        }
    }
}

#[tokio::test]
async fn a_child_captures_until_it_is_killed() {
    #[expect(clippy::disallowed_methods, reason = "the child reads its instructions")]
    let Ok(order) = std::env::var(ORDER) else { return };
    let order = Order::from_text(&order);
    let directory = Path::new(&order.directory);
    let mut random = fastrand::Rng::with_seed(order.seed);

    let store = SqliteStateStore::open(directory.join("store"), None).await.unwrap();
    let store = StoreConfig::new(CrossProcessLockConfig::SingleProcess).state_store(store);
    let client = client_of(&order.homeserver, &order.device, &order.token, store).await;
    Fact::Begins.report();
    let wire = Wire {
        collector: order.collector.clone(),
        process: order.process,
        connection: tokio::sync::Mutex::default(),
    };
    let analytics = Analytics::builder(client, ELEMENT_EVENT_TYPE)
        .backend(wire)
        .queue(SqliteQueue::new(directory.join("queue.sqlite3")).keep_history())
        .history(300)
        .limits(Limits::default().batch_max_events(7).batch_max_age(Duration::from_millis(2)))
        .request_timeout(Duration::from_millis(100))
        .build()
        .await
        .unwrap();
    check(&analytics);
    Fact::Started(analytics.stats().backends[0].restored).report();
    report_history(&analytics.history());
    opt_in(&analytics).await;

    let mut next = order.next;
    for _ in 0..random.u32(50..300) {
        match random.u32(0..1000) {
            0..2 => {
                Fact::Withdraws.report();
                let receipt = analytics.opt_out().await;
                check(&analytics);
                if receipt.record.is_done() && receipt.queue.is_done() {
                    Fact::Withdrawn(next - 1).report();
                }
                opt_in(&analytics).await;
            }
            2..100 => {
                analytics.flush_all().await;
                check(&analytics);
                Fact::Flushed(next - 1).report();
            }
            100..300 => tokio::task::yield_now().await,
            _ => {
                Fact::Captures(next).report();
                analytics.capture_named(next.to_string(), Properties::new());
                next += 1;
            }
        }
    }
    if order.is_last {
        analytics.until(ConsentState::is_open).await;
        while !analytics.flush_all().await.is_complete() {}
        Fact::Flushed(next - 1).report();
    }
    analytics.shutdown(Duration::from_millis(20)).await;
    check(&analytics);
    Fact::Ended.report();
}

fn report_history(history: &[SentEvent]) {
    let number = |sent: &SentEvent| sent.event().name().parse().unwrap();
    let delivered = history.iter().filter(|sent| sent.outcome() == SentOutcome::Delivered);
    Fact::Remembers(history.iter().map(number).collect()).report();
    Fact::RemembersDelivered(delivered.map(number).collect()).report();
}

/// Opts in unless the opt-in is already recorded, and waits until it is. Events captured before
/// that are not covered.
async fn opt_in(analytics: &Analytics) {
    while analytics.state().decision != Consent::Granted || analytics.recheck().await.is_err() {
        if analytics.opt_in().await.is_ok() {
            analytics.until(|state| state.is_open() || state.decision != Consent::Granted).await;
        }
    }
}

fn check(analytics: &Analytics) {
    let stats = analytics.stats();
    assert!(stats.backends[0].is_balanced(), "{stats:?}");
    assert_eq!(stats.queue, matrix_analytics::QueueStats::default());
}

/// An event that arrived, with its process, analytics ID, number and unique ID.
#[derive(Clone, Debug)]
struct Arrival {
    process: u64,
    id: String,
    number: u64,
    uuid: String,
}

/// Accepts or refuses requests at random, and logs the accepted ones.
struct Collector {
    address: String,
    arrivals: Arc<Mutex<Arrivals>>,
    directory: TempDir,
    received: Arc<Notify>,
}

struct Arrivals {
    file: fs::File,
    numbers: BTreeSet<u64>,
}

impl Arrivals {
    fn add(&mut self, request: &str) {
        self.file.write_all(request.as_bytes()).unwrap();
        let numbers = request.split([' ', '=']).skip(2).step_by(2);
        self.numbers.extend(numbers.map(|number| number.parse::<u64>().unwrap()));
    }
}

impl Collector {
    async fn start(seed: u64) -> Self {
        let directory = TempDir::new().unwrap();
        let file = fs::File::create(directory.path().join("arrivals")).unwrap();
        let arrivals = Arc::new(Mutex::new(Arrivals { file, numbers: BTreeSet::new() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received = Arc::new(Notify::new());
        let (all, notify) = (arrivals.clone(), received.clone());
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(collect(stream, random.fork(), all.clone(), notify.clone()));
            }
        });
        Self { address, arrivals, directory, received }
    }

    fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().unwrap().file.sync_all().unwrap();
        let text = fs::read_to_string(self.directory.path().join("arrivals")).unwrap();
        let mut arrivals = Vec::new();
        for line in text.lines() {
            let fields: Vec<_> = line.split(' ').collect();
            for event in &fields[2..] {
                let (number, uuid) = event.split_once('=').unwrap();
                arrivals.push(Arrival {
                    process: fields[0].parse().unwrap(),
                    id: fields[1].to_owned(),
                    number: number.parse().unwrap(),
                    uuid: uuid.to_owned(),
                });
            }
        }
        arrivals
    }
}

async fn collect(
    stream: TcpStream,
    mut random: fastrand::Rng,
    arrivals: Arc<Mutex<Arrivals>>,
    received: Arc<Notify>,
) {
    let mut stream = BufStream::new(stream);
    let mut request = String::new();
    while stream.read_line(&mut request).await.is_ok_and(|read| read > 0) {
        received.notify_one();
        let outcome = random.u32(0..10);
        // A request that was cut short did not arrive.
        if outcome > 1 && request.ends_with('\n') {
            arrivals.lock().unwrap().add(&request);
        }
        // The request is accepted, but its answer is lost.
        if outcome == 2 {
            return;
        }
        let answer = if outcome > 1 { "taken\n" } else { "not now\n" };
        let answered = async {
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await
        };
        if answered.await.is_err() {
            return;
        }
        request.clear();
    }
}

/// The facts reported by all processes.
#[derive(Default)]
struct Ledger {
    next: u64,
    /// The era in which each event was captured: the number of withdrawals before it.
    eras: BTreeMap<u64, u64>,
    era: u64,
    /// Durable events that have neither been withdrawn nor arrived.
    owed: BTreeSet<u64>,
    /// The number of those when this process began. It must restore at least as many.
    owed_before: u64,
    covered: u64,
    /// For each completed withdrawal: the process, and the last event before it.
    withdrawals: Vec<(u64, u64)>,
    restored: u64,
    /// The events that the history of a process called delivered.
    remembered: BTreeSet<u64>,
}

impl Ledger {
    fn note(&mut self, process: u64, fact: &Fact, flushed_from: &mut u64) {
        match fact {
            Fact::Begins | Fact::Ended => {}
            Fact::Started(events) => {
                assert!(*events >= self.owed_before, "{events} of {} found", self.owed_before);
                self.restored += events;
            }
            Fact::Remembers(numbers) => {
                for (withdrawn_in, last) in &self.withdrawals {
                    let withdrawn = numbers.iter().find(|number| *number <= last);
                    assert_eq!(withdrawn, None, "withdrawn in {withdrawn_in}, seen in {process}");
                }
            }
            Fact::RemembersDelivered(numbers) => self.remembered.extend(numbers),
            Fact::Captures(number) => {
                self.eras.insert(*number, self.era);
                self.next = number + 1;
            }
            Fact::Flushed(number) => {
                self.owed.extend(*flushed_from..=*number);
                self.covered += (number + 1).saturating_sub(*flushed_from);
                *flushed_from = number + 1;
            }
            // Only a completed withdrawal is certain to be remembered.
            Fact::Withdraws => {
                self.owed.clear();
                *flushed_from = self.next;
            }
            Fact::Withdrawn(number) => {
                self.era += 1;
                self.withdrawals.push((process, *number));
            }
        }
    }

    fn process_begins(&mut self, arrived: &BTreeSet<u64>) {
        self.owed.retain(|number| !arrived.contains(number));
        self.owed_before = self.owed.len() as u64;
    }

    fn check(&self, arrivals: &[Arrival]) {
        let mut uuids: BTreeMap<u64, &str> = BTreeMap::new();
        let mut ids: BTreeMap<&str, u64> = BTreeMap::new();
        for arrival in arrivals {
            let Arrival { process, id, number, uuid } = arrival;
            let first = uuids.entry(*number).or_insert(uuid);
            assert_eq!(first, uuid, "two unique IDs for {number}");
            let era = self.eras[number];
            let first = ids.entry(id).or_insert(era);
            assert_eq!(*first, era, "{number} arrived under an ID of another era");
            for (withdrawn_in, last) in &self.withdrawals {
                assert!(
                    *number > *last || process <= withdrawn_in,
                    "{number} was withdrawn in {withdrawn_in} and arrived in {process}",
                );
            }
        }
        let distinct: BTreeSet<_> = uuids.values().collect();
        assert_eq!(distinct.len(), uuids.len(), "two events of one unique ID");
        let lost: Vec<_> = self.owed.iter().filter(|number| !uuids.contains_key(number)).collect();
        assert!(lost.is_empty(), "{} lost: {lost:?}", lost.len());
        let is_missing = |number: &&u64| !uuids.contains_key(number);
        assert_eq!(self.remembered.iter().find(is_missing), None, "delivered, but did not arrive");
        assert!(!self.remembered.is_empty(), "no process restored a history");
    }
}

/// Returns the child's next fact, or `None` when it ends.
async fn next_fact(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<Fact> {
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, fact)) = line.split_once(MARK) {
            return Some(Fact::from_line(fact));
        }
    }
    None
}

/// Runs a child, and kills it at a random moment unless it is the last. Returns whether it was
/// killed.
async fn run_child(
    order: &Order,
    collector: &Collector,
    random: &mut fastrand::Rng,
    ledger: &mut Ledger,
) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([CHILD, "--exact", "--nocapture"])
        .env(ORDER, order.to_text())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut flushed_from = order.next;
    let mut points = 0;
    // Half of the kills come early: while the files are opened, and while the previous process's
    // events are restored and sent.
    let kill_at = if random.bool() { random.u32(0..8) } else { random.u32(0..250) };
    let ended = loop {
        if !order.is_last && points == kill_at {
            for _ in 0..random.u32(0..2_000) {
                tokio::task::yield_now().await;
            }
            break false;
        }
        tokio::select! {
            fact = next_fact(&mut lines) => match fact {
                Some(fact) => ledger.note(order.process, &fact, &mut flushed_from),
                None => break true,
            },
            () = collector.received.notified() => {}
        }
        points += 1;
    };
    // Sends SIGKILL, and waits for the child's exit. Its earlier reports are still in the pipe.
    let _ = child.start_kill();
    let status = child.wait().await.unwrap();
    while let Some(fact) = next_fact(&mut lines).await {
        ledger.note(order.process, &fact, &mut flushed_from);
    }
    assert!(!ended || status.success(), "the child failed: {status}");
    !ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn covered_events_survive_every_kill_and_arrive_once() {
    #[expect(clippy::disallowed_methods, reason = "the run reads the number of kills")]
    let kills: u64 = std::env::var(KILLS).map_or(30, |kills| kills.parse().unwrap());
    let seed = 0x5eed ^ kills;
    let mut random = fastrand::Rng::with_seed(seed);
    let server = AccountDataServer::start().await;
    server.set_content(ALICE, ELEMENT_EVENT_TYPE, &content(Some(true), Some(FOREIGN_ID)));
    let DeviceLogin { device_id, access_token, .. } = server.add_device(ALICE, "PHONE");
    let collector = Collector::start(seed).await;
    let directory = TempDir::new().unwrap();

    let mut ledger = Ledger::default();
    let (mut killed, mut process) = (0, 0);
    let begun = Instant::now();
    loop {
        process += 1;
        ledger.process_begins(&collector.arrivals.lock().unwrap().numbers);
        let order = Order {
            homeserver: server.uri().to_owned(),
            device: device_id.clone(),
            token: access_token.clone(),
            directory: directory.path().to_str().unwrap().to_owned(),
            collector: collector.address.clone(),
            process,
            next: ledger.next,
            seed: random.u64(..),
            is_last: killed == kills,
        };
        killed += u64::from(run_child(&order, &collector, &mut random, &mut ledger).await);
        server.clear_requests();
        if order.is_last {
            break;
        }
    }
    let arrivals = collector.arrivals();
    ledger.check(&arrivals);
    assert!(ledger.restored > 0, "no process restored an event");
    report(killed, begun.elapsed(), &ledger, &arrivals);
}

#[expect(clippy::print_stdout, reason = "the documentation quotes these numbers")]
fn report(killed: u64, time: Duration, ledger: &Ledger, arrivals: &[Arrival]) {
    let distinct: BTreeSet<_> = arrivals.iter().map(|arrival| arrival.number).collect();
    println!(
        "{killed} kills in {time:.1?}: {} events captured, {} of them covered, {} restored, {} withdrawals; {} arrived, with {} repeats",
        ledger.next,
        ledger.covered,
        ledger.restored,
        ledger.withdrawals.len(),
        distinct.len(),
        arrivals.len() - distinct.len(),
    );
}
