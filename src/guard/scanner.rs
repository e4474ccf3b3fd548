//! Finds all personal data in one text.
//!
//! The first pass finds candidates, many bytes at a time: sigils and escapes, literal
//! texts, dots and colons close together, and long runs of base64. The second pass
//! examines each candidate.

use std::{ops::Range, sync::Arc};

use aho_corasick::{
    AhoCorasick, Input, MatchKind,
    packed::{self, Searcher},
};
use memchr::{memchr3, memchr3_iter};

use super::{
    context::Context,
    cost,
    decode::{Decoded, decode},
    detector::Detector,
    email::email_at,
    ip,
    jwt::json_web_tokens,
    key,
    kind::IdentifierKind,
    markers::{MARKERS, MarkerSearch},
    matrix,
    named::NamedSecrets,
    recovery::recovery_keys,
    session::{Literal, OwnIdentifiers},
    userinfo::user_infos,
    version::VersionLike,
};

/// How many layers of escapes are decoded.
const MAX_DEPTH: usize = 4;

/// A range of a text that must not leave the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) range: Range<usize>,
    pub(super) kind: IdentifierKind,
}

/// The search for personal data in texts, for one session.
pub(super) struct Scanner {
    own_server: Option<String>,
    own: Vec<Literal>,
    detectors: Arc<[Box<dyn Detector>]>,
    literals: Literals,
    /// The text with its ASCII letters in lower case.
    folded: Vec<u8>,
    #[cfg(test)]
    pub(super) switched_off: Option<IdentifierKind>,
}

impl Scanner {
    pub(super) fn new(own: &OwnIdentifiers, detectors: Arc<[Box<dyn Detector>]>) -> Self {
        let literals = own.literals();
        let markers = MARKERS.iter().map(|(text, _)| text.as_bytes());
        let all: Vec<_> =
            markers.chain(literals.iter().map(|literal| literal.folded.as_slice())).collect();
        Self {
            own_server: Some(own.server_name.clone()).filter(|name| !name.is_empty()),
            literals: Literals::new(&all),
            own: literals,
            detectors,
            folded: Vec::new(),
            #[cfg(test)]
            switched_off: None,
        }
    }

    /// Returns whether the JSON text `members` contains no candidate at all. If so, none
    /// of its keys and values contains a finding.
    pub(super) fn is_clean(&mut self, members: &str) -> bool {
        let bytes = members.as_bytes();
        if memchr3(b'@', b'!', b'$', bytes).is_some() || memchr3(b'#', b'%', b'\\', bytes).is_some()
        {
            return false;
        }
        let mut is_clean = true;
        with_form(members, |_, _| is_clean = false);
        self.fold(members);
        // Versions are treated as addresses: without the key before it, a value may count as
        // an address.
        ip::ip_addresses(members, VersionLike::Address, |_| is_clean = false);
        is_clean && self.literals.next(&self.folded, 0).is_none()
    }

    /// Returns all findings in `text`, in order and merged where they overlap.
    pub(super) fn scan(&mut self, text: &str, context: Context) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut may_have_escapes = self.scan_layer(text, context, &mut found);
        // The decoded layers, from `text` to the layer that is being searched.
        let mut layers: Vec<Decoded> = Vec::new();
        while may_have_escapes && layers.len() < MAX_DEPTH {
            let last = layers.last().map_or(text, |layer| &layer.text);
            let Some(decoded) = decode(last) else { break };
            cost::add(decoded.text.len());
            let mut inner = Vec::new();
            may_have_escapes = self.scan_layer(&decoded.text, context, &mut inner);
            layers.push(decoded);
            found.extend(inner.into_iter().map(|finding| Finding {
                range: origin(&layers, finding.range.start)..origin(&layers, finding.range.end),
                kind: finding.kind,
            }));
        }
        joined(found)
    }

    /// Collects the findings in `text` without decoding it. Returns whether it may
    /// contain escapes.
    fn scan_layer(&mut self, text: &str, context: Context, found: &mut Vec<Finding>) -> bool {
        let may_have_escapes = self.sigils(text, found);
        with_form(text, |range, kind| found.push(Finding { range, kind }));
        self.fold(text);
        self.markers(text, found);
        ip_addresses(text, context, found);
        if let Context::Secret(name) = context {
            let secret = NamedSecrets::new(text).under(name);
            found.extend(secret.map(|(range, kind)| Finding { range, kind }));
        }
        if let Some(kind) = matrix::whole(text, self.own_server.as_deref()) {
            found.push(Finding { range: 0..text.len(), kind });
        }
        for detector in self.detectors.iter() {
            let kind = IdentifierKind::Custom(detector.name());
            let ranges = detector.find(text).into_iter();
            found.extend(ranges.map(|range| Finding { range: whole_chars(text, range), kind }));
        }
        #[cfg(test)]
        found.retain(|finding| Some(finding.kind) != self.switched_off);
        may_have_escapes
    }

    fn fold(&mut self, text: &str) {
        self.folded.clear();
        self.folded.extend(text.bytes().map(|byte| byte.to_ascii_lowercase()));
    }

    /// Collects the identifiers that begin with a sigil. Returns whether there may be
    /// escapes.
    fn sigils(&self, text: &str, found: &mut Vec<Finding>) -> bool {
        let bytes = text.as_bytes();
        let own_server = self.own_server.as_deref();
        let mut ids = matrix::Sigils::new(text, own_server);
        let mut floor = 0;
        for at in memchr3_iter(b'@', b'!', b'$', bytes) {
            found.extend(ids.identifier_at(at).map(|(range, kind)| Finding { range, kind }));
            if bytes[at] == b'@' {
                let email = email_at(text, at, floor);
                floor = at + 1;
                found.extend(email.map(|range| Finding { range, kind: IdentifierKind::Email }));
            }
        }
        let mut aliases = matrix::Sigils::new(text, own_server);
        let mut may_have_escapes = false;
        for at in memchr3_iter(b'#', b'%', b'\\', bytes) {
            if bytes[at] == b'#' {
                let alias = aliases.identifier_at(at);
                found.extend(alias.map(|(range, kind)| Finding { range, kind }));
            } else {
                may_have_escapes = true;
            }
        }
        may_have_escapes
    }

    /// Collects the session's own identifiers and the findings announced by a marker.
    fn markers(&self, text: &str, found: &mut Vec<Finding>) {
        let folded = &self.folded;
        let mut marker_search = MarkerSearch::new(text);
        let (mut from, mut floor) = (0, 0);
        while let Some(at) = self.literals.next(folded, from) {
            from = at + 1;
            let first = folded.get(at);
            cost::add(1);
            for (marker, meaning) in &MARKERS {
                if marker.as_bytes().first() == first
                    && folded[at..].starts_with(marker.as_bytes())
                    && let Some((range, kind)) =
                        marker_search.finding_at(*meaning, at..at + marker.len())
                {
                    // Do not skip to the end: the next marker may begin inside this range
                    // and reach beyond it.
                    found.push(Finding { range, kind });
                }
            }
            let own = self.own.iter().filter_map(|literal| {
                let range = literal.found_at(text, folded, at, floor)?;
                Some(Finding { range, kind: literal.kind })
            });
            found.extend(own);
            floor = floor.max(found.last().map_or(0, |last| last.range.end));
        }
    }
}

