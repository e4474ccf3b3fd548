//! Compresses the body of a request.

use std::io::{self, Write as _};

use flate2::{Compression, write::GzEncoder};
use reqwest::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};

use super::HttpError;
use crate::backend::DeliveryError;

/// The level of compression, of 9.
///
/// Level 6, the usual one, makes requests smaller by at most 2 % and takes up to twice the time:
/// events repeat each other so closely that a longer search finds little. Below 4, requests
/// grow.
const LEVEL: u32 = 4;

/// Returns `body` in the format that the content encoding `gzip` names, and `headers` with that
/// encoding.
///
/// # Errors
///
/// Fails if the compression library does.
pub(super) fn compressed(
    mut headers: HeaderMap,
    body: &[u8],
) -> Result<(HeaderMap, Vec<u8>), DeliveryError> {
    let body =
        gzip(body).map_err(|error| DeliveryError::Rejected(HttpError::Gzip(error).boxed()))?;
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Ok((headers, body))
}

fn gzip(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::new(LEVEL));
    encoder.write_all(body)?;
    encoder.finish()
}
