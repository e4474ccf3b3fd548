//! Classifies errors for the consent machine.

use matrix_sdk::ruma::api::error::ErrorKind;

use crate::{
    consent::machine::{Failure, FailureKind},
    matrix::account_data::AccountDataError,
};

/// Classifies an error of a request.
pub(super) fn failure(error: &AccountDataError) -> Failure {
    let (kind, retry_after) = match error {
        AccountDataError::Timeout | AccountDataError::Http(_) | AccountDataError::EmptyAnswer => {
            (FailureKind::Unanswered, None)
        }
        AccountDataError::Forbidden(source) => {
            let is_guest = source.client_api_error_kind() == Some(&ErrorKind::GuestAccessForbidden);
            (if is_guest { FailureKind::Guest } else { FailureKind::Locked }, None)
        }
        AccountDataError::RateLimited { retry_after, .. } => (FailureKind::Refused, *retry_after),
        AccountDataError::SessionLost(_) if error.is_user_locked() => (FailureKind::Locked, None),
        AccountDataError::SessionLost(_) | AccountDataError::NotAnObject => {
            (FailureKind::Refused, None)
        }
    };
    Failure { kind, retry_after }
}
