//! Failures of account-data requests, and the rules for when they occur.

use std::time::{Duration, SystemTime};

use super::homeserver::{AccountDataMethod, Caller, DeviceLogin, Reply};

/// A way for the [`AccountDataServer`](super::AccountDataServer) to fail an account-data
/// request.
///
/// Unless the variant says otherwise, the request is not applied. Bodies and headers are
/// those of Synapse 1.163 where it can produce the failure. The error codes are from the
/// section "Standard error response" of the client-server API.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// 200 without a body, as from a proxy that lost it.
    Empty,
    /// 403 `M_FORBIDDEN`.
    Forbidden,
    /// 403 `M_GUEST_ACCESS_FORBIDDEN`: the answer to a guest, including for GET.
    GuestForbidden,
    /// An HTML page with this status, as from a captive portal (200) or a proxy (502).
    Html(u16),
    /// 404 `M_UNRECOGNIZED`: a server or proxy that does not know the endpoint.
    ///
    /// Not the same as the 404 `M_NOT_FOUND` for data that was never set.
    NotFoundUnrecognized,
    /// 429 `M_LIMIT_EXCEEDED`.
    RateLimited {
        /// Sent as the header `Retry-After` (whole seconds, rounded up) and as
        /// `retry_after_ms` in the body. Both are left out if `None`.
        retry_after: Option<Duration>,
    },
    /// 429 `M_LIMIT_EXCEEDED`, with a date in `Retry-After`.
    RateLimitedUntil(SystemTime),
    /// **Applied**, then the connection is dropped without an answer.
    ResetAfter,
    /// The connection is dropped before the request is applied.
    ResetBefore,
    /// This status with a JSON body, `M_UNKNOWN` "Internal server error".
    ServerError(u16),
    /// **Applied** at once and answered as usual after this delay, in real time.
    Slow(Duration),
    /// 401 `M_UNKNOWN_TOKEN` with `soft_logout: true`: the answer to an expired token.
    SoftLogout,
    /// **Applied**, but never answered during a test.
    StallAfter,
    /// Neither applied nor answered during a test.
    StallBefore,
    /// 401 `M_UNKNOWN_TOKEN` with `soft_logout: false`: the answer to a device that was
    /// logged out.
    UnknownToken,
    /// 401 `M_USER_LOCKED` with `soft_logout: true`: an administrator locked the account.
    UserLocked,
}

impl Fault {
    /// Returns the answer that replaces the real one, or `None` if the fault is not an
    /// answer.
    pub(super) fn reply(&self) -> Option<Reply> {
        Some(match self {
            Self::Empty => Reply::empty(),
            Self::Forbidden => Reply::error(403, "M_FORBIDDEN", "Forbidden"),
            Self::GuestForbidden => Reply::guest_forbidden(),
            Self::Html(status) => Reply::html(*status),
            Self::NotFoundUnrecognized => Reply::unrecognized(404),
            Self::RateLimited { retry_after } => Reply::rate_limited(*retry_after),
            Self::RateLimitedUntil(date) => Reply::rate_limited_until(*date),
            Self::ServerError(status) => {
                Reply::error(*status, "M_UNKNOWN", "Internal server error")
            }
            Self::SoftLogout => {
                Reply::logged_out("M_UNKNOWN_TOKEN", "Access token has expired", true)
            }
            Self::UnknownToken => {
                Reply::logged_out("M_UNKNOWN_TOKEN", "Invalid access token passed.", false)
            }
            Self::UserLocked => {
                Reply::logged_out("M_USER_LOCKED", "User account has been locked", true)
            }
            Self::ResetAfter
            | Self::ResetBefore
            | Self::Slow(_)
            | Self::StallAfter
            | Self::StallBefore => return None,
        })
    }
}

/// A [`Fault`] and the requests that it applies to.
///
/// ```
/// # use matrix_analytics::testing::{AccountDataMethod, AccountDataServer, Fault, FaultRule};
/// # #[tokio::main]
/// # async fn main() {
/// let homeserver = AccountDataServer::start().await;
/// let phone = homeserver.add_device("@alice:example.org", "PHONE");
///
/// // Alice's phone is offline; her other devices are not.
/// homeserver.fail(FaultRule::always(Fault::ResetBefore).from(&phone));
/// // The next two reads of any device fail.
/// homeserver.fail(FaultRule::times(2, Fault::ServerError(503)).on(AccountDataMethod::Get));
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a rule does nothing until it is given to `AccountDataServer::fail`"]
pub struct FaultRule {
    fault: Fault,
    remaining: Option<usize>,
    method: Option<AccountDataMethod>,
    device: Option<(String, String)>,
}

