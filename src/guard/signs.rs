//! Knows the literal texts that announce something, and finds what follows them.

use std::ops::Range;

use super::{
    key,
    kind::IdentifierKind,
    named::{Name, NamedSecrets, SecretName},
    token::Tokens,
    uri,
};

/// What a literal text announces.
pub(super) const SIGNS: [(&str, Sign); 41] = [
    ("mxc://", Sign::Mxc),
    ("_matrix/", Sign::MediaLink),
    ("matrix:", Sign::MatrixUri),
    ("matrix.to/#/", Sign::MatrixTo),
    ("syt_", Sign::HomeserverToken),
    ("syr_", Sign::HomeserverToken),
    ("syl_", Sign::HomeserverToken),
    ("mat_", Sign::HomeserverToken),
    ("mar_", Sign::HomeserverToken),
    ("mct_", Sign::HomeserverToken),
    ("mcr_", Sign::HomeserverToken),
    ("mpt_", Sign::HomeserverToken),
    ("ghp_", Sign::GitHubToken),
    ("gho_", Sign::GitHubToken),
    ("ghu_", Sign::GitHubToken),
    ("ghs_", Sign::GitHubToken),
    ("ghr_", Sign::GitHubToken),
    ("github_pat_", Sign::GitHubToken),
    ("apa91b", Sign::FirebaseToken),
    ("token", Sign::Named(Name::Token)),
    ("bearer", Sign::Named(Name::Bearer)),
    ("secret", Sign::Named(Name::Secret)),
    ("secret_key", Sign::Named(Name::Secret)),
    ("secret-key", Sign::Named(Name::Secret)),
    ("secret key", Sign::Named(Name::Secret)),
    ("secret.key", Sign::Named(Name::Secret)),
    ("secretkey", Sign::Named(Name::Secret)),
    ("api_key", Sign::Named(Name::Secret)),
    ("api-key", Sign::Named(Name::Secret)),
    ("apikey", Sign::Named(Name::Secret)),
    ("api key", Sign::Named(Name::Secret)),
    ("authorization", Sign::Named(Name::Authorization)),
    ("password", Sign::Named(Name::Password)),
    ("passwd", Sign::Named(Name::Password)),
    ("passphrase", Sign::Named(Name::Password)),
    ("pass_phrase", Sign::Named(Name::Password)),
    ("pass-phrase", Sign::Named(Name::Password)),
    ("pass phrase", Sign::Named(Name::Password)),
    ("secret_storage.key.", Sign::StoredKey),
    ("ed25519:", Sign::KeyId),
    ("curve25519:", Sign::KeyId),
];

#[derive(Clone, Copy)]
pub(super) enum Sign {
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

/// Returns the name of a secret that the key `key` ends with, whatever punctuation is
/// behind it.
pub(super) fn secret_name(key: &str) -> Option<SecretName> {
    let key = key.trim_end_matches(|c: char| !c.is_alphanumeric());
    let folded = key.to_ascii_lowercase();
    let plural = folded.strip_suffix('s').unwrap_or(&folded);
    SIGNS.iter().find_map(|(text, sign)| {
        let Sign::Named(name) = *sign else { return None };
        let before = folded.strip_suffix(text).or_else(|| plural.strip_suffix(text))?;
        Some(SecretName::at(name, key, before.len()))
    })
}

/// What the signs in a text announce.
pub(super) struct Announced<'a> {
    text: &'a str,
    secrets: NamedSecrets<'a>,
    tokens: Tokens<'a>,
}

impl<'a> Announced<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, secrets: NamedSecrets::new(text), tokens: Tokens::new(text) }
    }

    /// Returns what the sign at `at` announces. The places of signs must grow.
    pub(super) fn by(
        &mut self,
        sign: Sign,
        at: Range<usize>,
    ) -> Option<(Range<usize>, IdentifierKind)> {
        use IdentifierKind::{DeviceId, Key, MatrixUri, MediaUri, Token};

        let (text, start) = (self.text, at.start);
        let (range, kind) = match sign {
            Sign::FirebaseToken => (self.tokens.firebase_token_at(start), Token),
            Sign::GitHubToken => (self.tokens.github_token_at(start, at.end), Token),
            Sign::HomeserverToken => (self.tokens.homeserver_token_at(start), Token),
            Sign::KeyId => (key::device_of_key_at(text, start, at.end - 1), DeviceId),
            Sign::MatrixTo => (uri::matrix_to_at(text, start), MatrixUri),
            Sign::MatrixUri => (uri::matrix_uri_at(text, start), MatrixUri),
            Sign::MediaLink => (uri::media_link_at(text, start), MediaUri),
            Sign::Mxc => (uri::mxc_uri_at(text, start), MediaUri),
            Sign::Named(name) => return self.secrets.behind(name, at),
            Sign::StoredKey => (key::stored_key_id_at(text, at.end), Key),
        };
        range.map(|range| (range, kind))
    }
}
