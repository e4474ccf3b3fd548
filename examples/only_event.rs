//! A sync with the account-data event of a decision, and nothing else.

use matrix_sdk::{
    config::SyncSettings,
    ruma::api::client::{
        filter::{Filter, FilterDefinition},
        sync::sync_events::v3::Filter as SyncFilter,
    },
};

/// Returns settings for a sync that contains only this event.
#[must_use]
pub fn only_event(event_type: &str) -> SyncSettings {
    let mut account_data = Filter::empty();
    account_data.types = Some(vec![event_type.to_owned()]);
    let mut filter = FilterDefinition::ignore_all();
    filter.account_data = account_data;
    SyncSettings::new().filter(SyncFilter::FilterDefinition(filter))
}
