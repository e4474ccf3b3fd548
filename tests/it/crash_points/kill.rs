//! Kills a real process on a real SQLite store with SIGKILL, at every point of an opt-in, an
//! opt-out, an erasure and a resumed opt-out.
//!
//! The homeserver runs in the test's own process. The child reports each fact and each write of the
//! record on a line of its own, and waits for a line in reply. A proxy holds its account-data
//! requests. The only timing left to chance is how far the child gets between a reply and its
//! death.

use std::{fs, io::Write as _, path::Path, process::Stdio, sync::Arc};

use futures_util::future::BoxFuture;
use matrix_analytics::{Consent, testing::Fault};
use matrix_sdk::{
    SqliteStateStore, StoreError,
    store::{DynStateStore, IntoStateStore as _},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
    sync::Mutex,
};

use super::{
    Account, Call, Fact, Retired, Witness, client_of, content_with_theirs, make_calls, start,
    store::{GatedStore, Moment, Passing, StoreGate},
};
use crate::support::{FOREIGN_ID, FrozenTime, GatedProxy, eventually, id_in};

/// The name of the child's test.
const CHILD: &str = "crash_points::kill::a_child_follows_its_instructions";
/// The child's instructions. Unset in an ordinary run.
const ORDER: &str = "MATRIX_ANALYTICS_TEST_CHILD";
/// The prefix of a line for the parent. The test harness prints to the same stream.
const MARK: &str = "@@";

/// The child's connection to its parent.
struct Parent {
    line: Mutex<()>,
}

impl Witness for Parent {
    fn report(&self, fact: Fact) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let _line = self.line.lock().await;
            let line = format!("{MARK}{}\n", fact.to_line());
            let mut stdout = std::io::stdout();
            stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).unwrap();
            let answer = tokio::task::spawn_blocking(|| {
                std::io::stdin().read_line(&mut String::new()).unwrap()
            });
            assert_ne!(answer.await.unwrap(), 0, "the parent has exited");
        })
    }
}

impl StoreGate for Parent {
    fn reach(&self, moment: Moment) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.report(moment.into()).await;
            Ok(())
        })
    }
}

impl Fact {
    fn to_line(&self) -> String {
        match self {
            Self::Sent { id } => format!("Sent {id}"),
            Self::OptOutPolled { erase: true } => "ErasePolled".to_owned(),
            Self::OptOutPolled { erase: false } => "OptOutPolled".to_owned(),
            other => format!("{other:?}"),
        }
    }

    fn from_line(line: &str) -> Self {
        let all = [
            Self::OptInCalled,
            Self::OptOutPolled { erase: false },
            Self::OptOutPolled { erase: true },
            Self::OptOutReturned,
            Self::Complete,
            Self::WriteBegins,
            Self::WriteEnds,
            Self::WriteOfOptOutBegins,
        ];
        match line.strip_prefix("Sent ") {
            Some(id) => Self::Sent { id: id.to_owned() },
            None => all.into_iter().find(|fact| fact.to_line() == line).unwrap(),
        }
    }
}

#[tokio::test]
async fn a_child_follows_its_instructions() {
    #[expect(clippy::disallowed_methods, reason = "the child reads its instructions")]
    let Ok(order) = std::env::var(ORDER) else { return };
    let order: Vec<&str> = order.split('\n').collect();
    let [homeserver, device, token, directory, calls] = order[..] else { panic!("{order:?}") };

    let _frozen = FrozenTime::new();
    let parent = Arc::new(Parent { line: Mutex::new(()) });
    let store = GatedStore::config(open(Path::new(directory)).await, parent.clone());
    let client = client_of(homeserver, device, token, store).await;
    let (analytics, _) = start(client, parent.clone()).await;
    let calls: Vec<_> = calls.split(' ').map(Call::from_name).collect();
    make_calls(&analytics, &calls, &*parent).await;
}

impl Call {
    fn from_name(name: &str) -> Self {
        let all = [Self::Confirm, Self::OptIn, Self::Settle, Self::OptOut, Self::Erase];
        all.into_iter().find(|call| format!("{call:?}") == name).unwrap()
    }
}

async fn open(directory: &Path) -> Arc<DynStateStore> {
    SqliteStateStore::open(directory, None).await.unwrap().into_state_store()
}

/// The outcome of a child.
#[derive(Debug)]
enum End {
    Complete { points: usize },
    Killed,
}

