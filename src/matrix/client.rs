//! The client that an [`Analytics`](crate::Analytics) is built on.

use matrix_sdk::Client;

/// The [`Client`] of the matrix-sdk that this crate is built with.
///
/// [`Analytics::builder`](crate::Analytics::builder) takes one. No other type implements this trait.
/// It lets the compiler tell an app with another version of matrix-sdk which version of this crate
/// it needs.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not from the matrix-sdk that matrix-analytics is built with",
    label = "expected the `Client` of that matrix-sdk",
    note = "the minor version of matrix-analytics is that of the matrix-sdk it is built with: choose \
            the one that your matrix-sdk has",
    note = "if your matrix-sdk is not from crates.io, name it in `[patch.crates-io]`: \
            https://docs.rs/matrix-analytics/latest/matrix_analytics/guide/features",
    note = "a reference and an `Arc` are not a `Client` either: pass `client.clone()`"
)]
pub trait MatrixClient: sealed::IntoClient {}

impl MatrixClient for Client {}

/// Returns the client itself.
pub(crate) fn into_client(client: impl MatrixClient) -> Client {
    sealed::IntoClient::into_client(client)
}

mod sealed {
    use super::Client;

    #[expect(unnameable_types, reason = "another crate must not implement it")]
    pub trait IntoClient {
        fn into_client(self) -> Client;
    }

    impl IntoClient for Client {
        fn into_client(self) -> Self {
            self
        }
    }
}
