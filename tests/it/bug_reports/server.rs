//! A double of the rageshake server, written after its `submit.go` (version 1.17.0), and of what
//! can stand in front of it.

use std::{collections::BTreeMap, io::Read as _, net::SocketAddr, sync::Arc};

use flate2::read::GzDecoder;
use matrix_analytics::Rageshake;
use memchr::memmem;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpSocket, TcpStream},
    sync::watch,
};

/// `maxPayloadSize`.
const MAX_PAYLOAD: usize = 55 * 1024 * 1024;
/// `bufio.MaxScanTokenSize` of Go.
const MAX_LINE: usize = 64 * 1024;
const POLICY: &str =
    "https://github.com/matrix-org/rageshake/blob/master/docs/blocked_rageshake.md";

/// The configuration of the server, and how it fails.
#[derive(Clone, Debug, Default)]
pub(super) struct Config {
    pub(super) allowed_apps: &'static [&'static str],
    pub(super) rejection: Option<Rejection>,
    pub(super) max_log_lines: Option<usize>,
    pub(super) report_url: Option<&'static str>,
    pub(super) fault: Fault,
}

/// A rejection condition: each field that is not empty has to match.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rejection {
    pub(super) version: &'static str,
    pub(super) label: &'static str,
    /// A part of the text, in place of a regular expression.
    pub(super) text: &'static str,
    pub(super) reason: &'static str,
    pub(super) code: &'static str,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fault {
    #[default]
    None,
    /// The disk of the server is full.
    Disk,
    /// A proxy in front answers with this status line and a page, after it has read the request.
    Page(&'static str),
    /// A proxy in front answers 413 with a page before it reads the body, and reads no more.
    EarlyPage,
    /// The connection is reset after so many bytes of the body.
    Reset(usize),
    /// Nothing is read after the head until the fault changes.
    ReadsNothing,
    /// The request is read and never answered.
    Silent,
}

/// A report that the server has taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) text: String,
    pub(super) app: String,
    pub(super) labels: Vec<String>,
    pub(super) data: BTreeMap<String, String>,
    /// The names and the decompressed contents.
    pub(super) logs: BTreeMap<String, Vec<u8>>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// What the server notes in `logErrors` and `fileErrors` of a report that it takes.
    pub(super) errors: Vec<String>,
}

/// What the server has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    config: Config,
    pub(super) reports: Vec<Received>,
    /// The bodies of complete requests, whatever the answer.
    pub(super) bodies: Vec<Vec<u8>>,
    pub(super) heads: Vec<String>,
    pub(super) opened: usize,
    pub(super) ended: usize,
}

pub(super) struct Server {
    address: SocketAddr,
    seen: Arc<watch::Sender<Seen>>,
}

impl Server {
    pub(super) fn start(config: Config) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if config.fault == Fault::ReadsNothing {
            // A small buffer: a client notices soon that its request is not read.
            socket.set_recv_buffer_size(4096).unwrap();
        }
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(watch::Sender::new(Seen { config, ..Seen::default() }));
        let all = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                all.send_modify(|seen| seen.opened += 1);
                let all = all.clone();
                tokio::spawn(async move {
                    serve(stream, &all).await;
                    all.send_modify(|seen| seen.ended += 1);
                });
            }
        });
        Self { address, seen }
    }

    pub(super) fn endpoint(&self) -> Rageshake {
        Rageshake::new(&format!("http://{}/api/submit", self.address)).unwrap()
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    pub(super) fn set_fault(&self, fault: Fault) {
        self.seen.send_modify(|seen| seen.config.fault = fault);
    }

    pub(super) async fn wait_until(&self, met: impl FnMut(&Seen) -> bool) {
        self.seen.subscribe().wait_for(met).await.unwrap();
    }
}

