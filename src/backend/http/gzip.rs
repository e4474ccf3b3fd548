//! Compresses the body of a request.

use std::io::{self, Write as _};

use flate2::{Compression, write::GzEncoder};

/// Returns `body` in the format that the content encoding `gzip` names.
///
/// # Errors
///
/// Fails if the compression library does.
pub(in crate::backend) fn gzip(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::default());
    encoder.write_all(body)?;
    encoder.finish()
}
