//! P14: the app can show what is stored and sent, from the crate's own data.

mod disclosure;
mod history;
mod preview;
