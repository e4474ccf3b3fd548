//! The kinds of findings, and the placeholders that replace them.

use std::fmt;

use serde::{Serialize, Serializer};

/// Replaces a text that could not be redacted finding by finding.
pub(super) const REDACTED: &str = "[redacted]";

/// A kind of personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum IdentifierKind {
    /// A finding of the app's [`Detector`](crate::Detector) with this name.
    Custom(&'static str),
    /// A user name and password in a URL, or a password, secret or API key that follows
    /// its name.
    Credentials,
    /// This session's device ID, or a device ID that is part of the ID of a device key.
    DeviceId,
    /// An email address.
    Email,
    /// An event ID of any room version.
    EventId,
    /// An IPv4 or IPv6 address.
    IpAddress,
    /// A key or session ID of Matrix's encryption (32 random bytes in base64), a
    /// signature, a recovery key, or the ID of a secret storage key.
    Key,
    /// A `matrix:` URI or a matrix.to link.
    MatrixUri,
    /// An `mxc:` URI, or the download link of a media file.
    MediaUri,
    /// A room alias.
    RoomAlias,
    /// A room ID, with or without a server.
    RoomId,
    /// The name of this session's server, of the host that serves it, or of another host
    /// in their domains.
    ServerName,
    /// An access token, a refresh token, or another token that grants access: a JSON Web
    /// Token, a GitHub token, or a device's push token.
    Token,
    /// A user ID, or the localpart of this session's user ID.
    UserId,
}

impl IdentifierKind {
    /// The kinds that the guard finds without a detector of the app.
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

    /// Returns a name in snake case, such as `user_id`, that stays the same from one version to
    /// the next; for [`Custom`](Self::Custom), the name that the app's detector gave. In a
    /// redacted text, this name in brackets replaces the finding.
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
