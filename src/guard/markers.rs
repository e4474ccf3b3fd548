//! Literal texts that announce an identifier or a secret, and the search for what
//! follows.

use std::ops::Range;

use super::{
    key,
    kind::IdentifierKind,
    named::{Name, NamedSecrets, SecretName},
    token::Tokens,
    uri,
};

/// The literal texts, each with what it announces.
pub(super) const MARKERS: [(&str, Marker); 41] = [
    ("mxc://", Marker::Mxc),
    ("_matrix/", Marker::MediaLink),
    ("matrix:", Marker::MatrixUri),
    ("matrix.to/#/", Marker::MatrixTo),
    ("syt_", Marker::HomeserverToken),
    ("syr_", Marker::HomeserverToken),
    ("syl_", Marker::HomeserverToken),
    ("mat_", Marker::HomeserverToken),
    ("mar_", Marker::HomeserverToken),
    ("mct_", Marker::HomeserverToken),
    ("mcr_", Marker::HomeserverToken),
    ("mpt_", Marker::HomeserverToken),
    ("ghp_", Marker::GitHubToken),
    ("gho_", Marker::GitHubToken),
    ("ghu_", Marker::GitHubToken),
    ("ghs_", Marker::GitHubToken),
    ("ghr_", Marker::GitHubToken),
    ("github_pat_", Marker::GitHubToken),
    ("apa91b", Marker::FirebaseToken),
    ("token", Marker::Named(Name::Token)),
    ("bearer", Marker::Named(Name::Bearer)),
    ("secret", Marker::Named(Name::Secret)),
    ("secret_key", Marker::Named(Name::Secret)),
    ("secret-key", Marker::Named(Name::Secret)),
    ("secret key", Marker::Named(Name::Secret)),
    ("secret.key", Marker::Named(Name::Secret)),
    ("secretkey", Marker::Named(Name::Secret)),
    ("api_key", Marker::Named(Name::Secret)),
    ("api-key", Marker::Named(Name::Secret)),
    ("apikey", Marker::Named(Name::Secret)),
    ("api key", Marker::Named(Name::Secret)),
    ("authorization", Marker::Named(Name::Authorization)),
    ("password", Marker::Named(Name::Password)),
    ("passwd", Marker::Named(Name::Password)),
    ("passphrase", Marker::Named(Name::Password)),
    ("pass_phrase", Marker::Named(Name::Password)),
    ("pass-phrase", Marker::Named(Name::Password)),
    ("pass phrase", Marker::Named(Name::Password)),
    ("secret_storage.key.", Marker::StoredKey),
    ("ed25519:", Marker::KeyId),
    ("curve25519:", Marker::KeyId),
];

#[derive(Clone, Copy)]
pub(super) enum Marker {
    FirebaseToken,
    GitHubToken,
    HomeserverToken,
    KeyId,
    MatrixTo,
    MatrixUri,
    MediaLink,
    Mxc,
    Named(Name),
    StoredKey,
}

/// Returns the name of a secret that `key` ends with, ignoring trailing punctuation.
pub(super) fn secret_name(key: &str) -> Option<SecretName> {
    let key = key.trim_end_matches(|c: char| !c.is_alphanumeric());
    let folded = key.to_ascii_lowercase();
    let plural = folded.strip_suffix('s').unwrap_or(&folded);
    MARKERS.iter().find_map(|(text, marker)| {
        let Marker::Named(name) = *marker else { return None };
        let before = folded.strip_suffix(text).or_else(|| plural.strip_suffix(text))?;
        Some(SecretName::at(name, key, before.len()))
    })
}

/// The search for the findings that the markers of a text announce.
pub(super) struct MarkerSearch<'a> {
    text: &'a str,
    secrets: NamedSecrets<'a>,
    tokens: Tokens<'a>,
}

impl<'a> MarkerSearch<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, secrets: NamedSecrets::new(text), tokens: Tokens::new(text) }
    }

    /// Returns the finding that the marker at `at` announces. Calls must be in ascending
    /// order of `at`.
    pub(super) fn finding_at(
        &mut self,
        marker: Marker,
        at: Range<usize>,
    ) -> Option<(Range<usize>, IdentifierKind)> {
        use IdentifierKind::{DeviceId, Key, MatrixUri, MediaUri, Token};

        let (text, start) = (self.text, at.start);
        let (range, kind) = match marker {
            Marker::FirebaseToken => (self.tokens.firebase_token_at(start), Token),
            Marker::GitHubToken => (self.tokens.github_token_at(start, at.end), Token),
            Marker::HomeserverToken => (self.tokens.homeserver_token_at(start), Token),
            Marker::KeyId => (key::device_of_key_at(text, start, at.end - 1), DeviceId),
            Marker::MatrixTo => (uri::matrix_to_at(text, start), MatrixUri),
            Marker::MatrixUri => (uri::matrix_uri_at(text, start), MatrixUri),
            Marker::MediaLink => (uri::media_link_at(text, start), MediaUri),
            Marker::Mxc => (uri::mxc_uri_at(text, start), MediaUri),
            Marker::Named(name) => return self.secrets.behind(name, at),
            Marker::StoredKey => (key::stored_key_id_at(text, at.end), Key),
        };
        range.map(|range| (range, kind))
    }
}
