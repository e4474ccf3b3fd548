//! Kills a process with SIGKILL again and again while it opts in and out with erasures, always on
//! the same files. A last process carries out the erasures that remain.
//!
//! The only client of the account is this one, and it opts out with erasures only. So each ID that
//! was ever on the account and no longer is must have been erased, at whatever moment a process
//! was killed, and nothing else may have been. Nor may a process send anything under an ID that was
//! erased before it began. That holds on a disk that responds within the five seconds that an
//! opt-out waits for it.
//!
//! A seeded random generator decides when to kill, as in `durable::kill`. The waits between two
//! tries are longer than the test, so the child moves its clock.
//!
//! ```sh
//! MATRIX_ANALYTICS_TEST_KILLS=300 cargo test --all-features --test it erasure::kill
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::Path,
    pin::pin,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Instant,
};

use matrix_analytics::{
    BuildError, Consent, ELEMENT_EVENT_TYPE, ErasureEndpoint, QueueError, SqliteQueue,
    testing::{AccountDataServer, DeviceLogin},
};
use matrix_sdk::{
    SqliteStateStore, config::StoreConfig, cross_process_lock::CrossProcessLockConfig,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufStream},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::Notify,
};

use super::*;
use crate::{crash_points::client_of, support::ALICE};

/// The name of the child's test.
const CHILD: &str = "erasure::kill::a_child_withdraws_until_it_is_killed";
/// The child's instructions. Unset in an ordinary run.
const ORDER: &str = "MATRIX_ANALYTICS_TEST_ERASURE_CHILD";
/// The number of kills; an ordinary run makes a few.
const KILLS: &str = "MATRIX_ANALYTICS_TEST_KILLS";
/// The prefix of a line for the parent.
const MARK: &str = "@@";

fn report(point: &str) {
    let mut stdout = std::io::stdout();
    let line = format!("{MARK}{point}\n");
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).unwrap();
}

/// The prefix of a line for the ID that an event was sent under.
const SENT: &str = "sent ";

/// Reports each event that is sent to it.
struct Reporting;

impl Backend for Reporting {
    fn name(&self) -> &'static str {
        "reporting"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        for _ in batch.events() {
            report(&format!("{SENT}{}", batch.distinct_id()));
        }
        Ok(())
    }
}