async fn serve(stream: TcpStream, all: &watch::Sender<Seen>) -> Option<()> {
    let mut stream = BufStream::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    all.send_modify(|seen| seen.heads.push(head.clone()));
    let config = all.borrow().config.clone();
    let length = header(&head, "content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    match config.fault {
        Fault::EarlyPage => {
            answer(&mut stream, "413 Request Entity Too Large", "<html>too large</html>").await?;
            // The connection is still open; the client has to close it.
            let _ = all.subscribe().wait_for(|seen| seen.config.fault != config.fault).await;
            return None;
        }
        Fault::Reset(bytes) => {
            stream.read_exact(&mut body[..bytes]).await.ok()?;
            stream.get_ref().set_zero_linger().ok()?;
            return None;
        }
        Fault::ReadsNothing => {
            let _ = all.subscribe().wait_for(|seen| seen.config.fault != config.fault).await;
            let _ = stream.read_to_end(&mut body).await;
            return None;
        }
        Fault::None | Fault::Disk | Fault::Page(_) | Fault::Silent => {}
    }
    // The real server reads the whole body even if it refuses it: see `ServeHTTP`.
    stream.read_exact(&mut body).await.ok()?;
    all.send_modify(|seen| seen.bodies.push(body.clone()));
    let (status, text) = match config.fault {
        Fault::Silent => std::future::pending().await,
        Fault::Page(status) => (status, "<html>a page</html>".to_owned()),
        _ if !head.starts_with("POST /api/submit ") => ("404 Not Found", "404".to_owned()),
        _ => match handle(&config, &head, length, &body) {
            Ok(report) => {
                all.send_modify(|seen| seen.reports.push(report));
                let url = config.report_url;
                let url = url.map_or(String::new(), |url| format!("\"report_url\":\"{url}\""));
                ("200 OK", format!("{{{url}}}\n"))
            }
            Err(refusal) => refusal,
        },
    };
    answer(&mut stream, status, &text).await
}

