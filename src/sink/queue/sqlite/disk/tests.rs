//! Tests of the jobs, one after another on one thread.

use tokio::sync::oneshot;

use super::*;
use crate::{
    event::UserUpdate,
    history::History,
    sink::queue::{
        FoundErasures,
        sqlite::{
            orders::Erasures,
            tests::{encrypted_setup, event, sent, setup, update},
        },
    },
};

fn open(path: &std::path::Path, facts: &Arc<Facts>) -> (Disk, Restored) {
    let file = QueueFile::resolve(path).unwrap();
    Disk::open(file, setup(), facts.clone(), Some(1)).unwrap()
}

/// Opens a file that keeps the returned history.
fn open_with_history(path: &std::path::Path, facts: &Arc<Facts>) -> (Disk, Arc<History>) {
    let (file, history) = (QueueFile::resolve(path).unwrap(), Arc::new(History::new(10)));
    let settings = setup().with_history(Some(history.clone()));
    let (disk, _) = Disk::open(file, settings, facts.clone(), Some(1)).unwrap();
    (disk, history)
}

/// Closes `disk`, and returns the number of entries that the next process finds.
fn restored_entries(mut disk: Disk, path: &std::path::Path) -> usize {
    disk.carry_out(Job::Close);
    open_with_history(path, &Arc::default()).1.events().len()
}

/// Writes `number` events, and returns their rows.
fn write(disk: &mut Disk, number: usize) -> Vec<Option<NonZeroU64>> {
    let (written, mut rows) = oneshot::channel();
    let events = (0..number).map(|_| event()).collect();
    disk.carry_out(Job::Write(Write { events, written }));
    rows.try_recv().unwrap()
}

fn damage() -> Result<(), StorageError> {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(code, None).into())
}

#[test]
fn a_file_that_breaks_while_it_is_open_is_replaced() {
    let directory = tempfile::TempDir::new().unwrap();
    let (path, facts) = (directory.path().join("queue"), Arc::default());
    let (mut disk, _) = open(&path, &facts);
    write(&mut disk, 3);
    assert!(disk.replace_damaged(&damage()));
    assert_eq!((facts.durable_from(), facts.stats().not_durable), (4, 3));

    let later = write(&mut disk, 2);
    assert_eq!(later[0].map(NonZeroU64::get), Some(4));
    assert_eq!((facts.stats().unreadable_files, facts.stats().not_durable), (1, 3));
    disk.carry_out(Job::Mark(vec![4, 0]));
    disk.carry_out(Job::Close);
    let (_, restored) = open(&path, &facts);
    let rows: Vec<_> = restored.rows.iter().map(|(row, _)| *row).collect();
    assert_eq!(rows, [4, 5]);
    assert_eq!(
        [restored.waits(0, 4), restored.waits(1, 4), restored.waits(0, 5)],
        [false, true, true]
    );
}

#[test]
fn erasures_that_are_written_after_a_shutdown_delete_no_events() {
    let directory = tempfile::TempDir::new().unwrap();
    let (path, facts) = (directory.path().join("queue"), Arc::default());
    let (mut disk, _) = open(&path, &facts);
    write(&mut disk, 3);
    disk.carry_out(Job::Users([(0, update(1))].into()));
    disk.carry_out(Job::Close);
    for (version, plain) in [(2, Some(vec![1])), (3, None)] {
        disk.carry_out(Job::Erasures(Erasures { version, plain }));
        assert_eq!(facts.erasures_kept(), version);
    }
    let (_, restored) = open(&path, &facts);
    assert_eq!((restored.rows.len(), restored.users.len()), (3, 1));
}

/// Opens the encrypted file of `user`, and returns the erasures that it finds.
fn open_encrypted(path: &std::path::Path, user: &str, facts: &Arc<Facts>) -> (Disk, FoundErasures) {
    let file = QueueFile::resolve(path).unwrap();
    let settings = OpenSettings { owner: user.as_bytes().to_vec(), ..encrypted_setup() };
    let (disk, restored) = Disk::open(file, settings, facts.clone(), Some(1)).unwrap();
    (disk, restored.erasures)
}