/// Moves the clock of this process by half a day.
async fn jump() {
    tokio::time::pause();
    tokio::time::advance(HALF_A_DAY).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_child_withdraws_until_it_is_killed() {
    #[expect(clippy::disallowed_methods, reason = "the child reads its instructions")]
    let Ok(order) = std::env::var(ORDER) else { return };
    let fields: Vec<_> = order.split('\n').collect();
    let [homeserver, device, token, directory, endpoint, seed, is_last] = fields[..] else {
        panic!("{order}")
    };
    let mut random = fastrand::Rng::with_seed(seed.parse().unwrap());
    let directory = Path::new(directory);
    let store = SqliteStateStore::open(directory.join("store"), None).await.unwrap();
    let store = StoreConfig::new(CrossProcessLockConfig::SingleProcess).state_store(store);
    let client = client_of(homeserver, device, token, store).await;
    report("opens");
    let analytics = loop {
        let to =
            Recipient::new(Reporting).label(LABEL).erasure(ErasureEndpoint::new(endpoint).unwrap());
        let builder = Analytics::builder(client.clone(), ELEMENT_EVENT_TYPE)
            .backend(to)
            .queue(SqliteQueue::new(directory.join("queue.sqlite3")).passphrase("secret"))
            .request_timeout(Duration::from_millis(200));
        match builder.build().await {
            Ok(analytics) => break analytics,
            // The disk of a busy machine may take longer than an opening waits for it.
            Err(BuildError::Queue(QueueError::Open(_) | QueueError::InUse)) => {}
            Err(error) => panic!("{error:?}"),
        }
    };
    report("started");
    if is_last == "true" {
        while analytics.stats().erasures.pending > 0 || analytics.state().removal_pending {
            jump().await;
            let _ = analytics.recheck().await;
        }
        report("ended");
        return;
    }
    for _ in 0..20 {
        match random.u32(0..10) {
            0..4 => {
                if analytics.opt_in().await.is_ok() {
                    report("opted in");
                    analytics
                        .until(|state| state.is_open() || state.decision != Consent::Granted)
                        .await;
                }
            }
            4..7 => {
                if random.bool() {
                    // Two changes that are not saved yet.
                    let mut veto = pin!(analytics.deny_on_this_device());
                    let _ = poll!(&mut veto);
                    let mut allow = pin!(analytics.allow_on_this_device());
                    let _ = poll!(&mut allow);
                }
                report("withdraws");
                let receipt = analytics.opt_out().erase_recipients().await;
                assert!(receipt.erasures.iter().all(|erasure| {
                    erasure.state != ErasureState::Pending
                        || erasure.kept_in == ErasureStorage::File
                }));
                report("withdrawn");
            }
            7 => {
                let mut opt_out = pin!(analytics.opt_out().erase_recipients().into_future());
                assert!(poll!(&mut opt_out).is_pending());
                report("polled");
            }
            8 => jump().await,
            _ => {
                let _ = analytics.recheck().await;
                report("rechecked");
                if analytics.state().is_open() {
                    analytics.capture_one("Sent");
                    analytics.flush_all().await;
                }
            }
        }
    }
    analytics.shutdown(Duration::from_millis(20)).await;
    report("ended");
}

/// The requests that were accepted: the keys of each identifier.
type Accepted = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

/// Answers a request at random, and logs it if it was accepted.
async fn answer(
    stream: TcpStream,
    mut random: fastrand::Rng,
    accepted: Accepted,
    received: Arc<Notify>,
) {
    let mut stream = BufStream::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if !stream.read_line(&mut head).await.is_ok_and(|read| read > 0) {
            return;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    // The process may be killed before all of its request was sent.
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    received.notify_one();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["recipient"], LABEL);
    let key = head.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap();
    let outcome = random.u32(0..10);
    if outcome > 2 {
        let identifier = body["identifier"].as_str().unwrap().to_owned();
        accepted.lock().unwrap().entry(identifier).or_default().insert(key.to_owned());
    }
    let (status, body) = match outcome {
        0 => ("503 Service Unavailable", String::new()),
        1 => ("404 Not Found", String::new()),
        2 => ("200 OK", "<html>".to_owned()),
        // The answer is lost.
        3 => return,
        _ => ("200 OK", format!(r#"{{"accepted":"{key}"}}"#)),
    };
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.flush().await;
}

/// Runs a child, and kills it after a number of points. Returns whether it was killed, and the
/// last point that it reported. It must not send anything under an ID of `erased`.
async fn run_child(
    order: &str,
    kill_at: Option<u32>,
    random: &mut fastrand::Rng,
    received: &Notify,
    erased: &BTreeSet<String>,
) -> (bool, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([CHILD, "--exact", "--nocapture"])
        .env(ORDER, order)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut points, mut last) = (0, String::new());
    let ended = loop {
        if kill_at == Some(points) {
            for _ in 0..random.u32(0..2_000) {
                tokio::task::yield_now().await;
            }
            break false;
        }
        tokio::select! {
            line = lines.next_line() => match line.unwrap() {
                Some(line) => match line.split_once(MARK) {
                    Some((_, point)) => match point.strip_prefix(SENT) {
                        Some(id) => {
                            assert!(!erased.contains(id), "sent under {id} after its erasure");
                            continue;
                        }
                        None => last = point.to_owned(),
                    },
                    None => continue,
                },
                None => break true,
            },
            () = received.notified() => {}
        }
        points += 1;
    };
    let _ = child.start_kill();
    let status = child.wait().await.unwrap();
    assert!(!ended || status.success(), "the child failed: {status}");
    (!ended, last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_id_that_is_gone_was_erased_and_nothing_else() {
    #[expect(clippy::disallowed_methods, reason = "the run reads the number of kills")]
    let kills: u64 = std::env::var(KILLS).map_or(10, |kills| kills.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(0xe5a5 ^ kills);
    let server = AccountDataServer::start().await;
    let DeviceLogin { device_id, access_token, .. } = server.add_device(ALICE, "PHONE");
    let (accepted, received) = (Accepted::default(), Arc::new(Notify::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/erase", listener.local_addr().unwrap());
    let (log, notify, mut answers) = (accepted.clone(), received.clone(), random.fork());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, answers.fork(), log.clone(), notify.clone()));
        }
    });
    let directory = TempDir::new().unwrap();
    let begun = Instant::now();
    let (mut killed, mut ids) = (0, BTreeSet::new());
    let mut killed_after = BTreeMap::<String, u32>::new();
    loop {
        let is_last = killed == kills;
        let path = directory.path().to_str().unwrap();
        let seed = random.u64(..).to_string();
        let order = [server.uri(), &device_id, &access_token, path, &endpoint, &seed];
        let order = format!("{}\n{is_last}", order.join("\n"));
        let kill_at = (!is_last).then(|| random.u32(0..20));
        let erased = accepted.lock().unwrap().keys().cloned().collect();
        let run = run_child(&order, kill_at, &mut random, &received, &erased);
        let (was_killed, last) = run.await;
        if was_killed {
            killed += 1;
            *killed_after.entry(last).or_default() += 1;
        }
        for request in server.requests() {
            if request.method == AccountDataMethod::Put && request.applied {
                ids.extend(id_in(&request.body));
            }
        }
        server.clear_requests();
        if is_last {
            break;
        }
    }
    let held = server.content(ALICE, ELEMENT_EVENT_TYPE).and_then(|content| id_in(&content));
    let accepted = accepted.lock().unwrap();
    let erased: BTreeSet<_> = accepted.keys().cloned().collect();
    let gone: BTreeSet<_> = ids.iter().filter(|id| Some(*id) != held.as_ref()).cloned().collect();
    assert_eq!(erased, gone, "the account holds {held:?}");
    assert!(gone.len() as u64 > kills / 2, "{} IDs in {kills} kills", gone.len());
    let repeats = accepted.values().filter(|keys| keys.len() > 1).count();
    print(killed, begun.elapsed(), gone.len(), repeats, &killed_after);
}

#[expect(clippy::print_stdout, reason = "the documentation quotes these numbers")]
fn print(
    killed: u64,
    time: Duration,
    erased: usize,
    repeats: usize,
    killed_after: &BTreeMap<String, u32>,
) {
    println!(
        "{killed} kills in {time:.1?}: {erased} IDs withdrawn, all of them erased, {repeats} of them by two requests; killed after: {killed_after:?}"
    );
}
