//! The memory that a large report takes, in a process of its own.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

use std::io::Write as _;

use matrix_analytics::{BugReport, Rageshake};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::TcpListener,
};

/// The most that a report may add to the memory of the process, in bytes.
const MOST: u64 = 8 * 1024 * 1024;

const MEGABYTE: usize = 1024 * 1024;

/// Starts a server that discards what it reads. Returns its endpoint.
async fn server() -> Rageshake {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let mut stream = BufStream::new(listener.accept().await.unwrap().0);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                stream.read_line(&mut head).await.unwrap();
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = (&mut stream).take(length.unwrap().parse().unwrap());
            tokio::io::copy_buf(&mut body, &mut tokio::io::sink()).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            stream.flush().await.unwrap();
        }
    });
    Rageshake::new(&format!("http://{address}/api/submit")).unwrap()
}

/// Returns a number of the kernel about this process, in bytes.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap() * 1024
}

/// Writes lines that compress to about three quarters.
fn write_log(mut file: &std::fs::File, bytes: usize) {
    const CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz~|^;&*(){}<>";

    let mut state = 1_u64;
    let mut line = [b'\n'; 128];
    for _ in 0..bytes / line.len() {
        for byte in &mut line[..127] {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = CHARS[(state % 64) as usize];
        }
        file.write_all(&line).unwrap();
    }
}

#[tokio::test]
async fn a_report_of_50_megabytes_takes_less_than_8_megabytes_of_memory() {
    let server = server().await;
    let directory = tempfile::tempdir().unwrap();
    let report_of = |log: usize, screenshot: u64| {
        let mut report = BugReport::new("example-app", "1.2.3");
        let path = directory.path().join("app.log");
        write_log(&std::fs::File::create(&path).unwrap(), log);
        report.add_log_file("app.log", path).unwrap();
        let path = directory.path().join("screenshot.png");
        std::fs::File::create(&path).unwrap().set_len(screenshot).unwrap();
        report.add_attachment_file("screenshot.png", path).unwrap();
        report
    };
    // What the first request leaves in memory is not that of a report: certificates, threads.
    report_of(MEGABYTE, 1024).submit(&server, |_, _| {}).await.unwrap();

    let mut report = report_of(4 * MEGABYTE, 49_000_000);
    // Resets the highest value: see proc_pid_clear_refs(5).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS:");
    let preview = report.preview().await;
    report.submit(&server, |_, _| {}).await.unwrap();
    let added = memory("VmHWM:").saturating_sub(before);
    let sent = preview.bytes;
    assert!((50_000_000..BugReport::MAX_BYTES).contains(&sent), "the report has {sent} bytes");
    #[expect(clippy::print_stdout, reason = "the number is of interest")]
    {
        println!("a report of {sent} bytes took {added} bytes of memory");
    }
    assert!(added < MOST, "a report of {sent} bytes took {added} bytes of memory");
}