#[test]
fn after_a_shutdown_nothing_of_a_later_process_is_overwritten_or_wiped() {
    for successor in ["alice", "bob"] {
        let directory = tempfile::TempDir::new().unwrap();
        let (path, facts) = (directory.path().join("queue"), Arc::default());
        let erasures =
            |version, plain: Option<&[u8]>| Erasures { version, plain: plain.map(<[u8]>::to_vec) };
        let (mut disk, _) = open_encrypted(&path, "alice", &facts);
        disk.carry_out(Job::Erasures(erasures(2, Some(b"X"))));
        disk.carry_out(Job::Close);
        // Nothing has come in between: the file is still its own.
        disk.carry_out(Job::Erasures(erasures(3, Some(b"X, tried"))));
        assert_eq!(facts.erasures_kept(), 3);

        let (mut later, found) = open_encrypted(&path, successor, &Arc::default());
        let is_same = successor == "alice";
        assert_eq!(found == FoundErasures::Some(b"X, tried".to_vec()), is_same);
        write(&mut later, 3);
        later.carry_out(Job::Erasures(erasures(2, Some(b"X and Y"))));
        // It is killed.
        drop(later);
        for plain in [Some(&b"X, tried again"[..]), None] {
            disk.carry_out(Job::Erasures(erasures(4, plain)));
            assert!(facts.erasures_kept() < 4);
        }
        facts.raise_floor(2);
        assert!(matches!(disk.wipe(), Err(QueueError::InUse)));
        drop(disk);

        let file = QueueFile::resolve(&path).unwrap();
        let settings = OpenSettings { owner: successor.into(), ..encrypted_setup() };
        let (_, restored) = Disk::open(file, settings, Arc::default(), Some(1)).unwrap();
        assert_eq!(restored.erasures, FoundErasures::Some(b"X and Y".to_vec()));
        assert_eq!(restored.rows.len(), 3);
    }
}

#[test]
fn a_new_file_has_no_erasures_until_they_are_written() {
    let directory = tempfile::TempDir::new().unwrap();
    let (path, facts) = (directory.path().join("queue"), Arc::default());
    let (mut disk, _) = open(&path, &facts);
    assert_eq!(facts.erasures_kept(), FIRST_VERSION);
    assert!(disk.replace_damaged(&damage()));
    assert!(facts.erasures_kept() < FIRST_VERSION);
    write(&mut disk, 1);
    assert_eq!(facts.erasures_kept(), FIRST_VERSION);
}

#[test]
fn a_file_that_replaces_a_damaged_one_gets_the_waiting_user_properties() {
    let directory = tempfile::TempDir::new().unwrap();
    let (path, facts) = (directory.path().join("queue"), Arc::default());
    let (mut disk, _) = open(&path, &facts);
    disk.carry_out(Job::Users([(0, update(1)), (1, update(1))].into()));
    disk.carry_out(Job::Users([(0, UserUpdate { epoch: 1, ..UserUpdate::default() })].into()));
    assert!(disk.replace_damaged(&damage()));
    write(&mut disk, 1);
    disk.carry_out(Job::Close);
    let (mut disk, restored) = open(&path, &facts);
    assert_eq!(restored.users.iter().map(|(lane, _)| *lane).collect::<Vec<_>>(), [1]);

    // So does a file that replaces one from which they were restored.
    assert!(disk.replace_damaged(&damage()));
    write(&mut disk, 0);
    disk.carry_out(Job::Close);
    assert_eq!(open(&path, &facts).1.users.len(), 1);
}

#[test]
fn a_file_that_replaces_a_damaged_one_gets_the_history_even_if_nothing_is_captured() {
    let directory = tempfile::TempDir::new().unwrap();
    let (path, facts) = (directory.path().join("queue"), Arc::default());
    let (mut disk, history) = open_with_history(&path, &facts);
    history.restore(vec![(1, sent()), (2, sent())]);
    disk.carry_out(Job::History);
    assert!(disk.replace_damaged(&damage()));
    disk.carry_out(Job::History);
    assert_eq!(restored_entries(disk, &path), 2);
    assert_eq!(facts.stats().history_failures, 0);
}

