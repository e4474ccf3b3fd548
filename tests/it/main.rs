//! Integration tests: one file per promise, the consent tables, and tests that cut across promises.

// For the futures of a client with encryption.
#![recursion_limit = "256"]
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod a_day;
mod backends;
mod bad_input;
#[cfg(feature = "rageshake")]
mod bug_reports;
mod cancellation;
mod configured_properties;
mod crash_points;
mod current;
mod defects;
#[cfg(feature = "sqlite")]
mod durable;
#[cfg(all(feature = "element-events", feature = "posthog"))]
mod element_events;
#[cfg(feature = "health")]
mod health;
#[cfg(feature = "health")]
mod health_page;
mod interleavings;
mod live;
#[cfg(feature = "posthog")]
mod p01_silence_before_proof;
mod p02_closing_is_free;
mod p03_withdrawal_is_one_transaction;
mod p04_withdrawal_is_never_forgotten;
mod p05_absence_is_not_consent;
mod p06_one_account_one_id;
mod p07_other_peoples_data;
mod p08_nothing_personal_leaves;
mod p09_every_event_is_accounted_for;
mod p10_capture_costs_nothing;
mod p11_analytics_never_hurts;
mod p12_secrets_cannot_be_printed;
mod p13_accounts_do_not_mix;
#[cfg(all(feature = "posthog", feature = "sqlite"))]
mod p14_the_user_can_look;
mod requests;
mod serialized;
mod should_ask;
mod support;
mod table;
