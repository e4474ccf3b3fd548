//! What the guard tells apart, and what it puts in the place of each.

use std::fmt;

use serde::{Serialize, Serializer};

/// What stands for a text that could not be cleaned piece by piece.
pub(super) const WHOLE: &str = "[redacted]";

/// A kind of thing that must not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum IdentifierKind {
    /// What a [`Detector`](crate::Detector) of the app found; its name.
    Custom(&'static str),
    /// The user and the password in a URL, a password, a secret or an API key behind
    /// its name.
    Credentials,
    /// This session's device ID, or the one in the ID of a device's key.
    DeviceId,
    /// An e-mail address.
    Email,
    /// An event ID, of any room version.
    EventId,
    /// An IPv4 or IPv6 address.
    IpAddress,
    /// A key or a session ID of Matrix's encryption, which are 32 random bytes in base64,
    /// a signature, a recovery key, or the ID of a key of the secret storage.
    Key,
    /// A `matrix:` URI, or a link of matrix.to.
    MatrixUri,
    /// An `mxc:` URI, or the download link of a media file.
    MediaUri,
    /// A room alias.
    RoomAlias,
    /// A room ID, with or without a server.
    RoomId,
    /// The name of this session's server, of the host that serves it, or of another
    /// host of their domains.
    ServerName,
    /// An access token, a refresh token, or another token that opens something: a JSON
    /// Web Token, one of GitHub, or what a push gateway knows a device by.
    Token,
    /// A user ID, or the localpart of this session's own.
    UserId,
}

impl IdentifierKind {
    /// The kinds that this crate itself finds.
    pub const BUILT_IN: &'static [Self] = &[
        Self::Credentials,
        Self::DeviceId,
        Self::Email,
        Self::EventId,
        Self::IpAddress,
        Self::Key,
        Self::MatrixUri,
        Self::MediaUri,
        Self::RoomAlias,
        Self::RoomId,
        Self::ServerName,
        Self::Token,
        Self::UserId,
    ];

    /// Returns a name in snake case, such as `user_id`. It stays the same from one version to
    /// the next. In brackets it takes the place of the identifier in a redacted text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Custom(name) => name,
            Self::Credentials => "credentials",
            Self::DeviceId => "device_id",
            Self::Email => "email",
            Self::EventId => "event_id",
            Self::IpAddress => "ip_address",
            Self::Key => "key",
            Self::MatrixUri => "matrix_uri",
            Self::MediaUri => "media_uri",
            Self::RoomAlias => "room_alias",
            Self::RoomId => "room_id",
            Self::ServerName => "server_name",
            Self::Token => "token",
            Self::UserId => "user_id",
        }
    }
}

/// Writes [`as_str`](IdentifierKind::as_str).
impl fmt::Display for IdentifierKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Writes [`as_str`](IdentifierKind::as_str).
impl Serialize for IdentifierKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
