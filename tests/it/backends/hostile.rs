//! P11: a service that misbehaves cannot make an HTTP backend hang, loop, grow or follow it.

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, SystemTime},
};

use matrix_analytics::{
    Backend, Batch, DeliveryError, Matomo, Otlp, OtlpEncoding, PostHog, Properties, testing,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};

use super::posthog::{ID, KEY};

/// More than a backend reads of an answer and the system buffers on the way, in bytes.
const MUCH: usize = 32 * 1024 * 1024;

/// How the service answers.
#[derive(Clone)]
pub(super) enum Answer {
    /// With these bytes, after which it waits for the client to close.
    Exactly(String),
    /// With these bytes, after which it closes.
    ThenCloses(&'static str),
    /// With these bytes, after which it resets the connection.
    ThenResets(&'static str),
    /// With these bytes, and then with the second text again and again.
    Endless(&'static str, &'static str),
    /// With these bytes, and then with the second text once a minute.
    EachMinute(&'static str, &'static str),
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) opened: usize,
    /// Answers of which all bytes, or the first ones of an endless answer, were written.
    pub(super) answered: usize,
    /// Connections that are closed.
    ended: usize,
    /// The number of bytes that were written of what is repeated.
    written: usize,
}

pub(super) struct Hostile {
    address: SocketAddr,
    seen: Arc<watch::Sender<Seen>>,
}

impl Hostile {
    pub(super) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(watch::Sender::new(Seen::default()));
        let all = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                all.send_modify(|seen| seen.opened += 1);
                let (answer, all) = (answer.clone(), all.clone());
                tokio::spawn(async move {
                    serve(stream, answer, &all).await;
                    all.send_modify(|seen| seen.ended += 1);
                });
            }
        });
        Self { address, seen }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn seen(&self) -> Seen {
        *self.seen.borrow()
    }

    async fn wait_until(&self, met: impl FnMut(&Seen) -> bool) {
        self.seen.subscribe().wait_for(met).await.unwrap();
    }
}

/// Serves a connection until one of its ends closes it.
async fn serve(mut stream: TcpStream, answer: Answer, all: &watch::Sender<Seen>) {
    // A socket that is closed with unread bytes is reset.
    let is_reset = matches!(answer, Answer::ThenResets(_));
    while take_request(&mut stream, !is_reset).await {
        let (first, again) = match &answer {
            Answer::Exactly(text) => (text.as_str(), None),
            Answer::ThenCloses(text) | Answer::ThenResets(text) => (*text, None),
            Answer::Endless(first, again) => (*first, Some(again.repeat(64))),
            Answer::EachMinute(first, again) => (*first, Some((*again).to_owned())),
        };
        let is_written = stream.write_all(first.as_bytes()).await.is_ok();
        all.send_modify(|seen| seen.answered += usize::from(is_written));
        if matches!(answer, Answer::ThenCloses(_) | Answer::ThenResets(_)) {
            return;
        }
        while let Some(again) = &again
            && all.borrow().written < MUCH
        {
            if matches!(answer, Answer::EachMinute(..)) {
                let mut byte = [0];
                // On paused time. The client writes nothing more, so this ends early if it closes.
                if tokio::time::timeout(MINUTE, stream.peek(&mut byte)).await.is_ok() {
                    return;
                }
            }
            if stream.write_all(again.as_bytes()).await.is_err() {
                break;
            }
            all.send_modify(|seen| seen.written += again.len());
        }
    }
}

/// Waits for a whole request, and takes its bytes from the socket if `reads`. Returns `false` if
/// the client has closed the connection.
async fn take_request(stream: &mut TcpStream, reads: bool) -> bool {
    let mut request = vec![0; 64 * 1024];
    loop {
        let Ok(bytes @ 1..) = stream.peek(&mut request).await else { return false };
        if let Some(length) = request_length(&request[..bytes])
            && bytes >= length
        {
            return !reads || stream.read_exact(&mut request[..length]).await.is_ok();
        }
        tokio::task::yield_now().await;
    }
}

/// Returns the number of bytes of the request that begins with these, once its head is there.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(bytes);
    let (head, _body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    Some(head.len() + 4 + length.parse::<usize>().ok()?)
}

fn batch() -> Batch {
    let now = SystemTime::now();
    testing::batch(ID, [testing::event_at("Opened", Properties::from([("n", 1)]), now)])
}

fn outcome(result: Result<(), DeliveryError>) -> &'static str {
    match result {
        Ok(()) => "ok",
        Err(DeliveryError::Misconfigured(_)) => "misconfigured",
        Err(DeliveryError::Refused { .. }) => "refused",
        Err(DeliveryError::Transient(_)) => "transient",
        Err(error) => panic!("{error:?}"),
    }
}

