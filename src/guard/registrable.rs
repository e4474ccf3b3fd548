//! The registrable domain of a host.

/// Labels under which the registries of countries sell names: `co.uk`, `com.au`, `ne.jp`.
const REGISTRIES: [&str; 36] = [
    "ac", "ad", "asso", "co", "com", "conf", "ed", "edu", "firm", "gen", "go", "gob", "gouv",
    "gov", "govt", "gr", "gv", "id", "ind", "info", "lg", "ltd", "me", "mil", "ne", "net", "nhs",
    "nic", "nom", "or", "org", "plc", "res", "sch", "school", "web",
];

/// Returns the registrable domain of `host`, as far as its labels tell: the last two
/// labels, or the last three if the second to last is one of [`REGISTRIES`] and the last
/// is that of a country.
///
/// The public suffix list would be more precise but is far larger than the guard. A name
/// under the domain of a hosting company is therefore attributed to the company.
pub(super) fn registrable(host: &str) -> Option<&str> {
    let mut dots = host.rmatch_indices('.').map(|(dot, _)| dot);
    let last = dots.next()?;
    let top = &host[last + 1..];
    if host.split('.').any(str::is_empty) || !top.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let second = dots.next();
    let label = &host[second.map_or(0, |dot| dot + 1)..last];
    let is_registry =
        top.len() == 2 && REGISTRIES.iter().any(|known| known.eq_ignore_ascii_case(label));
    let start = match (is_registry, second) {
        (false, second) => second,
        // A public suffix without a name.
        (true, None) => return None,
        (true, Some(_)) => dots.next(),
    };
    Some(&host[start.map_or(0, |dot| dot + 1)..])
}

#[cfg(test)]
mod tests {
    use super::registrable;

    #[test]
    fn the_domain_of_a_host_is_never_a_public_suffix() {
        for (host, domain) in [
            ("example.org", Some("example.org")),
            ("a.b.example.org", Some("example.org")),
            ("example.co.uk", Some("example.co.uk")),
            ("a.example.COM.au", Some("example.COM.au")),
            ("a.xn--bcher-kva.example", Some("xn--bcher-kva.example")),
            ("co.uk", None),
            ("localhost", None),
            ("192.0.2.1", None),
            ("[2001:db8::1]", None),
            ("a..example", None),
            (".org", None),
            ("", None),
        ] {
            assert_eq!(registrable(host), domain, "{host}");
        }
    }
}
