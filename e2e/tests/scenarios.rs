//! All scenarios, in the order of the table.

mod change;
mod limits;
mod outage;
mod overwrite;
mod session;

use crate::table::Scenario;

macro_rules! scenarios {
    (@) => { false };
    (@alone) => { true };
    ($($name:literal => $run:path $(, $alone:ident)?;)*) => {
        pub(crate) const ALL: &[Scenario] = &[$(Scenario {
            name: $name,
            run: |cell| Box::pin($run(cell)),
            is_alone: scenarios!(@$($alone)?),
        }),*];
    };
}

scenarios! {
    "opt-in: another device follows" => change::opt_in;
    "opt-out: another device closes" => change::opt_out;
    "erase: another device closes, and does not prompt" => change::erase;
    "the app restarts, after an opt-in and after an opt-out" => change::restart;
    "a repeated first sync, from the stock cache" => change::cached_sync;
    "Element Android overwrites an opt-in" => overwrite::android_over_an_opt_in;
    "Element Android overwrites an opt-out" => overwrite::android_over_an_opt_out;
    "Element iOS writes its two keys" => overwrite::ios;
    "a guest" => session::guest;
    "the token expires, and the SDK refreshes it" => session::refreshed_token;
    "the token expires, and the app renews it (soft logout)" => session::soft_logout;
    "the homeserver ends the session (hard logout)" => session::hard_logout;
    "the app logs out" => session::own_logout;
    "the user is locked, and unlocked" => session::locked;
    "the user is deactivated" => session::deactivated;
    "an event at the server's size limit" => limits::largest_event;
    "opt-out, and the server dies before the write" => outage::opt_out_before, alone;
    "opt-out, and the server dies after the write" => outage::opt_out_after, alone;
    "opt-in, and the server dies before the write" => outage::opt_in_before, alone;
    "opt-in, and the server dies after the write" => outage::opt_in_after, alone;
    "opt-in, and the server dies while the ID settles" => outage::settling, alone;
}
