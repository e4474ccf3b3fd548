//! Routes from paths to endpoints.

use wiremock::{Request, http::Method};

use super::AccountDataMethod;

/// An endpoint of the mock.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    AccountData(AccountDataPath),
    /// A method that Synapse does not support for account data.
    AccountDataWrongMethod,
    Filter,
    KeysQuery,
    KeysUpload,
    Login,
    LoginFlows,
    Logout,
    LogoutAll,
    Refresh,
    SlidingSync,
    Sync,
    Versions,
    Whoami,
}

/// The user, event type and operation of an account-data request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AccountDataPath {
    pub(super) method: AccountDataMethod,
    pub(super) user_id: String,
    pub(super) event_type: String,
}

impl AccountDataPath {
    /// Returns whether the type of the event belongs to the Matrix specification.
    pub(super) fn is_of_specification(&self) -> bool {
        self.event_type.starts_with("m.")
    }
}

impl Route {
    /// Returns the route of a request, or `None` if it is for another mock.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let path = request.url.path().strip_prefix("/_matrix/client/")?;
        // Split before decoding: a `%2F` in an event type is not a separator.
        let segments: Vec<String> = path.split('/').map(decoded).collect::<Option<_>>()?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let rest = match segments.as_slice() {
            ["versions"] if request.method == Method::GET => return Some(Self::Versions),
            ["v3" | "r0", rest @ ..] => rest,
            ["unstable", rest @ ..] => return Self::unstable(&request.method, rest),
            _ => return None,
        };
        match (request.method.as_str(), rest) {
            (method, ["user", user_id, "account_data", event_type]) => {
                let method = match method {
                    "GET" => AccountDataMethod::Get,
                    "PUT" => AccountDataMethod::Put,
                    "DELETE" | "POST" => return Some(Self::AccountDataWrongMethod),
                    _ => return None,
                };
                Some(Self::account_data(method, user_id, event_type))
            }
            ("POST", ["user", _, "filter"]) => Some(Self::Filter),
            ("GET", ["account", "whoami"]) => Some(Self::Whoami),
            ("POST", ["keys", "query"]) => Some(Self::KeysQuery),
            ("POST", ["keys", "upload"]) => Some(Self::KeysUpload),
            ("GET", ["login"]) => Some(Self::LoginFlows),
            ("POST", ["login"]) => Some(Self::Login),
            ("POST", ["logout"]) => Some(Self::Logout),
            ("POST", ["logout", "all"]) => Some(Self::LogoutAll),
            ("POST", ["refresh"]) => Some(Self::Refresh),
            ("GET", ["sync"]) => Some(Self::Sync),
            _ => None,
        }
    }

    fn unstable(method: &Method, rest: &[&str]) -> Option<Self> {
        match (method.as_str(), rest) {
            ("DELETE", ["org.matrix.msc3391", "user", user_id, "account_data", event_type]) => {
                Some(Self::account_data(AccountDataMethod::Delete, user_id, event_type))
            }
            ("POST", ["org.matrix.simplified_msc3575", "sync"]) => Some(Self::SlidingSync),
            _ => None,
        }
    }

    fn account_data(method: AccountDataMethod, user_id: &str, event_type: &str) -> Self {
        Self::AccountData(AccountDataPath {
            method,
            user_id: user_id.to_owned(),
            event_type: event_type.to_owned(),
        })
    }

    pub(super) fn is_account_data(&self) -> bool {
        matches!(self, Self::AccountData(_) | Self::AccountDataWrongMethod)
    }
}

/// Decodes percent-encoding. Returns `None` if it is malformed or not UTF-8.
fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    loop {
        match rest {
            [] => return String::from_utf8(bytes).ok(),
            [b'%', high, low, tail @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
                rest = tail;
            }
            [b'%', ..] => return None,
            [byte, tail @ ..] => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_decoded_within_a_segment() {
        assert_eq!(decoded("%40alice%3Aexample.org").as_deref(), Some("@alice:example.org"));
        assert_eq!(decoded("a%2Fb%C3%A9").as_deref(), Some("a/bé"));
        assert_eq!(decoded("%4"), None);
        assert_eq!(decoded("%zz"), None);
        assert_eq!(decoded("%ff"), None);
    }
}
