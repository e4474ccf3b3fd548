//! The Matomo backend.

mod answer;
mod body;
mod builder;
mod limits;
mod mapping;

use std::{fmt, time::SystemTime};

use reqwest::Url;

pub use self::builder::{MatomoBuildError, MatomoBuilder};
use self::mapping::Mapping;
use super::{
    Backend, Batch, DeliveryError, Identity,
    http::{HttpClient, host_of, json_headers},
};
use crate::event::OutgoingEvent;

/// A backend that sends events to [Matomo](https://matomo.org), by its bulk tracking API.
///
/// There is no default endpoint. The only request that this type makes is a `POST` to
/// `/matomo.php` below the endpoint that the app gives. It opens no connection before the first
/// [`send`](Backend::send), and [`close`](Backend::close) closes its connections.
///
/// ```
/// use matrix_analytics::Matomo;
///
/// let matomo = Matomo::builder("https://matomo.example.org", 7)
///     .category_property("area")
///     .name_property("trigger")
///     .value_property("milliseconds")
///     .dimension(1, "room_size")
///     .user_dimension(6, "app_platform")
///     .build()?;
/// # Ok::<_, matrix_analytics::MatomoBuildError>(())
/// ```
///
/// # The request
///
/// ```json
/// {
///   "requests": [
///     {
///       "idsite": "7",
///       "rec": "1",
///       "ca": "1",
///       "cid": "6c79e8fa29482e2f",
///       "cdt": "1769860800",
///       "e_c": "rooms",
///       "e_a": "RoomJoined",
///       "e_n": "Invite",
///       "e_v": "12.5",
///       "dimension1": "Small"
///     }
///   ]
/// }
/// ```
///
/// | parameter | value |
/// |---|---|
/// | `cid` | the visitor ID: the first 16 hexadecimal digits of the pseudonym, or of the SHA-256 of another identifier |
/// | `cdt` | when the event happened, in seconds since 1970 |
/// | `e_c` | the category: a property, or the same one for all events |
/// | `e_a` | the action: the name of the event |
/// | `e_n`, `e_v` | name and value: properties |
/// | `dimension1`, … | the custom dimensions: properties, user properties, or the unique ID |
/// | `url` | that of [`MatomoBuilder::site_url`] |
///
/// **Other properties are not sent**, because Matomo has no place for them. User properties are
/// sent only if a dimension shows one.
///
/// The headers are `content-type`, `content-length`, `accept` and `host`. There is no user agent,
/// because Matomo would derive a device from it, and there is no compression, which Matomo does
/// not understand.
///
/// - There is no token. It could read and change data, and everyone who has the app could read
///   it.
/// - `_id` and `uid` are never sent. With `_id` Matomo takes two accounts with the same address
///   for one visitor, and with `uid` it moves earlier visits to another visitor.
/// - Matomo stores the address that the request comes from, unless its administrator has it made
///   anonymous, which is the default for two of its four bytes.
///
/// Matomo refuses an event without a token that is older than a day, so such an event is not
/// sent, and is counted as [`Expired`](crate::DropReason::Expired). An event with a category, an
/// action or a name of more than 4000 characters, with a dimension of more than 250, or with a
/// value that no `FLOAT` can hold is not sent either, and is counted as
/// [`TooLarge`](crate::DropReason::TooLarge). HTML's special characters count as their escapes.
/// An event from the future gets the time at which Matomo receives it.
///
/// **An event can be stored twice.** Matomo cannot recognise an event that it has, so an event is
/// stored again if the answer to its request was lost. [`MatomoBuilder::unique_id_dimension`]
/// makes such copies visible.
///
/// # Responses
///
/// | answer | [`DeliveryError`] |
/// |---|---|
/// | 200 with the number of stored events | none, or `Partial` if not all of them were stored |
/// | 200 with anything else, another 2xx | `Misconfigured` |
/// | 200 that ends early, no response | `Transient` |
/// | 500 | `Rejected` |
///
/// All others are as for `PostHog`. Without a token, Matomo does not say which events it has not
/// stored, so they are counted as [`Rejected`](crate::DropReason::Rejected) and not sent again.
///
/// After an event that it cannot store, Matomo answers 500, and stores no event of the request.
/// The batch is halved until that event is alone, which is dropped. Matomo answers 500 for other
/// reasons as well, such as a broken database. Events are then lost one at a time, at most one
/// every few minutes.
///
/// An answer confirms that Matomo took an event, not that it kept it: Matomo counts an event that
/// it ignores because of the address or the URL that it comes from.
///
/// The sources are Matomo's *Tracking HTTP API*, its source (`core/Tracker/Request.php`,
/// `plugins/BulkTracking`, `plugins/Events`, `plugins/CustomDimensions`), and what version 5.1.2
/// did.
///
/// # Environment
///
/// The HTTP client reads nothing from the environment, in particular no proxy. The TLS library
/// loads the system's certificates; on Linux and other Unix systems it reads `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` for that. On Android, the issuers that Mozilla trusts count.
///
/// # Cancel safety
///
/// Dropping the future of [`send`](Backend::send) cuts the request: no more of it is produced,
/// and its connection is closed. Bytes that the operating system or the TLS library has already
/// accepted may still be sent. [`closed`](Backend::closed) waits until the HTTP library holds no
/// part of a request.
pub struct Matomo {
    /// The endpoint, including `/matomo.php`.
    url: Url,
    mapping: Mapping,
    http: HttpClient,
}

