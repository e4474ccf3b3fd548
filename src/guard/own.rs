//! What this session is known by, to be searched for literally.

use std::fmt;

use super::kind::IdentifierKind;

/// The shortest word that is searched for, in bytes: a localpart like `max` would be
/// found in half of all texts.
const SHORTEST_WORD: usize = 5;
/// The shortest domain name, such as `hs.io`.
const SHORTEST_DOMAIN: usize = 4;
/// The shortest secret.
const SHORTEST_SECRET: usize = 8;
/// How many tokens are remembered after they were replaced: what was captured
/// before has the old ones.
const OLD_TOKENS: usize = 8;

/// What the client knows of its session, in plain text.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct OwnIdentifiers {
    pub(crate) user_id: String,
    pub(crate) localpart: String,
    pub(crate) device_id: String,
    pub(crate) server_name: String,
    /// The hosts that serve it, without ports.
    pub(crate) hosts: Vec<String>,
    pub(crate) tokens: Vec<String>,
}

/// Prints nothing of it.
impl fmt::Debug for OwnIdentifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnIdentifiers").finish_non_exhaustive()
    }
}

impl OwnIdentifiers {
    /// These, with the tokens that `older` had and these have not.
    pub(super) fn with_tokens_of(mut self, older: &Self) -> Self {
        for token in &older.tokens {
            if self.tokens.len() < OLD_TOKENS && !self.tokens.contains(token) {
                self.tokens.push(token.clone());
            }
        }
        self
    }

    pub(super) fn literals(&self) -> Vec<Literal> {
        let domain = |name: &String| match name.contains('.') {
            true => Literal::word(name, IdentifierKind::ServerName, SHORTEST_DOMAIN),
            false => Literal::word(name, IdentifierKind::ServerName, SHORTEST_WORD),
        };
        let mut literals: Vec<_> = [
            Literal::new(&self.user_id, IdentifierKind::UserId, SHORTEST_WORD),
            Literal::word(&self.localpart, IdentifierKind::UserId, SHORTEST_WORD),
            Literal::word(&self.device_id, IdentifierKind::DeviceId, SHORTEST_WORD),
            domain(&self.server_name),
        ]
        .into_iter()
        .chain(self.hosts.iter().map(domain))
        .chain(
            self.tokens
                .iter()
                .map(|token| Literal::new(token, IdentifierKind::Token, SHORTEST_SECRET)),
        )
        .flatten()
        .collect();
        literals.dedup_by(|a, b| a.folded == b.folded);
        literals
    }
}

/// A text to search for, whatever the case of its ASCII letters.
pub(super) struct Literal {
    pub(super) folded: Vec<u8>,
    pub(super) kind: IdentifierKind,
    /// Only where no letter or digit stands before or after.
    is_word: bool,
}

impl Literal {
    fn new(text: &str, kind: IdentifierKind, shortest: usize) -> Option<Self> {
        let folded = text.to_ascii_lowercase().into_bytes();
        (folded.len() >= shortest).then_some(Self { folded, kind, is_word: false })
    }

    fn word(text: &str, kind: IdentifierKind, shortest: usize) -> Option<Self> {
        let literal = Self::new(text, kind, shortest)?;
        // Else what the guard writes would be found again: nobody is known by it.
        let is_ours = |kind: IdentifierKind| kind.name().contains(&text.to_ascii_lowercase());
        let is_ours = IdentifierKind::BUILT_IN.iter().copied().any(is_ours)
            || super::redact::WHOLE.contains(&text.to_ascii_lowercase());
        (!is_ours).then_some(Self { is_word: true, ..literal })
    }

    /// Whether this stands at `at` in `folded`.
    pub(super) fn is_at(&self, folded: &[u8], at: usize) -> bool {
        let end = at + self.folded.len();
        let is_letter =
            |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b >= 0x80);
        folded[at..].starts_with(&self.folded)
            && !(self.is_word && (is_letter(folded[..at].last()) || is_letter(folded.get(end))))
    }
}