/// Runs a child that makes `calls` on the store in `directory`. Kills it at its `kill_at`-th point,
/// or when it is done.
async fn run_child(account: &Account, directory: &Path, calls: &[Call], kill_at: usize) -> End {
    let mut proxy = GatedProxy::start(account.server.uri()).await;
    let calls: Vec<_> = calls.iter().map(|call| format!("{call:?}")).collect();
    let order = [
        &proxy.uri(),
        &account.login.device_id,
        &account.login.access_token,
        directory.to_str().unwrap(),
        &calls.join(" "),
    ];
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([CHILD, "--exact", "--nocapture"])
        .env(ORDER, order.join("\n"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut answers = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();

    let mut points = 0;
    let mut is_last = || {
        points += 1;
        points == kill_at
    };
    let end = loop {
        tokio::select! {
            held = proxy.next_of_any_method() => {
                if is_last() {
                    break End::Killed;
                }
                let answer = held.apply().await;
                if is_last() {
                    break End::Killed;
                }
                answer.deliver();
                if is_last() {
                    break End::Killed;
                }
            }
            line = lines.next_line() => {
                let line = line.unwrap().expect("the child runs until it is killed");
                let Some((_, line)) = line.split_once(MARK) else { continue };
                let fact = Fact::from_line(line);
                account.note(&fact);
                match fact {
                    Fact::Complete => break End::Complete { points },
                    Fact::WriteBegins | Fact::WriteEnds | Fact::WriteOfOptOutBegins
                        if is_last() =>
                    {
                        break End::Killed;
                    }
                    _ => answers.write_all(b"\n").await.unwrap(),
                }
            }
        }
    };
    // Sends SIGKILL, and waits for the child's exit.
    child.kill().await.unwrap();
    end
}

/// Kills a child at every point of `calls`, after `before`. Returns the number of points.
async fn kill_everywhere(
    held: Option<&str>,
    decision_before: Consent,
    before: &[(&[Call], Network)],
    calls: &[Call],
) -> usize {
    let _frozen = FrozenTime::new();
    let account = Account::new(held).await;
    let template = TempDir::new().unwrap();
    for (calls, network) in before {
        if *network == Network::Off {
            account.server.fail_all(Fault::ResetBefore);
        }
        let end = run_child(&account, template.path(), calls, usize::MAX).await;
        assert!(matches!(end, End::Complete { .. }));
        account.server.heal();
    }
    let content = account.content();

    for kill_at in 1.. {
        let directory = copy(template.path());
        account.set_content(content.as_deref().unwrap_or("{}"));
        account.take_requests();
        account.process_begins(decision_before);
        let end = eventually(run_child(&account, directory.path(), calls, kill_at)).await;
        let open = async || GatedStore::config(open(directory.path()).await, Arc::new(Passing));
        let retired = Retired::Known(content.as_deref().and_then(id_in));
        let case = format!("{calls:?}, killed at {kill_at}");
        account.check_restart(open, &retired, &case).await;
        if let End::Complete { points } = end {
            return points;
        }
    }
    unreachable!()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    On,
    Off,
}

/// Copies the files that a killed process left, including the write-ahead log.
fn copy(directory: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

const OPT_IN: (&[Call], Network) = (&[Call::Confirm, Call::OptIn, Call::Settle], Network::On);
const OPT_OUT_OFFLINE: (&[Call], Network) = (&[Call::OptOut], Network::Off);

#[tokio::test]
async fn an_opt_in_that_is_killed_breaks_no_promise() {
    let points = kill_everywhere(None, Consent::Undecided, &[], OPT_IN.0).await;
    assert!(points >= 17, "{points}");
}

#[tokio::test]
async fn an_opt_out_that_is_killed_breaks_no_promise() {
    let held = content_with_theirs(Some(true), Some(FOREIGN_ID));
    let calls = [Call::Confirm, Call::OptOut];
    let points = kill_everywhere(Some(&held), Consent::Granted, &[], &calls).await;
    assert!(points >= 18, "{points}");
}

#[tokio::test]
async fn an_erasure_that_is_killed_breaks_no_promise() {
    let calls = [Call::Confirm, Call::Erase];
    let points = kill_everywhere(None, Consent::Granted, &[OPT_IN], &calls).await;
    assert!(points >= 13, "{points}");
}

#[tokio::test]
async fn a_resumed_opt_out_that_is_killed_breaks_no_promise() {
    let before = [OPT_IN, OPT_OUT_OFFLINE];
    let points = kill_everywhere(None, Consent::Denied, &before, &[Call::Confirm]).await;
    assert!(points >= 11, "{points}");
}