impl FaultRule {
    /// Fails every request, until
    /// [`AccountDataServer::heal`](super::AccountDataServer::heal).
    pub fn always(fault: Fault) -> Self {
        Self { fault, remaining: None, method: None, device: None }
    }

    /// Fails one request.
    pub fn next(fault: Fault) -> Self {
        Self::times(1, fault)
    }

    /// Fails `count` requests.
    pub fn times(count: usize, fault: Fault) -> Self {
        Self { remaining: Some(count), ..Self::always(fault) }
    }

    /// Limits the rule to requests with this method.
    pub fn on(mut self, method: AccountDataMethod) -> Self {
        self.method = Some(method);
        self
    }

    /// Limits the rule to requests from this device, even after its token has changed.
    pub fn from(mut self, device: &DeviceLogin) -> Self {
        self.device = Some((device.user_id.clone(), device.device_id.clone()));
        self
    }

    fn covers(&self, method: AccountDataMethod, caller: Option<&Caller>) -> bool {
        self.remaining != Some(0)
            && self.method.is_none_or(|only| only == method)
            && self.device.as_ref().is_none_or(|(user_id, device_id)| {
                caller.is_some_and(|caller| {
                    caller.user_id == *user_id && caller.device_id == *device_id
                })
            })
    }
}

/// The active rules.
#[derive(Debug, Default)]
pub(super) struct FaultRules {
    counted: Vec<FaultRule>,
    standing: Vec<FaultRule>,
}

impl FaultRules {
    pub(super) fn add(&mut self, rule: FaultRule) {
        if rule.remaining.is_some() { &mut self.counted } else { &mut self.standing }.push(rule);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns the fault for a request, and uses it up if its rule is limited to a number
    /// of requests.
    ///
    /// Limited rules apply first, oldest first, so that a script of failures runs in the
    /// order in which it was written. Of the permanent rules, only the newest applies, so
    /// that a test can replace it at any time.
    pub(super) fn take(
        &mut self,
        method: AccountDataMethod,
        caller: Option<&Caller>,
    ) -> Option<Fault> {
        if let Some(rule) = self.counted.iter_mut().find(|rule| rule.covers(method, caller)) {
            rule.remaining = rule.remaining.map(|left| left.saturating_sub(1));
            return Some(rule.fault.clone());
        }
        self.standing
            .iter()
            .rev()
            .find(|rule| rule.covers(method, caller))
            .map(|rule| rule.fault.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limited_faults_run_in_order_before_the_permanent_one() {
        let mut rules = FaultRules::default();
        rules.add(FaultRule::always(Fault::Forbidden));
        rules.add(FaultRule::next(Fault::UnknownToken));
        rules.add(FaultRule::times(2, Fault::ResetBefore).on(AccountDataMethod::Put));

        let taken: Vec<_> = [
            AccountDataMethod::Put,
            AccountDataMethod::Get,
            AccountDataMethod::Put,
            AccountDataMethod::Put,
            AccountDataMethod::Put,
        ]
        .into_iter()
        .filter_map(|method| rules.take(method, None))
        .collect();

        assert_eq!(
            taken,
            [
                Fault::UnknownToken,
                Fault::Forbidden,
                Fault::ResetBefore,
                Fault::ResetBefore,
                Fault::Forbidden,
            ]
        );
    }

    #[test]
    fn a_rule_for_one_device_does_not_affect_others() {
        let mut rules = FaultRules::default();
        let phone = DeviceLogin {
            user_id: "@alice:example.org".to_owned(),
            device_id: "PHONE".to_owned(),
            access_token: String::new(),
            refresh_token: None,
        };
        rules.add(FaultRule::always(Fault::Forbidden).from(&phone));
        let caller = |device_id: &str| Caller {
            user_id: "@alice:example.org".to_owned(),
            device_id: device_id.to_owned(),
            guest: false,
        };

        assert_eq!(
            rules.take(AccountDataMethod::Get, Some(&caller("PHONE"))),
            Some(Fault::Forbidden)
        );
        assert_eq!(rules.take(AccountDataMethod::Get, Some(&caller("LAPTOP"))), None);
        assert_eq!(rules.take(AccountDataMethod::Get, None), None);
    }
}
