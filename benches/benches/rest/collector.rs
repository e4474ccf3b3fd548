//! A collector that counts what it receives.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use crate::{http::converse, tcp_info};

/// What a collector has received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) connections: f64,
    pub(crate) requests: f64,
    /// Bytes of requests, with the request lines and headers.
    pub(crate) bytes: f64,
    /// Packets in both directions.
    pub(crate) packets: f64,
}

#[derive(Default)]
struct Received {
    requests: AtomicU64,
    bytes: AtomicU64,
    /// The connections that carried a request, with those that have ended.
    connections: Mutex<Vec<TcpStream>>,
}

/// Starts a collector of its own for a case, and returns its URL.
#[expect(clippy::disallowed_methods, reason = "no library: a server")]
pub(crate) fn start() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let received = Arc::<Received>::default();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let received = Arc::clone(&received);
            thread::spawn(move || received.receive(&connection));
        }
    });
    Ok(url)
}

/// Asks a collector for its counts. The question is not counted.
pub(crate) fn counts(collector: &str) -> Counts {
    let ask = || {
        let mut connection = TcpStream::connect(collector.trim_start_matches("http://"))?;
        connection.write_all(b"GET /counts HTTP/1.1\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        io::Result::Ok(answer)
    };
    let answer = ask().expect("an answer");
    let numbers = answer.rsplit("\r\n").next().expect("a body").split(' ');
    let numbers: Vec<f64> = numbers.map(|number| number.parse().expect("a number")).collect();
    let [connections, requests, bytes, packets] = numbers[..] else { panic!("four numbers") };
    Counts { connections, requests, bytes, packets }
}

impl Received {
    /// Answers the requests of a connection until it ends.
    fn receive(&self, connection: &TcpStream) -> io::Result<()> {
        connection.set_nodelay(true)?;
        let bytes = AtomicU64::new(0);
        let mut is_counted = false;
        converse(Counting { connection, bytes: &bytes }, |method, path, _| {
            if method == "GET" {
                return Some((200, self.counts()));
            }
            if !is_counted {
                is_counted = true;
                let clone = connection.try_clone().expect("a descriptor");
                self.connections.lock().expect("no panic").push(clone);
            }
            self.requests.fetch_add(1, Relaxed);
            self.bytes.fetch_add(bytes.swap(0, Relaxed), Relaxed);
            let answer = match path {
                "/batch/" => r#"{"status":1}"#,
                // At least as many as are in any request.
                "/matomo.php" => r#"{"status":"success","tracked":10000,"invalid":0}"#,
                // The answer to OTLP is an empty message.
                _ => "",
            };
            Some((200, answer.to_owned()))
        })?;
        connection.shutdown(Shutdown::Both)
    }

    fn counts(&self) -> String {
        let connections = self.connections.lock().expect("no panic");
        let packets = connections.iter().map(tcp_info::packets);
        let packets: u64 = packets.map(|packets| packets.expect("Linux has it")).sum();
        let [requests, bytes] = [&self.requests, &self.bytes].map(|count| count.load(Relaxed));
        format!("{} {requests} {bytes} {packets}", connections.len())
    }
}

/// Counts the bytes that are read.
struct Counting<'a> {
    connection: &'a TcpStream,
    bytes: &'a AtomicU64,
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.connection.read(buffer)?;
        self.bytes.fetch_add(bytes as u64, Relaxed);
        Ok(bytes)
    }
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.connection.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.connection.flush()
    }
}
