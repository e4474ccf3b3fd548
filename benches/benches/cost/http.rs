//! A small HTTP server.

use std::io::{self, BufRead as _, BufReader, Read, Write};

/// Answers the requests of a connection until it ends. `answer` gets the method, the path
/// and the body, and returns a status and a body, or `None` to never answer.
pub(crate) fn converse(
    connection: impl Read + Write,
    mut answer: impl FnMut(&str, &str, &[u8]) -> Option<(u16, String)>,
) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, connection);
    let mut body = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (mut length, mut closes) = (0, false);
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            match header.split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse().unwrap_or(0),
                Some(("connection", value)) => closes = value.trim() == "close",
                _ => {}
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        let Some((status, body)) = answer(&method, &path, &body) else {
            // Kept open and never answered.
            return io::copy(&mut reader, &mut io::sink()).map(drop);
        };
        let length = body.len();
        let head = "content-type: application/json\r\ncontent-length:";
        let answer = format!("HTTP/1.1 {status} -\r\n{head} {length}\r\n\r\n{body}");
        reader.get_mut().write_all(answer.as_bytes())?;
        if closes {
            return Ok(());
        }
    }
}