/// Sends to a service that answers with `answer`, and returns the outcome after the client has
/// closed the connection.
async fn send(backend: Create, answer: Answer, waits: bool) -> &'static str {
    let hostile = Hostile::start(answer).await;
    let backend = backend(&hostile.url(), TIMEOUT);
    let sent = batch();
    let mut sending = pin!(backend.send_any(&sent));
    let result = tokio::select! {
        result = &mut sending => result,
        () = hostile.wait_until(|seen| waits && seen.answered > 0) => {
            // What was written is read before the clock jumps to the timeout.
            tokio::time::pause();
            let result = sending.await;
            tokio::time::resume();
            result
        }
    };
    let seen = hostile.seen();
    assert_eq!(seen.opened, 1, "it tried again by itself");
    assert!(seen.written < MUCH, "{} bytes were read", seen.written);
    backend.close_any();
    hostile.wait_until(|seen| seen.ended == seen.opened).await;
    outcome(result)
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), DeliveryError>> + Send + 'a>>;

/// A backend of any type.
trait AnyBackend {
    fn send_any<'a>(&'a self, batch: &'a Batch) -> Sending<'a>;
    fn close_any(&self);
}

impl<B: Backend> AnyBackend for B {
    fn send_any<'a>(&'a self, batch: &'a Batch) -> Sending<'a> {
        Box::pin(self.send(batch))
    }

    fn close_any(&self) {
        self.close();
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);

/// Creates a backend that sends to a URL, with this timeout.
type Create = fn(&str, Duration) -> Box<dyn AnyBackend>;

const BACKENDS: [Create; 4] = [posthog, posthog_v1, otlp, matomo];

fn posthog(url: &str, timeout: Duration) -> Box<dyn AnyBackend> {
    Box::new(PostHog::builder(url, KEY).request_timeout(timeout).build().unwrap())
}

fn posthog_v1(url: &str, timeout: Duration) -> Box<dyn AnyBackend> {
    let builder = PostHog::builder(url, KEY).v1(true);
    Box::new(builder.request_timeout(timeout).build().unwrap())
}

fn otlp(url: &str, timeout: Duration) -> Box<dyn AnyBackend> {
    let builder = Otlp::builder(url, "example").encoding(OtlpEncoding::Json);
    Box::new(builder.request_timeout(timeout).build().unwrap())
}

fn matomo(url: &str, timeout: Duration) -> Box<dyn AnyBackend> {
    Box::new(Matomo::builder(url, 1).request_timeout(timeout).build().unwrap())
}

/// Checks the outcome for PostHog, its v1 endpoint, OTLP and Matomo.
async fn check(answer: Answer, waits: bool, expected: [&str; 4]) {
    for (number, (backend, expected)) in BACKENDS.into_iter().zip(expected).enumerate() {
        assert_eq!(send(backend, answer.clone(), waits).await, expected, "backend {number}");
    }
}

#[tokio::test]
async fn endless_headers_are_not_read() {
    for first in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nx-long: "] {
        let answer = Answer::Endless(first, "x-more: and-more\r\n");
        check(answer, false, ["transient"; 4]).await;
    }
    let one_line = Answer::Endless("HTTP/1.1 200 OK\r\nx-long: ", "and-more");
    check(one_line, false, ["transient"; 4]).await;
}

#[tokio::test]
async fn an_endless_body_is_not_read() {
    let expected = ["ok", "misconfigured", "refused", "misconfigured"];
    let known = "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n";
    check(Answer::Endless(known, "{\"more\":1}"), false, expected).await;
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    check(Answer::Endless(chunked, "a\r\n{\"more\":1}\r\n"), false, expected).await;
    let unknown = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    check(Answer::Endless(unknown, "{\"more\":1}"), false, expected).await;
}

#[tokio::test]
async fn endless_parts_of_a_chunked_body_are_not_read() {
    let expected = ["ok", "transient", "transient", "transient"];
    let extension = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;";
    check(Answer::Endless(extension, "more=and-more;"), false, expected).await;
    let trailers = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n";
    check(Answer::Endless(trailers, "x-more: and-more\r\n"), false, expected).await;
}

