//! Files that are missing, long, or that change.

use std::{
    fs,
    io::{ErrorKind, Seek as _, SeekFrom, Write as _},
    path::PathBuf,
};

use matrix_analytics::{BugReport, SubmitError};
use tempfile::TempDir;

use super::{
    refused,
    server::{Config, Server},
    submitted,
};

struct Setup {
    directory: TempDir,
    server: Server,
    report: BugReport,
}

impl Setup {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            server: Server::start(Config::default()),
            report: BugReport::new("example-app", "1"),
        }
    }

    /// Adds a log file with `content`.
    fn log(&mut self, content: &str) -> PathBuf {
        let path = self.directory.path().join("app.log");
        fs::write(&path, content).unwrap();
        self.report.add_log_file("app.log", &path).unwrap();
        path
    }

    async fn received_log(&self) -> String {
        let received = submitted(&self.server, &self.report).await;
        String::from_utf8(received.logs["app.log.gz"].clone()).unwrap()
    }
}

fn append(path: &PathBuf, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn what_a_log_grows_by_after_the_preview_is_not_sent() {
    let mut setup = Setup::new();
    let path = setup.log("previewed\n");
    let bytes = setup.report.preview().await.bytes;
    append(&path, "later\n");
    assert_eq!(setup.received_log().await, "previewed\n");
    assert_eq!(setup.server.seen().bodies[0].len() as u64, bytes);
    setup.report.preview().await;
    assert_eq!(setup.received_log().await, "previewed\nlater\n", "a new preview reads it again");
}

#[tokio::test]
async fn a_log_that_was_cut_or_replaced_since_the_preview_is_an_error_with_its_name() {
    for replaced in ["short\n", "a content of another length, which is not that of the preview\n"] {
        let mut setup = Setup::new();
        let path = setup.log("the content at the time of the preview\n");
        setup.report.preview().await;
        fs::write(&path, replaced).unwrap();
        let error = refused(&setup.server, &setup.report).await;
        assert!(matches!(&error, SubmitError::Changed(part) if part == "app.log"), "{error:?}");
        assert_eq!(setup.server.seen().reports.len(), 0);
        setup.report.preview().await;
        assert_eq!(setup.received_log().await, replaced);
    }
}

#[tokio::test]
async fn an_attachment_that_was_cut_since_the_preview_is_an_error_with_its_name() {
    let mut setup = Setup::new();
    let path = setup.directory.path().join("a.png");
    fs::write(&path, [7; 100_000]).unwrap();
    setup.report.add_attachment_file("a.png", &path).unwrap();
    setup.report.preview().await;
    fs::write(&path, [7; 99_999]).unwrap();
    let error = refused(&setup.server, &setup.report).await;
    assert!(matches!(&error, SubmitError::Changed(part) if part == "a.png"), "{error:?}");
    append(&path, "more than before");
    assert_eq!(submitted(&setup.server, &setup.report).await.files["a.png"].len(), 100_000);
}

#[tokio::test]
async fn a_missing_file_is_named_in_the_preview_and_the_error_and_can_be_removed() {
    let mut setup = Setup::new();
    let directory = setup.directory.path().to_owned();
    setup.report.add_log_file("missing.log", directory.join("gone.log")).unwrap();
    setup.report.add_attachment_file("folder.png", &directory).unwrap();
    let preview = setup.report.preview().await;
    let [.., missing, folder] = &*preview.parts else { panic!("{preview:?}") };
    assert_eq!(missing.unreadable, Some(ErrorKind::NotFound));
    assert_eq!(folder.unreadable, Some(ErrorKind::InvalidInput));
    for (part, name) in [(missing, "missing.log"), (folder, "folder.png")] {
        let error = refused(&setup.server, &setup.report).await;
        let SubmitError::Unreadable(unreadable, _) = &error else { panic!("{error:?}") };
        assert_eq!(unreadable, name);
        let printed = format!("{error:?} {error}");
        assert!(!printed.contains("gone") && !printed.contains(&*directory.to_string_lossy()));
        setup.report.remove(part);
    }
    assert_eq!(setup.server.seen().opened, 0, "nothing was sent before all of it could be read");
    submitted(&setup.server, &setup.report).await;
}

#[tokio::test]
async fn of_a_log_of_a_gigabyte_the_last_lines_are_sent() {
    const GIGABYTE: u64 = 1024 * 1024 * 1024;

    let mut setup = Setup::new();
    let path = setup.log("");
    let mut file = fs::File::create(&path).unwrap();
    // The file has a hole of this size.
    file.seek(SeekFrom::Start(GIGABYTE)).unwrap();
    file.write_all(b"\nfirst\nlast\n").unwrap();
    let preview = setup.report.preview().await;
    let part = preview.parts.last().unwrap();
    assert_eq!(part.left_out, GIGABYTE + 12 - BugReport::MAX_LOG_BYTES);
    assert_eq!(setup.received_log().await, "first\nlast\n");
}

#[tokio::test]
async fn an_attachment_that_no_report_can_hold_is_named_and_not_read() {
    let mut setup = Setup::new();
    let path = setup.directory.path().join("large.json");
    fs::File::create(&path).unwrap().set_len(BugReport::MAX_BYTES + 1).unwrap();
    setup.report.add_attachment_file("large.json", &path).unwrap();
    let preview = setup.report.preview().await;
    assert_eq!(preview.parts.last().unwrap().unreadable, Some(ErrorKind::FileTooLarge));
    let error = refused(&setup.server, &setup.report).await;
    assert!(matches!(&error, SubmitError::Unreadable(part, _) if part == "large.json"));
}

#[tokio::test]
async fn a_log_that_is_not_utf8_arrives_as_it_is_or_with_replacements_if_it_is_redacted() {
    for (identifies, expected) in [(false, "a \u{fffd} b\n".as_bytes()), (true, b"a \xff b\n")] {
        let mut setup = Setup::new();
        setup.report.add_log("a.log", b"a \xff b\n").unwrap();
        if identifies {
            setup.report.include_device_id("D");
        }
        assert_eq!(submitted(&setup.server, &setup.report).await.logs["a.log.gz"], expected);
    }
}

#[tokio::test]
async fn the_files_are_only_read() {
    let mut setup = Setup::new();
    let path = setup.log("a\n");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    setup.report.preview().await;
    submitted(&setup.server, &setup.report).await;
    let entries = fs::read_dir(setup.directory.path()).unwrap().count();
    assert_eq!((entries, fs::metadata(&path).unwrap().modified().unwrap()), (1, before));
}
