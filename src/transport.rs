//! HTTP that reads nothing from the environment, and requests that can be cut.

pub(crate) mod exchange;
pub(crate) mod settings;