async fn answer(stream: &mut BufStream<TcpStream>, status: &str, body: &str) -> Option<()> {
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nlocation: /elsewhere\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.flush().await.ok()
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

type Refusal = (&'static str, String);

fn refusal(status: &'static str, error: &str, code: &str, policy: &str) -> Refusal {
    let mut body = serde_json::json!({ "error": error, "errcode": code });
    if !policy.is_empty() {
        body["policy_url"] = policy.into();
    }
    (status, format!("{body}\n"))
}

/// `handleSubmission`.
fn handle(
    config: &Config,
    head: &str,
    length: Option<usize>,
    body: &[u8],
) -> Result<Received, Refusal> {
    let bad = |status, error, code| refusal(status, error, code, "");
    let length =
        length.ok_or_else(|| bad("400 Bad Request", "Bad Content-Length header", "BAD_HEADER"))?;
    if length > MAX_PAYLOAD {
        return Err(bad("413 Content Too Large", "Content too large", "CONTENT_TOO_LARGE"));
    }
    let content_type = header(head, "content-type").unwrap_or_default();
    let report = content_type
        .strip_prefix("multipart/form-data; boundary=")
        .and_then(|boundary| parse(config, boundary, body))
        .ok_or_else(|| bad("400 Bad Request", "Bad multipart data", "BAD_CONTENT"))?;
    if !config.allowed_apps.is_empty() && !config.allowed_apps.contains(&&*report.app) {
        let error = "This server does not accept rageshakes from your application.";
        return Err(refusal("400 Bad Request", error, "DISALLOWED_APP", POLICY));
    }
    let version = report.data.get("Version").map(String::as_str).unwrap_or_default();
    if let Some(rejection) = config.rejection.filter(|rejection| {
        (rejection.version.is_empty() || rejection.version == version)
            && (rejection.label.is_empty() || report.labels.iter().any(|l| l == rejection.label))
            && report.text.contains(rejection.text)
    }) {
        let error = format!(
            "This server did not accept the rageshake because it matches a rejection condition: {}.",
            rejection.reason
        );
        let code = if rejection.code.is_empty() { "REJECTED" } else { rejection.code };
        return Err(refusal("400 Bad Request", &error, code, POLICY));
    }
    // `gzipAndSave` of `details.log.gz` fails if there is a log of that name.
    if config.fault == Fault::Disk || report.logs.contains_key("details.log.gz") {
        return Err(bad("500 Internal Server Error", "Could not save report", "UNKNOWN"));
    }
    Ok(report)
}

/// `parseMultipartRequest`.
fn parse(config: &Config, boundary: &str, body: &[u8]) -> Option<Received> {
    let most_lines = config.max_log_lines.unwrap_or(usize::MAX);
    let (mut report, mut lines) = (Received::default(), 0);
    for Part { field, file_name, content } in parts(boundary, body)? {
        lines += report.take(field, file_name, content)?;
        if lines >= most_lines {
            return None;
        }
    }
    Some(report)
}

impl Received {
    /// `parseFormPart` and `formPartToPayload`. Returns the number of log lines.
    fn take(&mut self, field: &str, name: &str, content: &[u8]) -> Option<usize> {
        if field == "log" || field == "compressed-log" {
            return Some(self.take_log(field, name, content));
        }
        if field == "file" {
            if !is_file_name(name) {
                self.errors.push(format!("Error saving {name}: Invalid upload filename"));
            } else {
                self.files.insert(name.to_owned(), content.to_vec());
            }
            return Some(0);
        }
        let value = String::from_utf8_lossy(content).into_owned();
        match field {
            "text" => self.text = value,
            "app" => self.app = value,
            "label" => self.labels.push(value),
            _ => {
                let key = match field {
                    "version" => "Version",
                    "user_agent" => "User-Agent",
                    _ => field,
                };
                self.data.insert(key.to_owned(), value);
            }
        }
        Some(0)
    }

    /// `saveLogPart` and `copyLines`.
    fn take_log(&mut self, field: &str, name: &str, content: &[u8]) -> usize {
        let mut log = content.to_vec();
        if field == "compressed-log" {
            log.clear();
            if let Err(error) = GzDecoder::new(content).read_to_end(&mut log) {
                self.errors.push(format!("Error unzipping {name}: {error}"));
                return 0;
            }
        }
        let mut lines = log.split_inclusive(|byte| *byte == b'\n');
        if lines.any(|line| line.len() > MAX_LINE - usize::from(!line.ends_with(b"\n"))) {
            self.errors.push(format!("Error saving {field} {name}: token too long"));
            return 0;
        }
        let count = log.split_inclusive(|byte| *byte == b'\n').count();
        let name = if is_log_name(name) {
            format!("{}.gz", name.strip_suffix(".gz").unwrap_or(name))
        } else {
            format!("logs-{:04}.log.gz", self.logs.len())
        };
        self.logs.insert(name, log);
        count
    }
}

/// `^[a-zA-Z0-9_-]+\.(jpg|png|txt|json|txt\.gz|json\.gz)$`
fn is_file_name(name: &str) -> bool {
    let Some((stem, extension)) = name.split_once('.') else { return false };
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    !stem.is_empty()
        && stem.chars().all(is_allowed)
        && ["jpg", "png", "txt", "json", "txt.gz", "json.gz"].contains(&extension)
}

/// `^[a-zA-Z0-9_-][a-zA-Z0-9_.-]*\.(log|txt)(\.gz)?$`
fn is_log_name(name: &str) -> bool {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let stem = name.strip_suffix(".log").or_else(|| name.strip_suffix(".txt"));
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    stem.is_some_and(|stem| {
        !stem.is_empty() && !stem.starts_with('.') && stem.chars().all(is_allowed)
    })
}

pub(super) struct Part<'b> {
    pub(super) field: &'b str,
    pub(super) file_name: &'b str,
    pub(super) content: &'b [u8],
}

/// Splits a multipart body, strictly.
pub(super) fn parts<'b>(boundary: &str, body: &'b [u8]) -> Option<Vec<Part<'b>>> {
    let delimiter = format!("--{boundary}");
    let mut rest = body.strip_prefix(delimiter.as_bytes())?;
    let mut parts = Vec::new();
    while rest != b"--\r\n" {
        rest = rest.strip_prefix(b"\r\n")?;
        let head_end = memmem::find(rest, b"\r\n\r\n")?;
        let head = std::str::from_utf8(&rest[..head_end]).ok()?;
        rest = &rest[head_end + 4..];
        let end = memmem::find(rest, format!("\r\n{delimiter}").as_bytes())?;
        let quoted = |name: &str| {
            let (_, after) = head.split_once(&format!("; {name}=\""))?;
            Some(after.split_once('"')?.0)
        };
        parts.push(Part {
            field: quoted("name")?,
            file_name: quoted("filename").unwrap_or_default(),
            content: &rest[..end],
        });
        rest = &rest[end + 2 + delimiter.len()..];
    }
    Some(parts)
}

#[test]
fn the_double_keeps_the_names_that_the_server_keeps() {
    for (name, is_log, is_file) in [
        ("console.0.log", true, false),
        ("crash.log.gz", true, false),
        ("passwd.txt", true, true),
        ("a.json.gz", false, true),
        ("instance-0.2159", false, false),
        ("etc/passwd", false, false),
        (".hidden.log", false, false),
        (".log", false, false),
    ] {
        assert_eq!((is_log_name(name), is_file_name(name)), (is_log, is_file), "{name}");
    }
}
