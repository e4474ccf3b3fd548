//! The account-data event on the homeserver: fetch and put, each bounded in
//! time and none of them ever cut.

mod read;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use matrix_sdk::{
    Client, HttpError,
    config::RequestConfig,
    ruma::{
        OwnedUserId,
        api::{
            client::config::set_global_account_data,
            error::{ErrorKind, RetryAfter},
        },
        events::{AnyGlobalAccountDataEventContent, GlobalAccountDataEventType},
        serde::Raw,
    },
};
use serde_json::value::RawValue;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};

use self::read::Read;
use super::session::own_identifiers;
use crate::{
    consent::content::{MergeError, Observed},
    guard::{Guard, GuardPolicy},
};

/// The longest wait that a homeserver is granted.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Why the account data could not be read or written.
///
/// The `Debug` form and the sources are matrix-sdk's, and quote the URL of the request,
/// which has the user's Matrix ID in it: they are for a log on the device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountDataError {
    /// The homeserver, or a proxy before it, answered a read without a body. That says
    /// nothing about what the account holds.
    #[error("the homeserver answered without a body")]
    EmptyAnswer,
    /// The homeserver forbids it, as it does for guests.
    #[error("the homeserver does not let this account hold account data")]
    Forbidden(#[source] HttpError),
    /// Any other failure of the request.
    #[error("the account data could not be read or written")]
    Http(#[source] HttpError),
    /// What the homeserver holds is no JSON object: it is left alone, for
    /// replacing it would destroy what somebody else wrote.
    #[error("the account-data event on the homeserver is no JSON object")]
    NotAnObject,
    /// The homeserver asks to wait.
    #[error("the homeserver asks to wait")]
    RateLimited {
        /// How long it asked to wait, if it said so; at most an hour.
        retry_after: Option<Duration>,
        /// What it answered.
        #[source]
        source: HttpError,
    },
    /// The session is over, or has to be renewed.
    #[error("the homeserver does not accept the session")]
    SessionLost(#[source] HttpError),
    /// There was no answer in time. The request goes on by itself, and may still
    /// be applied.
    #[error("the homeserver did not answer in time")]
    Timeout,
}

impl AccountDataError {
    fn from_http(error: HttpError) -> Self {
        const TOO_MANY_REQUESTS: u16 = 429;

        match error.client_api_error_kind() {
            Some(ErrorKind::LimitExceeded(data)) => {
                let retry_after = data.retry_after.map(|asked| wait(asked, SystemTime::now()));
                Self::RateLimited { retry_after, source: error }
            }
            Some(ErrorKind::MissingToken | ErrorKind::UnknownToken(_) | ErrorKind::UserLocked) => {
                Self::SessionLost(error)
            }
            Some(ErrorKind::Forbidden | ErrorKind::GuestAccessForbidden) => Self::Forbidden(error),
            // As a proxy says it, whose headers the SDK does not show.
            _ if error
                .as_client_api_error()
                .is_some_and(|error| error.status_code.as_u16() == TOO_MANY_REQUESTS) =>
            {
                Self::RateLimited { retry_after: None, source: error }
            }
            _ => Self::Http(error),
        }
    }

    /// Whether an administrator has locked the user, who may be unlocked again.
    pub(crate) fn is_user_locked(&self) -> bool {
        matches!(self, Self::SessionLost(error)
            if error.client_api_error_kind() == Some(&ErrorKind::UserLocked))
    }
}

impl From<MergeError> for AccountDataError {
    fn from(MergeError: MergeError) -> Self {
        Self::NotAnObject
    }
}

/// One account's event of one type.
#[derive(Clone, Debug)]
pub(crate) struct AccountData {
    client: Client,
    user: OwnedUserId,
    event_type: GlobalAccountDataEventType,
    /// The bound on one read and on one write.
    request_timeout: Duration,
    /// Held by whoever reads, merges and writes, and by every request until it
    /// has ended.
    turn: Arc<Mutex<()>>,
    /// Knows what is personal in an ID that another client wrote. Not the guard of the
    /// events, which may have detectors of the app.
    guard: Arc<Guard>,
}

/// The right to read and write, one at a time.
pub(crate) type Turn = OwnedMutexGuard<()>;

impl AccountData {
    pub(crate) fn new(
        client: Client,
        user: OwnedUserId,
        event_type: &str,
        request_timeout: Duration,
        turn: Arc<Mutex<()>>,
    ) -> Self {
        let guard = Guard::new(GuardPolicy::default(), Vec::new());
        let session = client.clone();
        guard.watch_session(move || Some(own_identifiers(&session)));
        let guard = Arc::new(guard);
        Self { client, user, event_type: event_type.into(), request_timeout, turn, guard }
    }

    /// Returns what `content` says about consent; none is an event that is not set.
    pub(crate) fn observe(&self, content: Option<&RawValue>) -> Observed {
        let is_personal = |id: &str| {
            self.guard.refresh();
            self.guard.finds_in(id)
        };
        content.map_or(Observed::UNSET, |content| Observed::read(content, is_personal))
    }

    /// The bound on one read and on one write.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Waits for the request before to end.
    pub(crate) async fn turn(&self) -> Result<Turn, AccountDataError> {
        timeout(self.request_timeout, self.turn.clone().lock_owned())
            .await
            .map_err(|_| AccountDataError::Timeout)
    }

    /// Returns what the homeserver holds; none if the event is not set.
    pub(crate) async fn fetch(
        &self,
        turn: Turn,
    ) -> Result<(Turn, Option<Box<RawValue>>), AccountDataError> {
        let request = Read::new(self.user.clone(), self.event_type.clone());
        let request = self.client.send(request).with_request_config(self.config());
        let (turn, answer) = self.detached(turn, request.into_future()).await?;
        match answer {
            Ok(answer) => {
                let content = answer.content.ok_or(AccountDataError::EmptyAnswer)?;
                Ok((turn, Some(content)))
            }
            Err(error) if is_not_found(&error) => Ok((turn, None)),
            Err(error) => Err(AccountDataError::from_http(error)),
        }
    }

    pub(crate) async fn put(
        &self,
        turn: Turn,
        content: Box<RawValue>,
    ) -> Result<Turn, AccountDataError> {
        let content = Raw::<AnyGlobalAccountDataEventContent>::from_json(content);
        let request = set_global_account_data::v3::Request::new_raw(
            self.user.clone(),
            self.event_type.clone(),
            content,
        );
        let request = self.client.send(request).with_request_config(self.config());
        let (turn, answer) = self.detached(turn, request.into_future()).await?;
        answer.map(|_| turn).map_err(AccountDataError::from_http)
    }

    /// One try within the bound: by default the SDK may go on for a quarter of an
    /// hour.
    fn config(&self) -> RequestConfig {
        RequestConfig::new().disable_retry().timeout(self.request_timeout)
    }

    /// Runs `request` in a task of its own, and waits for it within the bound.
    ///
    /// The request is never dropped: the SDK may be refreshing its token inside
    /// it, and a refresh token whose successor is lost logs the user out.
    async fn detached<T: Send + 'static>(
        &self,
        turn: Turn,
        request: impl Future<Output = T> + Send + 'static,
    ) -> Result<(Turn, T), AccountDataError> {
        let task = tokio::spawn(async move { (request.await, turn) });
        match timeout(self.request_timeout, task).await {
            Ok(Ok((answer, turn))) => Ok((turn, answer)),
            // Cancelled with its runtime, or a panic of the SDK: no answer.
            Ok(Err(_)) | Err(_) => Err(AccountDataError::Timeout),
        }
    }
}

/// Returns how long to wait from `now` for what the homeserver asked.
fn wait(asked: RetryAfter, now: SystemTime) -> Duration {
    let wait = match asked {
        RetryAfter::Delay(delay) => delay,
        RetryAfter::DateTime(date) => date.duration_since(now).unwrap_or_default(),
    };
    wait.min(LONGEST_RETRY_AFTER)
}

/// Whether the homeserver says that the event is not set; a 404 of another kind
/// says that it does not know the endpoint.
fn is_not_found(error: &HttpError) -> bool {
    error.client_api_error_kind() == Some(&ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_delay_or_a_date_and_at_most_an_hour() {
        let (now, second) =
            (SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40), Duration::from_secs(1));
        for (asked, expected) in [
            (RetryAfter::Delay(Duration::ZERO), Duration::ZERO),
            (RetryAfter::Delay(300 * second), 300 * second),
            (RetryAfter::Delay(Duration::MAX), LONGEST_RETRY_AFTER),
            (RetryAfter::DateTime(now - second), Duration::ZERO),
            (RetryAfter::DateTime(now + 300 * second), 300 * second),
            (RetryAfter::DateTime(now + 86_400 * second), LONGEST_RETRY_AFTER),
        ] {
            assert_eq!(wait(asked, now), expected, "{asked:?}");
        }
    }
}
