//! Finds tokens by their form.

use std::ops::Range;

use super::{
    cost,
    key::{Class, class},
    runs::Runs,
};

/// The shortest random part of a homeserver token, including its checksum.
const RANDOM_CHARS: usize = 20;
const CHECKSUM_CHARS: usize = 6;
/// The minimum length of a GitHub token after its prefix.
const GITHUB_CHARS: usize = 30;
/// The minimum length of a Firebase registration token after its installation ID, which
/// has 11 or 22 characters. Real ones have 140 to 180.
const FIREBASE_CHARS: usize = 60;
const INSTALLATION_CHARS: usize = 64;

/// The search for tokens from the start of a text to its end.
pub(super) struct Tokens<'a> {
    text: &'a str,
    /// Bytes of homeserver tokens.
    homeserver: Runs,
    /// Bytes of GitHub tokens.
    github: Runs,
    /// Bytes of Firebase tokens.
    firebase: Runs,
    /// The end of the last run, and the start of the random part in it.
    random: Option<(usize, Option<usize>)>,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            homeserver: Runs::of(|byte| is_base64url(byte) || byte == b'='),
            github: Runs::trimmed(
                |byte| is_base64url(byte) || byte == b'.',
                |byte| matches!(byte, b'.' | b'-' | b'_'),
            ),
            firebase: Runs::of(is_base64url),
            random: None,
        }
    }

    /// Returns the token at `at`, where a prefix of homeserver tokens is: `syt_`, `syr_`
    /// and `syl_` (Synapse), `mat_`, `mar_`, `mct_`, `mcr_` and `mpt_` (Matrix
    /// Authentication Service). All of them end with random letters and a checksum of six
    /// characters.
    pub(super) fn homeserver_token_at(&mut self, at: usize) -> Option<Range<usize>> {
        let bytes = self.text.as_bytes();
        let end = self.homeserver.end(bytes, at);
        let random = match self.random {
            Some((known, random)) if known == end => random,
            _ => {
                let random = random_part(&self.text[at..end]).map(|start| at + start);
                self.random = Some((end, random));
                random
            }
        };
        (random? > at).then_some(at..end)
    }

    /// Returns the token at `at`, where a GitHub prefix is that ends at `start`.
    ///
    /// `ghp_` is followed by 36 letters and digits, `github_pat_` by 82 including
    /// underscores. Newer tokens are longer and contain dots and hyphens.
    pub(super) fn github_token_at(&mut self, at: usize, start: usize) -> Option<Range<usize>> {
        let bytes = self.text.as_bytes();
        if bytes[..at].last().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            return None;
        }
        let end = self.github.end(bytes, at);
        let value = bytes.get(start..end).filter(|value| value.len() >= GITHUB_CHARS)?;
        is_mixed(value).then_some(at..end)
    }

    /// Returns the Firebase registration token whose `APA91b` is at `at`.
    pub(super) fn firebase_token_at(&mut self, at: usize) -> Option<Range<usize>> {
        let bytes = self.text.as_bytes();
        let end = self.firebase.end(bytes, at);
        if !bytes[at..].starts_with(b"APA91b") || end - at < FIREBASE_CHARS {
            return None;
        }
        let before = bytes[..at].strip_suffix(b":").unwrap_or_default();
        let installation = before.iter().rev().take(INSTALLATION_CHARS);
        let length = installation.take_while(|byte| is_base64url(**byte)).count();
        cost::add(length);
        Some(if length > 0 { at - 1 - length } else { at }..end)
    }
}

/// Returns the start of the random part of `token`, which a checksum follows.
fn random_part(token: &str) -> Option<usize> {
    let (rest, checksum) = token.rsplit_once('_')?;
    let (_, random) = rest.rsplit_once('_')?;
    cost::add(checksum.len() + random.len());
    let is_alphanumeric = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_random = checksum.len() >= CHECKSUM_CHARS
        && random.len() >= RANDOM_CHARS
        && is_alphanumeric(random)
        && random.bytes().any(|byte| byte.is_ascii_uppercase());
    is_random.then(|| rest.len() - random.len())
}

/// Returns whether `value` contains digits and letters of both cases, and changes between
/// them more often than words do. Only the start of the value is examined.
pub(super) fn is_mixed(value: &[u8]) -> bool {
    const DECISIVE: usize = 64;

    let value = &value[..value.len().min(DECISIVE)];
    cost::add(value.len());
    let has = |wanted: Class, least: usize| {
        value.iter().filter(|byte| class(**byte) == wanted).count() >= least
    };
    let changes = value.windows(2).filter(|pair| class(pair[0]) != class(pair[1])).count();
    has(Class::Digit, 1)
        && has(Class::Capital, 2)
        && has(Class::Small, 2)
        && 3 * changes >= value.len()
}

pub(super) fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}