#[tokio::test]
async fn what_comes_each_minute_does_not_extend_the_timeout() {
    let partial = ["ok", "transient", "transient", "transient"];
    for (first, again, expected) in [
        ("", "HTTP/1.1 102 Processing\r\n\r\n", ["transient"; 4]),
        ("HTTP/1.1 200 OK\r\n", "x", ["transient"; 4]),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", "{", partial),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\n{\r\n", partial),
    ] {
        for (backend, expected) in BACKENDS.into_iter().zip(expected) {
            let hostile = Hostile::start(Answer::EachMinute(first, again)).await;
            let backend = backend(&hostile.url(), 5 * MINUTE);
            let sent = batch();
            let mut sending = pin!(backend.send_any(&sent));
            tokio::select! {
                result = &mut sending => panic!("it did not wait: {result:?}"),
                () = hostile.wait_until(|seen| seen.answered > 0) => {}
            }
            tokio::time::pause();
            let began = Instant::now();
            assert_eq!(outcome(sending.await), expected);
            assert!((299..=300).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
            let times = hostile.seen().written / again.len();
            assert!((3..=5).contains(&times), "{times}");
            tokio::time::resume();
            backend.close_any();
            hostile.wait_until(|seen| seen.ended == seen.opened).await;
            assert_eq!(hostile.seen().opened, 1);
        }
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{";
    check(Answer::Exactly(answer.to_owned()), true, ["ok", "transient", "transient", "transient"])
        .await;
}

#[tokio::test]
async fn a_head_that_does_not_end_is_given_up() {
    check(Answer::Exactly("HTTP/1.1 200 OK\r\nx-".to_owned()), true, ["transient"; 4]).await;
}

#[tokio::test]
async fn a_success_whose_body_is_cut_off_is_no_confirmation_where_the_body_counts() {
    let expected = ["ok", "transient", "transient", "transient"];
    check(Answer::ThenCloses("HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{}"), false, expected)
        .await;
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\n{}";
    check(Answer::ThenCloses(chunked), false, expected).await;
}

#[tokio::test]
async fn a_connection_that_is_reset_counts_by_what_arrived() {
    let whole = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    check(Answer::ThenResets(whole), false, ["ok", "misconfigured", "ok", "misconfigured"]).await;
    let expected = ["ok", "transient", "transient", "transient"];
    check(Answer::ThenResets("HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{}"), false, expected)
        .await;
    check(Answer::ThenResets("HTTP/1.1 200 OK\r\n\r\n"), false, expected).await;
    check(Answer::ThenResets("HTTP/1.1 200"), false, ["transient"; 4]).await;
    check(Answer::ThenResets(""), false, ["transient"; 4]).await;
}

#[tokio::test]
async fn a_connection_that_closes_without_an_answer_is_a_transient_failure() {
    check(Answer::ThenCloses(""), false, ["transient"; 4]).await;
    check(Answer::ThenCloses("HTTP/1.1 200"), false, ["transient"; 4]).await;
    check(Answer::ThenCloses("220 mail.example.org ESMTP\r\n"), false, ["transient"; 4]).await;
}

fn with_body(body: &str) -> Answer {
    let length = body.len();
    Answer::Exactly(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"))
}

#[tokio::test]
async fn a_body_that_is_not_of_the_protocol_is_no_confirmation_where_the_body_counts() {
    let expected = ["ok", "misconfigured", "refused", "misconfigured"];
    check(with_body("<!DOCTYPE html><title>Log in</title>"), false, expected).await;
    let depth = 10_000;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = format!("{}0{}", open.repeat(depth), close.repeat(depth));
        let counts = format!(
            r#"{{"status":{nested},"results":{nested},"partialSuccess":{{"rejectedLogRecords":{nested}}}}}"#
        );
        check(with_body(&counts), false, expected).await;
    }
}

#[tokio::test]
async fn lengths_that_contradict_each_other_are_no_answer() {
    let twice = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}}";
    check(Answer::Exactly(twice.to_owned()), false, ["transient"; 4]).await;
    let negative = "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n{}";
    check(Answer::Exactly(negative.to_owned()), false, ["transient"; 4]).await;
}

#[tokio::test]
async fn a_chunk_of_a_wrong_length_ends_the_body() {
    for length in ["", "-2", "zz", "fffffffffffffffffff"] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{length}\r\n{{}}\r\n0\r\n\r\n"
        );
        check(Answer::Exactly(answer), false, ["ok", "transient", "transient", "transient"]).await;
    }
}

#[tokio::test]
async fn bytes_after_an_answer_do_not_answer_the_next_request() {
    let forged = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 404 N\r\n\
                  content-length: 0\r\n\r\n";
    for (backend, expected) in
        BACKENDS.into_iter().zip(["ok", "misconfigured", "ok", "misconfigured"])
    {
        let hostile = Hostile::start(Answer::Exactly(forged.to_owned())).await;
        let backend = backend(&hostile.url(), TIMEOUT);
        for requests in 1..=3 {
            assert_eq!(outcome(backend.send_any(&batch()).await), expected);
            let seen = hostile.seen();
            assert_eq!((seen.opened, seen.answered), (requests, requests));
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Hostile::start(with_body("{}")).await;
    for status in [301, 302, 303, 307, 308] {
        let location = elsewhere.url();
        let answer = format!(
            "HTTP/1.1 {status} Moved\r\nlocation: {location}/v1/logs\r\ncontent-length: 0\r\n\r\n"
        );
        let expected = ["misconfigured", "misconfigured", "refused", "misconfigured"];
        check(Answer::Exactly(answer), false, expected).await;
    }
    assert_eq!(elsewhere.seen().opened, 0);
}
