//! Measures the guard on a corpus of personal and harmless texts: `tests/data/guard/`, which
//! `scripts/guard-corpus` generates.

use std::{collections::BTreeMap, fmt::Write as _};

use matrix_analytics::{IdentifierKind, testing::GuardProbe};

const PERSONAL: &str = include_str!("../../data/guard/personal.tsv");
const PLAIN: &str = include_str!("../../data/guard/plain.tsv");

/// The counts for one kind of identifier.
#[derive(Default)]
struct Figures {
    texts: usize,
    kept_back: usize,
    right: usize,
    wrong: usize,
}

#[test]
fn nearly_all_personal_texts_and_hardly_any_others_are_found() {
    let guard = GuardProbe::default().of_session(
        "@morgan.quill:hs.quillmail.example",
        "QZXJKVBWPL",
        "opaque-access-token-1f",
    );
    let mut figures: BTreeMap<&str, Figures> = BTreeMap::new();
    let (mut missed, mut mistaken) = (Vec::new(), Vec::new());
    for line in PERSONAL.lines() {
        let [kind, secret, text] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let clean = guard.redact(text);
        let found: Vec<_> = guard.kinds(text).into_iter().map(|kind| kind.as_str()).collect();
        let is_kept_back = !found.is_empty() && !leaks(secret, text, &clean);
        let figures = figures.entry(kind).or_default();
        figures.texts += 1;
        figures.kept_back += usize::from(is_kept_back);
        figures.right += usize::from(found.contains(&kind));
        if !is_kept_back {
            missed.push(format!("{kind}: {text} -> {clean}"));
        }
        assert!(guard.kinds(&clean).is_empty(), "{text} -> {clean}");
    }
    let mut untouched = 0;
    for text in PLAIN.lines() {
        let found = guard.kinds(text);
        untouched += usize::from(found.is_empty());
        for kind in found {
            figures.entry(kind.as_str()).or_default().wrong += 1;
            mistaken.push(format!("{}: {text}", kind.as_str()));
        }
    }

    let mut table =
        "| kind | texts | kept back | recall | precision |\n|---|---|---|---|---|\n".to_owned();
    for (kind, figures) in &figures {
        let Figures { texts, kept_back, right, wrong } = *figures;
        let recall = percent(kept_back, texts);
        let precision = percent(right, right + wrong);
        writeln!(table, "| `{kind}` | {texts} | {kept_back} | {recall} | {precision} |").unwrap();
    }
    let plain = PLAIN.lines().count();
    writeln!(table, "\nOf {plain} texts with nothing personal, {untouched} are left alone.")
        .unwrap();
    let docs = include_str!("../../../docs/privacy.md");
    assert!(
        docs.contains(&table),
        "docs/privacy.md has to have this table:\n\n{table}\nmissed:\n{}\n\nmistaken:\n{}",
        missed.join("\n"),
        mistaken.join("\n"),
    );
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole as f64)
}

/// Returns whether `clean` still contains a word of `secret` that is not in the rest of `text`.
fn leaks(secret: &str, text: &str, clean: &str) -> bool {
    let (text, mut clean) = (text.to_lowercase(), clean.to_lowercase());
    for kind in IdentifierKind::BUILT_IN {
        clean = clean.replace(&format!("[{}]", kind.as_str()), " ");
    }
    let secret = secret.to_lowercase();
    let rest = text.replace(&secret, " ");
    clean.contains(&secret)
        || secret
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| word.len() >= 4)
            .any(|word| clean.matches(word).count() > rest.matches(word).count())
}