#[test]
fn a_history_that_could_not_be_written_is_written_with_its_next_change_or_at_the_end() {
    for changes in [0, 1] {
        let directory = tempfile::TempDir::new().unwrap();
        let (path, facts) = (directory.path().join("queue"), Arc::default());
        let (mut disk, history) = open_with_history(&path, &facts);
        let sql = |disk: &Disk, sql| disk.rows.as_ref().unwrap().connection.execute_batch(sql);
        sql(
            &disk,
            "CREATE TRIGGER full BEFORE INSERT ON history WHEN NEW.id = 2
             BEGIN SELECT raise(FAIL, 'database or disk is full'); END",
        )
        .unwrap();
        history.restore(vec![(1, sent()), (2, sent())]);
        disk.carry_out(Job::History);
        assert_eq!(facts.stats().history_failures, 1);
        sql(&disk, "DROP TRIGGER full").unwrap();
        for _ in 0..changes {
            disk.carry_out(Job::History);
        }
        assert_eq!(restored_entries(disk, &path), 2);
        assert_eq!(facts.stats().history_failures, 1);
    }
}

#[test]
fn no_entry_of_an_earlier_epoch_is_written_after_a_wipe() {
    let directory = tempfile::TempDir::new().unwrap();
    let (path, facts) = (directory.path().join("queue"), Arc::<Facts>::default());
    let (mut disk, history) = open_with_history(&path, &facts);
    history.restore(vec![(1, sent())]);
    disk.carry_out(Job::History);
    // The history in memory is wiped only after the file was told of the withdrawal.
    history.restore(vec![(2, sent())]);
    facts.raise_floor(2);
    disk.carry_out(Job::Wipe(Vec::new()));
    disk.carry_out(Job::History);
    assert_eq!(restored_entries(disk, &path), 0);
}

#[test]
fn a_withdrawn_history_makes_no_file_in_place_of_the_deleted_one() {
    let directory = tempfile::TempDir::new().unwrap();
    let (path, facts) = (directory.path().join("queue"), Arc::<Facts>::default());
    let (mut disk, history) = open_with_history(&path, &facts);
    history.restore(vec![(1, sent())]);
    facts.raise_floor(2);
    disk.destroy().unwrap();
    disk.carry_out(Job::History);
    assert!(!path.exists());
}

#[cfg(unix)]
#[test]
fn a_wipe_that_failed_at_files_set_aside_does_not_empty_the_file_again() {
    let directory = tempfile::TempDir::new().unwrap();
    let (path, facts) = (directory.path().join("queue"), Arc::<Facts>::default());
    let (mut disk, _) = open(&path, &facts);
    write(&mut disk, 3);
    let set_aside = directory.path().join("queue.set-aside");
    std::os::unix::fs::symlink("nowhere", &set_aside).unwrap();
    facts.raise_floor(2);
    assert!(matches!(disk.wipe(), Err(QueueError::NotARegularFile)));
    for _ in 0..2 {
        disk.carry_out(Job::Close);
        assert!(matches!(disk.wipe(), Err(QueueError::NotARegularFile)));
    }
    assert!(path.exists());
    std::fs::remove_file(set_aside).unwrap();
    disk.wipe().unwrap();
    assert_eq!(open(&path, &facts).1.rows.len(), 0);
}

#[test]
fn a_file_that_replaces_a_damaged_one_gets_the_marks() {
    let directory = tempfile::TempDir::new().unwrap();
    let (path, facts) = (directory.path().join("queue"), Arc::default());
    let (mut disk, _) = open(&path, &facts);
    write(&mut disk, 3);
    disk.carry_out(Job::Mark(vec![3, 3]));
    assert!(disk.replace_damaged(&damage()));
    write(&mut disk, 1);
    // The mark of the other lane has not changed since.
    disk.carry_out(Job::Mark(vec![4, 0]));
    disk.carry_out(Job::Close);
    let (_, restored) = open(&path, &facts);
    assert_eq!(restored.done, [4, 3]);
}
