//! The integration tests: one file a promise, and the tables of the design.

mod backends;
mod interleavings;
mod requests;
mod support;
mod table;
