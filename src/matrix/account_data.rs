//! Reads and writes the account-data event. The wait for each request is bounded, and no
//! request is ever cancelled.

mod request;
pub(crate) mod sender;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use matrix_sdk::{
    Client, HttpError,
    config::RequestConfig,
    ruma::{
        OwnedUserId,
        api::error::{ErrorKind, RetryAfter},
    },
};
use serde_json::value::RawValue;
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, timeout},
};

use self::{
    request::{Answer, Request},
    sender::Sender,
};
use super::session::own_identifiers;
use crate::{
    consent::{
        content::{MergeError, Observed},
        policy::Policy,
    },
    guard::{Guard, GuardPolicy},
    spawn::spawn,
};

/// The longest wait that a homeserver can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// An error of reading or writing the account data.
///
/// The `Debug` output and the sources come from matrix-sdk and quote the URL of the
/// request, which contains the user's Matrix ID. Write them only to a log on the device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountDataError {
    /// The homeserver, or a proxy in front of it, answered a read without a body. This says
    /// nothing about the content of the account.
    #[error("the homeserver answered without a body")]
    EmptyAnswer,
    /// The homeserver forbids the request, as it does for guests.
    #[error("the homeserver does not let this account hold account data")]
    Forbidden(#[source] HttpError),
    /// Any other failure of the request.
    #[error("the account data could not be read or written")]
    Http(#[source] HttpError),
    /// The content on the homeserver is not a JSON object. It is left unchanged, because
    /// replacing it would destroy the data of another client.
    #[error("the account-data event on the homeserver is not a JSON object")]
    NotAnObject,
    /// The homeserver limits the rate of requests.
    #[error("the homeserver asks to wait")]
    RateLimited {
        /// The wait that the homeserver asked for, if any; at most an hour.
        retry_after: Option<Duration>,
        /// The answer of the homeserver.
        #[source]
        source: HttpError,
    },
    /// The session has ended, or has to be renewed.
    #[error("the homeserver does not accept the session")]
    SessionLost(#[source] HttpError),
    /// There was no answer within the request timeout. The request continues in the
    /// background, and may still be applied.
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
            // The answer of a proxy. The SDK does not expose its headers.
            _ if error
                .as_client_api_error()
                .is_some_and(|error| error.status_code.as_u16() == TOO_MANY_REQUESTS) =>
            {
                Self::RateLimited { retry_after: None, source: error }
            }
            _ => Self::Http(error),
        }
    }

    /// Returns whether an administrator has locked the user, which can be reversed.
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

/// The event of one type on one account.
#[derive(Clone, Debug)]
pub(crate) struct AccountData {
    client: Client,
    sender: Sender,
    user: OwnedUserId,
    event_type: String,
    /// The time limit of one read and of one write.
    request_timeout: Duration,
    /// The lock that each request holds until it has ended.
    request_lock: Arc<Mutex<()>>,
    policy: Option<Arc<Policy>>,
}

/// The permission to send one request.
pub(crate) type RequestPermit = OwnedMutexGuard<()>;

impl AccountData {
    pub(crate) fn new(
        client: Client,
        sender: Sender,
        user: OwnedUserId,
        event_type: &str,
        request_timeout: Duration,
        request_lock: Arc<Mutex<()>>,
    ) -> Self {
        let event_type = event_type.into();
        Self { client, sender, user, event_type, request_timeout, request_lock, policy: None }
    }

    /// Looks for agreements to `policy` in each event that is observed.
    pub(crate) fn with_policy(mut self, policy: Option<Arc<Policy>>) -> Self {
        self.policy = policy;
        self
    }

    /// Reads the members that concern consent. `None` is a missing event.
    pub(crate) fn observe(&self, content: Option<&RawValue>) -> Observed {
        // Not the guard of the events, which may have detectors of the app. It is not kept,
        // because an ID is read rarely, and the tables of a search take memory.
        let is_personal = |id: &str| {
            let guard = Guard::new(GuardPolicy::default(), Vec::new());
            guard.know(own_identifiers(&self.client));
            guard.finds_in(id)
        };
        let policy = self.policy.as_deref();
        content.map_or(Observed::UNSET, |content| Observed::read(content, policy, is_personal))
    }

    pub(crate) fn event_type(&self) -> String {
        self.event_type.clone()
    }

    /// Returns the time limit of one read and of one write.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Waits for `wait`. If that `counts`, it shortens the time limit.
    ///
    /// # Errors
    ///
    /// [`AccountDataError::Timeout`] if no time is left.
    pub(crate) async fn after(
        mut self,
        wait: impl Future<Output = ()>,
        counts: bool,
    ) -> Result<Self, AccountDataError> {
        let begun = Instant::now();
        wait.await;
        if counts {
            let left = self.request_timeout.checked_sub(begun.elapsed());
            self.request_timeout = left.ok_or(AccountDataError::Timeout)?;
        }
        Ok(self)
    }

    /// Waits until the previous request has ended.
    pub(crate) async fn acquire(&self) -> Result<RequestPermit, AccountDataError> {
        timeout(self.request_timeout, self.request_lock.clone().lock_owned())
            .await
            .map_err(|_| AccountDataError::Timeout)
    }

    /// Reads the content of the event. Returns `None` if there is no event.
    pub(crate) async fn fetch(
        &self,
        permit: RequestPermit,
    ) -> Result<(RequestPermit, Option<Box<RawValue>>), AccountDataError> {
        let request = Request::get(self.user.clone(), self.event_type.clone());
        let (permit, answer) = self.send(permit, request).await?;
        match answer {
            Ok(answer) => {
                let content = answer.content().map_err(AccountDataError::Http)?;
                let content = content.ok_or(AccountDataError::EmptyAnswer)?;
                Ok((permit, Some(content)))
            }
            Err(error) if is_not_found(&error) => Ok((permit, None)),
            Err(error) => Err(AccountDataError::from_http(error)),
        }
    }

    pub(crate) async fn put(
        &self,
        permit: RequestPermit,
        content: Box<RawValue>,
    ) -> Result<RequestPermit, AccountDataError> {
        let request = Request::put(self.user.clone(), self.event_type.clone(), content);
        let (permit, answer) = self.send(permit, request).await?;
        answer.map(|_| permit).map_err(AccountDataError::from_http)
    }

    /// Returns a configuration for a single try within the request timeout. By default the
    /// SDK may retry for a quarter of an hour.
    fn config(&self) -> RequestConfig {
        RequestConfig::new().disable_retry().timeout(self.request_timeout)
    }

    /// Sends `request` in a separate task, and waits for the answer within the request timeout.
    ///
    /// The request is never dropped, because the SDK may be refreshing its token inside it.
    /// If the answer to a token refresh is lost, the user is logged out.
    async fn send(
        &self,
        permit: RequestPermit,
        request: Request,
    ) -> Result<(RequestPermit, Result<Answer, HttpError>), AccountDataError> {
        let request = self.sender.send(request, self.config());
        let sent = spawn(&Handle::current(), async move { (permit, request.await) });
        match timeout(self.request_timeout, sent).await {
            Ok(Ok(answered)) => Ok(answered),
            // The runtime has ended, or the SDK panicked: there is no answer.
            Ok(Err(_)) | Err(_) => Err(AccountDataError::Timeout),
        }
    }
}

/// Converts the wait that the homeserver asked for to a duration from `now`.
fn wait(asked: RetryAfter, now: SystemTime) -> Duration {
    let wait = match asked {
        RetryAfter::Delay(delay) => delay,
        RetryAfter::DateTime(date) => date.duration_since(now).unwrap_or_default(),
    };
    wait.min(LONGEST_RETRY_AFTER)
}

/// Returns whether the homeserver says that there is no event. A 404 of another kind says
/// that it does not know the endpoint.
fn is_not_found(error: &HttpError) -> bool {
    error.client_api_error_kind() == Some(&ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_delay_or_a_date_and_at_most_an_hour() {
        let (now, second) =
            (SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30), Duration::from_secs(1));
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
