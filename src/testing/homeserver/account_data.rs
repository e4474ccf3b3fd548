//! GET, PUT and DELETE of account data, with injected faults.

use std::convert;

use wiremock::Request;

use super::{
    AccountDataMethod, AccountDataRequest, Msc3391, Outcome,
    json::{self, Verdict},
    reply::{Decision, Reply},
    route::AccountDataPath,
    state::{Caller, State},
};
use crate::testing::Fault;

/// The largest body. Above it, Synapse 1.163 drops the connection without a status
/// (default `max_upload_size`).
const MAX_BODY_BYTES: usize = 52_428_800;

impl State {
    /// Handles an account-data request and records it.
    ///
    /// One for a type of the specification neither fails nor is recorded: a client with
    /// encryption sends such requests itself, at any time.
    pub(super) fn account_data(&mut self, path: AccountDataPath, request: &Request) -> Decision {
        let caller = self.authenticate(request);
        if path.is_of_specification() {
            let reply = self.apply(caller, &path, request).unwrap_or_else(convert::identity);
            return Decision::Answer(reply);
        }
        let fault = self.faults.take(path.method, caller.as_ref().ok());
        let device_id = caller.as_ref().ok().map(|caller| caller.device_id.clone());

        let (decision, outcome, applied) = match fault {
            Some(Fault::ResetBefore) => (Decision::Reset, Outcome::Reset, false),
            Some(Fault::StallBefore) => {
                (Decision::Answer(Reply::empty_object().never()), Outcome::Stalled, false)
            }
            _ if request.body.len() > MAX_BODY_BYTES => (Decision::Reset, Outcome::Reset, false),
            fault => match fault.as_ref().and_then(Fault::reply) {
                Some(reply) => {
                    let outcome = Outcome::Answered(reply.status());
                    (Decision::Answer(reply), outcome, false)
                }
                None => {
                    let reply =
                        self.apply(caller, &path, request).unwrap_or_else(convert::identity);
                    let applied = reply.is_success();
                    let outcome = Outcome::Answered(reply.status());
                    match fault {
                        Some(Fault::ResetAfter) => (Decision::Reset, Outcome::Reset, applied),
                        Some(Fault::StallAfter) => {
                            (Decision::Answer(reply.never()), Outcome::Stalled, applied)
                        }
                        Some(Fault::Slow(delay)) => {
                            (Decision::Answer(reply.after(delay)), outcome, applied)
                        }
                        _ => (Decision::Answer(reply), outcome, applied),
                    }
                }
            },
        };

        self.requests.push(AccountDataRequest {
            method: path.method,
            user_id: path.user_id,
            event_type: path.event_type,
            device_id,
            body: String::from_utf8_lossy(&request.body).into_owned(),
            applied,
            outcome,
        });
        decision
    }

    /// Applies a request. The checks are in the order in which Synapse makes them.
    fn apply(
        &mut self,
        caller: Result<Caller, Reply>,
        path: &AccountDataPath,
        request: &Request,
    ) -> Result<Reply, Reply> {
        let AccountDataPath { method, user_id, event_type } = path;
        if *method == AccountDataMethod::Delete && self.msc3391 == Msc3391::Off {
            return Err(Reply::unrecognized(404));
        }
        let caller = caller?;
        if caller.guest {
            return Err(Reply::guest_forbidden());
        }
        if caller.user_id != *user_id {
            let verb = match method {
                AccountDataMethod::Delete => "delete",
                AccountDataMethod::Get => "get",
                AccountDataMethod::Put => "add",
            };
            let error = format!("Cannot {verb} account data for other users.");
            return Err(Reply::error(403, "M_FORBIDDEN", &error));
        }
        if *method != AccountDataMethod::Get
            && ["m.fully_read", "m.push_rules"].contains(&event_type.as_str())
        {
            let error = format!("Cannot set {event_type} through this API.");
            return Err(Reply::error(405, "M_BAD_JSON", &error));
        }
        match method {
            AccountDataMethod::Delete => self.remove(user_id, event_type),
            AccountDataMethod::Get => {
                return self
                    .content(user_id, event_type)
                    .map(|content| Reply::raw_json(200, content.to_owned()))
                    .ok_or_else(|| Reply::error(404, "M_NOT_FOUND", "Account data not found"));
            }
            AccountDataMethod::Put => match json::judge(&request.body) {
                Verdict::Object => {
                    self.put(user_id, event_type, &String::from_utf8_lossy(&request.body));
                }
                Verdict::NotAnObject => {
                    return Err(Reply::error(400, "M_BAD_JSON", "Content must be a JSON object."));
                }
                Verdict::NotJson => {
                    return Err(Reply::error(400, "M_NOT_JSON", "Content not JSON."));
                }
                Verdict::Unprintable => {
                    return Err(Reply::error(500, "M_UNKNOWN", "Internal server error"));
                }
            },
        }
        Ok(Reply::empty_object())
    }
}

#[cfg(test)]
mod tests {
    use wiremock::http::{HeaderMap, Method};

    use super::*;

    #[test]
    fn a_body_above_the_limit_of_synapse_resets_the_connection() {
        let mut state = State::default();
        let path = AccountDataPath {
            method: AccountDataMethod::Put,
            user_id: "@alice:example.org".to_owned(),
            event_type: "org.example.settings".to_owned(),
        };
        let request = |length| Request {
            url: "http://localhost".parse().unwrap(),
            method: Method::PUT,
            headers: HeaderMap::new(),
            body: vec![b' '; length],
        };

        let at_limit = state.account_data(path.clone(), &request(MAX_BODY_BYTES));
        let above = state.account_data(path, &request(MAX_BODY_BYTES + 1));

        assert!(matches!(at_limit, Decision::Answer(_)));
        assert!(matches!(above, Decision::Reset));
    }
}
