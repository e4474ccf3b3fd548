//! The session's own identifiers, which are searched for literally.

use std::{fmt, ops::Range};

use super::{
    boundary::{is_boundary, is_foreign},
    cost,
    host::{is_host_char, port_length},
    kind::{IdentifierKind, REDACTED},
    registrable::registrable,
};

/// The shortest word to search for, in bytes. A localpart like `max` would be found in
/// half of all texts.
const SHORTEST_WORD: usize = 5;
/// The shortest domain to search for, such as `hs.io`.
const SHORTEST_DOMAIN: usize = 4;
/// The shortest token to search for.
const SHORTEST_SECRET: usize = 8;
/// The longest host, in bytes.
const MAX_HOST_BYTES: usize = 255;
/// How many tokens are kept, including replaced ones: events captured before a refresh
/// may contain an old token.
const OLD_TOKENS: usize = 8;

/// The identifiers of the session, in plain text.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct OwnIdentifiers {
    pub(crate) user_id: String,
    pub(crate) localpart: String,
    pub(crate) device_id: String,
    pub(crate) server_name: String,
    /// The hosts that serve the homeserver, without ports.
    pub(crate) hosts: Vec<String>,
    pub(crate) tokens: Vec<String>,
}

/// Prints no identifier.
impl fmt::Debug for OwnIdentifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnIdentifiers").finish_non_exhaustive()
    }
}

impl OwnIdentifiers {
    /// Adds the tokens of `older` that are not in `self`.
    pub(super) fn with_tokens_of(mut self, older: &Self) -> Self {
        for token in &older.tokens {
            if self.tokens.len() < OLD_TOKENS && !self.tokens.contains(token) {
                self.tokens.push(token.clone());
            }
        }
        self
    }

    pub(super) fn literals(&self) -> Vec<Literal> {
        let tokens = self.tokens.iter();
        let tokens =
            tokens.map(|text| Literal::new(text, IdentifierKind::Token, MatchRule::Anywhere));
        let domains = self
            .domains()
            .into_iter()
            .map(|(domain, rule)| Literal::new(&domain, IdentifierKind::ServerName, rule));
        [
            Literal::new(&self.user_id, IdentifierKind::UserId, MatchRule::Anywhere),
            Literal::new(&self.localpart, IdentifierKind::UserId, MatchRule::Word),
            Literal::new(&self.device_id, IdentifierKind::DeviceId, MatchRule::Word),
        ]
        .into_iter()
        .chain(domains)
        .chain(tokens)
        .flatten()
        .collect()
    }

    /// Returns the domains of the server and of the hosts that serve it, each in all its
    /// forms. A host without a domain, such as an IP address, is returned as it is.
    fn domains(&self) -> Vec<(String, MatchRule)> {
        let server = self.server_name.as_str();
        let is_port = |at: &usize| at + port_length(&server.as_bytes()[*at..]) == server.len();
        let port = server.rfind(':').filter(is_port);
        let hosts = std::iter::once(&server[..port.unwrap_or(server.len())]);
        let mut domains = Vec::new();
        for host in hosts.chain(self.hosts.iter().map(String::as_str)) {
            let (domain, rule) = match registrable(host) {
                Some(domain) => (domain, MatchRule::Domain),
                None => (host, MatchRule::Word),
            };
            let mut forms = vec![domain.to_owned()];
            if domain.split('.').any(|label| label.get(..4).is_some_and(is_punycode)) {
                let (unicode, _) = idna::domain_to_unicode(domain);
                forms.extend([unicode.to_uppercase(), unicode]);
            }
            for form in forms.into_iter().map(|form| (form, rule)) {
                if !domains.contains(&form) {
                    domains.push(form);
                }
            }
        }
        domains
    }
}

fn is_punycode(prefix: &str) -> bool {
    prefix.eq_ignore_ascii_case("xn--")
}

/// How much of the text around a literal belongs to the finding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MatchRule {
    /// The literal alone, regardless of its neighbours.
    Anywhere,
    /// The literal alone, and only as a whole word.
    Word,
    /// The literal as a whole word, together with the labels before it: the literal is a
    /// domain, and the labels name its hosts.
    Domain,
}

/// A text to search for, ignoring the case of ASCII letters.
pub(super) struct Literal {
    pub(super) folded: Vec<u8>,
    pub(super) kind: IdentifierKind,
    rule: MatchRule,
    /// The first and the last character.
    edges: (char, char),
}

impl Literal {
    /// Returns `None` if `text` is too short to search for, or if the guard's own
    /// placeholders contain it, because the guard would then find what it has written.
    fn new(text: &str, kind: IdentifierKind, rule: MatchRule) -> Option<Self> {
        let shortest = match kind {
            IdentifierKind::Token => SHORTEST_SECRET,
            IdentifierKind::ServerName if text.contains('.') => SHORTEST_DOMAIN,
            _ => SHORTEST_WORD,
        };
        let edges = (text.chars().next()?, text.chars().next_back()?);
        let lower = text.to_ascii_lowercase();
        let mut ours = IdentifierKind::BUILT_IN.iter().map(|kind| kind.name());
        let is_ours =
            ours.any(|name| has_word(name, &lower, edges)) || has_word(REDACTED, &lower, edges);
        if text.len() < shortest || (rule != MatchRule::Anywhere && is_ours) {
            return None;
        }
        Some(Self { folded: lower.into_bytes(), kind, rule, edges })
    }

    /// Returns the finding if this literal is at `at` in `text`. `folded` is `text` in
    /// lower case. A host does not extend to before `floor`.
    pub(super) fn found_at(
        &self,
        text: &str,
        folded: &[u8],
        at: usize,
        floor: usize,
    ) -> Option<Range<usize>> {
        if !folded[at..].starts_with(&self.folded) {
            return None;
        }
        let end = at + self.folded.len();
        if self.rule == MatchRule::Anywhere {
            return Some(at..end);
        }
        if !is_word(text, at..end, self.edges) {
            return None;
        }
        let start = match self.rule {
            MatchRule::Domain if text[..at].ends_with('.') => host_start(text, at, floor),
            _ => at,
        };
        let port = match self.kind {
            IdentifierKind::ServerName => port_length(&folded[end..]),
            _ => 0,
        };
        Some(start..end + port)
    }
}

/// Returns whether `text` contains `word`, whose edges are `edges`, as a whole word.
fn has_word(text: &str, word: &str, edges: (char, char)) -> bool {
    text.match_indices(word).any(|(at, _)| is_word(text, at..at + word.len(), edges))
}

/// Returns whether `range` of `text` is a whole word.
fn is_word(text: &str, range: Range<usize>, (first, last): (char, char)) -> bool {
    text[..range.start].chars().next_back().is_none_or(|c| is_boundary(first, c))
        && text[range.end..].chars().next().is_none_or(|c| is_boundary(last, c))
}

/// Returns the start of the host whose last labels are at `at`. It stops at words of
/// another script that precede it without a space.
fn host_start(text: &str, at: usize, floor: usize) -> usize {
    let floor = text.ceil_char_boundary(floor.max(at.saturating_sub(MAX_HOST_BYTES))).min(at);
    let before = &text[floor..at];
    let mut after = '.';
    let mut start = at;
    for (index, c) in before.char_indices().rev() {
        if !is_host_char(c) || (after.is_ascii_alphanumeric() && is_foreign(c)) {
            break;
        }
        after = c;
        start = floor + index;
    }
    cost::add(at - start + 1);
    start + (text[start..at].len() - text[start..at].trim_start_matches(['.', '-', '_']).len())
}
