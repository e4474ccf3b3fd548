//! One live `Analytics` for each record in a process.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use crate::consent::machine::Save;

/// Where a record is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The address of the store in this process. Two clients on one directory have two.
    pub(crate) store: usize,
    pub(crate) owner: Owner,
}

/// Whose record it is, wherever it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    /// The homeserver and the device.
    pub(crate) session: String,
    /// The key of the record, which names the user and the event type.
    pub(crate) key: Vec<u8>,
}

/// Held by a request to the homeserver until it has ended.
pub(crate) type Turn = tokio::sync::Mutex<()>;

/// How many records that could not be saved are kept for those who come next.
const MOST_LEFT: usize = 64;

/// Who holds which record, and what those who are gone could not save.
#[derive(Default)]
struct Table {
    holders: HashMap<Owner, Vec<Weak<Holder>>>,
    left: HashMap<Owner, Save>,
    /// A request can outlive the `Analytics` that sent it.
    turns: HashMap<Owner, Weak<Turn>>,
}

/// The right to be the one `Analytics` of a record, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Claim {
    holder: Arc<Holder>,
    turn: Arc<Turn>,
    left: Option<Save>,
}

/// Lets no other `Analytics` read the record, for as long as this lives: for a write that
/// goes on when the [`Claim`] is gone. Leaves the record to the next one, unless it was
/// saved.
#[derive(Debug)]
pub(crate) struct Hold {
    holder: Arc<Holder>,
    unsaved: Option<Save>,
}

/// An `Analytics` for the same record is alive.
#[derive(Debug)]
pub(crate) struct Taken;

#[derive(Debug)]
struct Holder {
    place: Place,
    /// Whether there is a [`Claim`], and not a [`Hold`] only.
    is_live: AtomicBool,
    /// Its receivers learn that the holder is gone.
    gone: watch::Sender<()>,
}

impl Claim {
    /// Waits until each `Analytics` of this record that is gone has saved what it has to save,
    /// also by way of another client, and takes the place.
    pub(crate) async fn take(place: Place) -> Result<Self, Taken> {
        loop {
            let mut gone = {
                let mut table = table();
                match table.holder_before(&place)? {
                    Some(holder) => holder.gone.subscribe(),
                    None => return Ok(table.claim(place)),
                }
            };
            // It fails when the holder is gone, which is what is waited for.
            let _ = gone.changed().await;
        }
    }

    /// Returns what the `Analytics` before could not save.
    pub(crate) fn left(&self) -> Option<&Save> {
        self.left.as_ref()
    }

    /// Notes that the new `Analytics` saves what was left. Without this the next one gets it.
    pub(crate) fn take_over(&mut self) {
        self.left = None;
    }

    /// Returns what keeps this and every other `Analytics` of the same session from sending
    /// a request before the last one has ended.
    pub(crate) fn turn(&self) -> Arc<Turn> {
        self.turn.clone()
    }

    /// Returns a hold on the record that outlives this claim, until `unsaved` is saved.
    pub(crate) fn hold(&self, unsaved: Save) -> Hold {
        Hold { holder: self.holder.clone(), unsaved: Some(unsaved) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(left) = self.left.take() {
            drop(self.hold(left));
        }
        self.holder.is_live.store(false, Ordering::Release);
    }
}

impl Hold {
    /// Returns what is to be saved.
    pub(crate) fn unsaved(&self) -> Option<&Save> {
        self.unsaved.as_ref()
    }

    /// Notes that it was saved.
    pub(crate) fn saved(mut self) {
        self.unsaved = None;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(unsaved) = self.unsaved.take() else { return };
        let mut table = table();
        let owner = &self.holder.place.owner;
        if table.left.len() < MOST_LEFT || table.left.contains_key(owner) {
            table.left.insert(owner.clone(), unsaved);
        }
    }
}

impl Table {
    /// Returns whom a new holder at `place` has to wait for.
    fn holder_before(&self, place: &Place) -> Result<Option<Arc<Holder>>, Taken> {
        let holders = self.holders.get(&place.owner).into_iter().flatten();
        let mut before = None;
        for holder in holders.filter_map(Weak::upgrade) {
            match holder.is_live.load(Ordering::Acquire) {
                true if holder.place.store == place.store => return Err(Taken),
                true => {}
                false => before = Some(holder),
            }
        }
        Ok(before)
    }