/// Passes findings that are recognised by their form alone to `found`.
fn with_form(text: &str, mut found: impl FnMut(Range<usize>, IdentifierKind)) {
    key::keys(text, |range| found(range, IdentifierKind::Key));
    recovery_keys(text, |range| found(range, IdentifierKind::Key));
    json_web_tokens(text, |range| found(range, IdentifierKind::Token));
    user_infos(text, |range| found(range, IdentifierKind::Credentials));
}

fn ip_addresses(text: &str, context: Context, found: &mut Vec<Finding>) {
    ip::ip_addresses(text, VersionLike::Version, |range| {
        let is_version = || !text[range.clone()].contains(':');
        if context != Context::Version || !is_version() {
            found.push(Finding { range, kind: IdentifierKind::IpAddress });
        }
    });
}

/// Returns the offset in the original text of byte `at` of the last of `layers`.
fn origin(layers: &[Decoded], at: usize) -> usize {
    layers.iter().rev().fold(at, |at, layer| layer.origin(at))
}

/// Extends `range` to whole characters of `text`.
fn whole_chars(text: &str, range: Range<usize>) -> Range<usize> {
    text.floor_char_boundary(range.start)..text.ceil_char_boundary(range.end)
}

/// Sorts `found` and merges overlapping findings.
fn joined(mut found: Vec<Finding>) -> Vec<Finding> {
    found.retain(|finding| !finding.range.is_empty());
    found.sort_by_key(|finding| (finding.range.start, usize::MAX - finding.range.end));
    let mut joined: Vec<Finding> = Vec::with_capacity(found.len());
    for finding in found {
        match joined.last_mut() {
            Some(last) if finding.range.start < last.range.end => {
                last.range.end = last.range.end.max(finding.range.end);
            }
            _ => joined.push(finding),
        }
    }
    joined
}

/// Literal texts in lower case that are searched for together.
enum Literals {
    /// Searched with vector instructions, which not every machine has.
    Packed(Searcher),
    Automaton(AhoCorasick),
    /// Nothing to search for, or too much to search for together: every position is
    /// checked.
    Everywhere,
}

impl Literals {
    fn new<T: AsRef<[u8]>>(texts: &[T]) -> Self {
        let packed = packed::Config::new().builder().extend(texts).build();
        packed.map(Self::Packed).unwrap_or_else(|| {
            let mut automaton = AhoCorasick::builder();
            let automaton = automaton.match_kind(MatchKind::LeftmostFirst).build(texts);
            automaton.map_or(Self::Everywhere, Self::Automaton)
        })
    }

    /// Returns the first position from `from` on where a literal may begin.
    fn next(&self, folded: &[u8], from: usize) -> Option<usize> {
        if from >= folded.len() {
            return None;
        }
        match self {
            Self::Packed(searcher) => {
                Some(searcher.find_in(folded, (from..folded.len()).into())?.start())
            }
            Self::Automaton(automaton) => {
                Some(automaton.find(Input::new(folded).span(from..folded.len()))?.start())
            }
            Self::Everywhere => Some(from),
        }
    }
}
