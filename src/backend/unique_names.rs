//! Names that tell the backends of an app apart.

/// Returns a name for each backend that is stable across restarts. Backends of the same name are
/// numbered in their order.
pub(crate) fn unique_names(backends: &[&'static str]) -> Vec<String> {
    let number = |place: usize| backends[..place].iter().filter(|b| **b == backends[place]).count();
    (0..backends.len()).map(|place| format!("{}#{}", backends[place], number(place))).collect()
}
