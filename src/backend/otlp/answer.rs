//! The meaning of an answer to a request, as the specification of OTLP has it.

use prost::Message as _;

use super::response::ExportLogsServiceResponse;
use crate::backend::{
    DeliveryError, PartialDelivery,
    http::{Answer, HttpError},
};

/// Returns the meaning of `answer`.
///
/// # Errors
///
/// Fails unless all records were accepted.
pub(super) fn verdict(answer: &Answer) -> Result<(), DeliveryError> {
    let status = answer.status;
    let source = HttpError::Status(status).boxed();
    Err(match status.as_u16() {
        200..=299 => return accepted(answer),
        413 => DeliveryError::TooLarge(source),
        429 => DeliveryError::Throttled { retry_after: answer.retry_after, source },
        502..=504 => match answer.retry_after {
            None => DeliveryError::Transient(source),
            retry_after => DeliveryError::Throttled { retry_after, source },
        },
        _ => DeliveryError::Refused { status: status.as_u16(), source },
    })
}

fn accepted(answer: &Answer) -> Result<(), DeliveryError> {
    let status = answer.status;
    match answer.body()?.and_then(rejected) {
        Some(0) => Ok(()),
        Some(rejected) => {
            Err(DeliveryError::Partial(PartialDelivery { rejected, ..Default::default() }))
        }
        None => Err(DeliveryError::Refused {
            status: status.as_u16(),
            source: HttpError::Unreadable(status).boxed(),
        }),
    }
}

/// Returns the number of records that `body` says were rejected; `None` if it is not an answer of
/// OTLP.
///
/// The first byte shows the encoding: no message of protobuf begins with `{`, which would open a
/// group. Nothing at all is an empty message of protobuf, and is taken for one of JSON as well.
fn rejected(body: &[u8]) -> Option<usize> {
    let trimmed = body.trim_ascii();
    let response: ExportLogsServiceResponse = if trimmed.first() == Some(&b'{') {
        serde_json::from_slice(trimmed).ok()?
    } else {
        ExportLogsServiceResponse::decode(body).ok()?
    };
    let records = response.partial_success.unwrap_or_default().rejected_log_records;
    Some(usize::try_from(records).unwrap_or_default())
}

#[cfg(test)]
mod tests;
