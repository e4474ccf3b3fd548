//! A disk that really hangs: an ext4 file system on a loop device, where `fsfreeze` blocks every
//! write until it is thawed. This needs permission to mount. Without it, the test does nothing;
//! `hanging` covers the same cases on a simulated disk.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use matrix_analytics::{SqliteQueue, WithdrawalStep, testing::FailingBackend};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Durable, counters, flush, in_time, rows};
use crate::support::{AnalyticsExt as _, eventually};

/// A disk that can be frozen.
struct Disk {
    directory: TempDir,
    /// A process that thaws the disk if this one is killed: threads that wait for a frozen disk
    /// cannot be killed.
    watchdog: Child,
}

impl Disk {
    fn mount() -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let (image, root) = (directory.path().join("image"), directory.path().join("root"));
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        fs::create_dir(&root).unwrap();
        let quiet = |command: &str, arguments: &[&str]| {
            let mut command = Command::new(command);
            let command = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let (image, root) = (image.to_str().unwrap(), root.to_str().unwrap());
        if !quiet("mkfs.ext4", &["-q", image]) || !quiet("mount", &["-o", "loop", image, root]) {
            return None;
        }
        if !(quiet("fsfreeze", &["--freeze", root]) && quiet("fsfreeze", &["--unfreeze", root])) {
            quiet("umount", &[root]);
            return None;
        }
        let script = format!("timeout 90 cat; fsfreeze -u {root}; umount --lazy {root}");
        let mut watchdog = Command::new("sh");
        let watchdog = watchdog.args(["-c", &script]).stdin(Stdio::piped());
        let watchdog = watchdog.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Some(Self { directory, watchdog })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("root/queue.sqlite3")
    }

    fn run(&self, action: &str) {
        let mut command = Command::new("fsfreeze");
        let command = command.args([action, self.directory.path().join("root").to_str().unwrap()]);
        assert!(command.status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// Returns a runtime with so few blocking threads that one that is kept busy is noticed.
fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(4).build().unwrap()
}

#[test]
fn a_frozen_disk_stops_neither_delivery_nor_the_end_of_the_runtime() {
    let Some(disk) = Disk::mount() else { return };
    let runtime = runtime();
    runtime.block_on(async {
        let durable = Durable::new().await;
        let backend = FailingBackend::new();
        let queue = SqliteQueue::new(disk.path());
        let builder = durable.device.builder().queue(queue).backend(backend.clone());
        let analytics = builder.build().await.unwrap();
        analytics.confirmed().await;
        analytics.capture_one("Before");
        flush(&analytics).await;
        assert_eq!(backend.accepted_events().len(), 1);

        disk.run("--freeze");
        for number in 2..10 {
            analytics.capture_one("During");
            let delivered = || backend.accepted_events().len() == number;
            in_time("a frozen disk stops delivery", delivered).await;
        }
        assert!(analytics.stats().queue.not_durable > 0);
        // The app can still use blocking threads.
        eventually(tokio::task::spawn_blocking(|| ())).await.unwrap();

        let receipt = tokio::spawn(analytics.opt_out().into_future());
        in_time("an opt-out waits for the disk", || receipt.is_finished()).await;
        let receipt = receipt.await.unwrap();
        assert!(matches!(receipt.queue, WithdrawalStep::Pending(_)), "{receipt:?}");
        let ending = analytics.clone();
        let shutdown = tokio::spawn(async move { ending.shutdown(Duration::from_secs(1)).await });
        in_time("a shutdown waits for the disk", || shutdown.is_finished()).await;
        assert!(counters(&analytics).is_balanced());
    });
    let (ended, end) = mpsc::channel();
    #[expect(clippy::disallowed_methods, reason = "the test uses a plain thread")]
    let dropping = std::thread::spawn(move || {
        drop(runtime);
        ended.send(()).unwrap();
    });
    let ended = end.recv_timeout(Duration::from_secs(20));
    disk.run("--unfreeze");
    dropping.join().unwrap();
    assert!(ended.is_ok(), "the runtime's end waits for the disk");

    // The file's own thread wipes the file, and closes it.
    let runtime = self::runtime();
    runtime.block_on(async {
        let durable = Durable::new().await;
        let queue = SqliteQueue::new(disk.path());
        let builder = durable.device.builder().queue(queue).backend(FailingBackend::new());
        let analytics = builder.build().await.unwrap();
        assert_eq!(counters(&analytics).restored, 0);
        eventually(analytics.shutdown(Duration::ZERO)).await;
        assert_eq!(rows(&disk.path()), 0);
    });
}
