//! The bytes that an event takes on the wire.

use std::error::Error;

use crate::{collector::counts, peer, process::report};

/// The events in a request, and the number of such requests.
const REQUESTS: [(u32, u32); 3] = [(1, 100), (20, 20), (100, 10)];

/// Measures the bytes of requests with few and with many events.
pub(crate) fn measure(name: &str, collector: &str, homeserver: &str) -> Result<(), Box<dyn Error>> {
    let (runtime, client) = peer::app(homeserver);
    let peer = peer::start(name, collector, &runtime, &client);
    let mut events = 0..;
    for (size, requests) in REQUESTS {
        let before = counts(collector);
        for _ in 0..requests {
            events.by_ref().take(size as usize).for_each(|n| peer.capture(n));
            peer.flush();
        }
        let after = counts(collector);
        if after.requests - before.requests != f64::from(requests) {
            return Err(format!("{name}: not one request for {size} events").into());
        }
        let bytes = after.bytes - before.bytes;
        report(&size.to_string(), bytes / f64::from(size * requests));
    }
    Ok(())
}