    fn claim(&mut self, place: Place) -> Claim {
        self.holders.retain(|_, holders| {
            holders.retain(|holder| holder.strong_count() > 0);
            !holders.is_empty()
        });
        let (turn, left) = (self.turn(place.owner.clone()), self.left.remove(&place.owner));
        let holder = Arc::new(Holder {
            place,
            is_live: AtomicBool::new(true),
            gone: watch::Sender::new(()),
        });
        let holders = self.holders.entry(holder.place.owner.clone()).or_default();
        holders.push(Arc::downgrade(&holder));
        Claim { holder, turn, left }
    }

    fn turn(&mut self, owner: Owner) -> Arc<Turn> {
        self.turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = self.turns.get(&owner).and_then(Weak::upgrade).unwrap_or_default();
        self.turns.insert(owner, Arc::downgrade(&turn));
        turn
    }
}

fn table() -> MutexGuard<'static, Table> {
    static TABLE: OnceLock<Mutex<Table>> = OnceLock::new();

    TABLE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, poll};

    use super::*;
    use crate::consent::record::Record;

    fn place(store: usize, key: &str) -> Place {
        Place { store, owner: Owner { session: String::new(), key: key.into() } }
    }

    fn unsaved() -> Save {
        Save { base: Record::default(), record: Record::default() }
    }

    #[tokio::test]
    async fn a_claim_is_refused_while_another_lives_and_waits_for_its_hold() {
        let claim = Claim::take(place(0, "held")).await.unwrap();
        assert!(matches!(Claim::take(place(0, "held")).now_or_never(), Some(Err(Taken))));
        assert!(Claim::take(place(0, "another")).await.is_ok());
        let hold = claim.hold(unsaved());
        drop(claim);
        let mut next = Box::pin(Claim::take(place(0, "held")));
        assert!(poll!(&mut next).is_pending());
        drop(hold);
        assert!(next.await.is_ok());
        assert!(Claim::take(place(0, "held")).await.is_ok());
    }

    #[tokio::test]
    async fn a_claim_by_way_of_another_client_waits_for_a_hold_and_for_no_claim() {
        let claim = Claim::take(place(0, "two clients")).await.unwrap();
        assert!(Claim::take(place(1, "two clients")).await.is_ok());
        let hold = claim.hold(unsaved());
        drop(claim);
        let mut next = Box::pin(Claim::take(place(1, "two clients")));
        assert!(poll!(&mut next).is_pending());
        drop(hold);
        assert!(next.await.unwrap().left().is_some());
    }

    #[tokio::test]
    async fn of_two_that_wait_for_a_hold_one_is_refused() {
        let claim = Claim::take(place(0, "both")).await.unwrap();
        let hold = claim.hold(unsaved());
        drop(claim);
        let mut one = Box::pin(Claim::take(place(0, "both")));
        let mut other = Box::pin(Claim::take(place(0, "both")));
        assert!(poll!(&mut one).is_pending() && poll!(&mut other).is_pending());
        drop(hold);
        let one = one.await;
        assert!(one.is_ok() && other.await.is_err());
    }

    #[tokio::test]
    async fn what_could_not_be_saved_is_left_to_the_next_one_once() {
        let claim = Claim::take(place(0, "left")).await.unwrap();
        assert!(claim.left().is_none());
        drop(claim.hold(unsaved()));
        drop(claim);
        // The first that gets it fails to start. The next has opened the store again.
        for (store, takes_over) in [(0, false), (1, true)] {
            let mut claim = Claim::take(place(store, "left")).now_or_never().unwrap().unwrap();
            assert!(claim.left().is_some());
            if takes_over {
                claim.take_over();
            }
        }
        assert!(Claim::take(place(0, "left")).await.unwrap().left().is_none());
    }

    #[tokio::test]
    async fn a_record_that_was_saved_is_left_to_no_one() {
        let claim = Claim::take(place(0, "saved")).await.unwrap();
        claim.hold(unsaved()).saved();
        drop(claim);
        assert!(Claim::take(place(0, "saved")).await.unwrap().left().is_none());
    }

    #[tokio::test]
    async fn a_request_that_is_out_keeps_its_turn_when_the_claim_is_gone() {
        let claim = Claim::take(place(0, "turn")).await.unwrap();
        let request = claim.turn().lock_owned().await;
        drop(claim);
        let next = Claim::take(place(1, "turn")).await.unwrap();
        assert!(next.turn().try_lock().is_err());
        drop(request);
        assert!(next.turn().try_lock().is_ok());
    }
}