/// Prints only the origin of the endpoint and the site, because a path may be secret.
impl fmt::Debug for Matomo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matomo")
            .field("endpoint", &self.url.origin().ascii_serialization())
            .field("site_id", &self.mapping.site_id)
            .finish_non_exhaustive()
    }
}

impl Matomo {
    /// Creates a backend that sends to the Matomo at `endpoint`, to the site with the ID
    /// `site_id`. Connects to nothing yet.
    ///
    /// The endpoint is the base URL that `/matomo.php` is appended to, such as
    /// `https://matomo.example.org`. A slash at its end makes no difference.
    ///
    /// # Errors
    ///
    /// [`MatomoBuildError`] if the endpoint or the ID cannot be right.
    pub fn new(endpoint: &str, site_id: u32) -> Result<Self, MatomoBuildError> {
        Self::builder(endpoint, site_id).build()
    }

    /// Creates a builder, for a backend with other settings than those of [`Matomo::new`].
    pub fn builder(endpoint: &str, site_id: u32) -> MatomoBuilder {
        MatomoBuilder::new(endpoint, site_id)
    }
}

impl Backend for Matomo {
    fn name(&self) -> &'static str {
        "matomo"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let body = body::body(&self.mapping, batch, SystemTime::now())
            .map_err(|error| DeliveryError::Rejected(Box::new(MatomoError::Serialize(error))))?;
        let mut partial = body.left_out;
        if body.events > 0 {
            let answer = self.http.post(&self.url, json_headers(), body.json).await?;
            partial.rejected += answer::unconfirmed(&answer, body.events)?;
        }
        if partial.dropped() == 0 { Ok(()) } else { Err(DeliveryError::Partial(partial)) }
    }

    fn carries_user_properties(&self, _event: &OutgoingEvent) -> bool {
        self.mapping.has_user_property()
    }

    fn host(&self) -> Option<String> {
        host_of(&self.url)
    }

    fn default_label(&self) -> Option<String> {
        Some(format!("{}/{}", host_of(&self.url)?, self.mapping.site_id))
    }

    fn default_identity(&self) -> Identity {
        Identity::Pseudonym
    }

    fn stored_identifier(&self, distinct_id: &str) -> String {
        body::visitor_id(distinct_id)
    }

    fn render(&self, batch: &Batch) -> Option<String> {
        let body = body::body(&self.mapping, batch, SystemTime::now()).ok()?;
        String::from_utf8(body.json).ok()
    }

    fn close(&self) {
        self.http.close();
    }

    async fn closed(&self) {
        self.http.closed().await;
    }
}

/// The reason why a request body could not be made.
#[derive(Debug, thiserror::Error)]
enum MatomoError {
    #[error("the batch cannot be serialised")]
    Serialize(#[source] serde_json::Error),
}
