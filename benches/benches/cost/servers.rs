//! The servers that the cases talk to, in their own process: a homeserver on which every
//! user has opted in, a collector, and a server that never answers.

use std::{
    error::Error,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use crate::{homeserver::homeserver, http::converse};

/// The addresses of the servers.
#[derive(Clone, Debug)]
pub(crate) struct Urls {
    pub(crate) homeserver: String,
    pub(crate) collector: String,
    pub(crate) black_hole: String,
}

/// The process of the servers, which ends when this is dropped.
pub(crate) struct Servers {
    process: Child,
    pub(crate) urls: Urls,
}

impl Servers {
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(process.stdout.take().ok_or("no output")?).lines();
        let mut url = || lines.next().ok_or("the servers did not start")?.map_err(Box::from);
        let urls = (url(), url(), url());
        let (homeserver, collector, black_hole): (_, _, Result<_, Box<dyn Error>>) = urls;
        let urls = Urls { homeserver: homeserver?, collector: collector?, black_hole: black_hole? };
        Ok(Self { process, urls })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // The servers end when their input does.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Returns the status and body of an answer, without delay.
type Answer = fn(method: &str, path: &str, body: &[u8]) -> Option<(u16, String)>;

/// Runs the servers until the input ends.
#[expect(clippy::disallowed_methods, reason = "no library: the process of the servers")]
pub(crate) fn serve() -> io::Result<()> {
    for answer in [homeserver as Answer, collector, black_hole] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        println!("http://{}", listener.local_addr()?);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                thread::spawn(move || {
                    connection.set_nodelay(true)?;
                    converse(connection, answer)
                });
            }
        });
    }
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}

/// The number of events collected since the last `GET`.
static COLLECTED: AtomicU64 = AtomicU64::new(0);

fn collector(method: &str, path: &str, body: &[u8]) -> Option<(u16, String)> {
    let answer = match (method, path) {
        ("GET", _) => COLLECTED.swap(0, Relaxed).to_string(),
        (_, "/batch/") => {
            let body = str::from_utf8(body).unwrap_or_default();
            let events = body.matches(r#""timestamp":"#).count();
            COLLECTED.fetch_add(events as u64, Relaxed);
            r#"{"status":1}"#.to_owned()
        }
        _ => String::new(),
    };
    Some((200, answer))
}

fn black_hole(_method: &str, _path: &str, _body: &[u8]) -> Option<(u16, String)> {
    None
}

/// Returns how many events the collector has received since the last call.
pub(crate) fn collected(collector: &str) -> io::Result<f64> {
    let address = collector.trim_start_matches("http://");
    let mut connection = TcpStream::connect(address)?;
    connection.write_all(b"GET /count HTTP/1.1\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let count = answer.rsplit("\r\n").next().and_then(|count| count.parse().ok());
    count.ok_or_else(|| io::Error::other("the collector did not count"))
}
