//! One live `Analytics` for each record in a process.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use crate::consent::machine::Save;

/// Where a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordKey {
    /// The address of the client's store. Two clients on one directory have two.
    pub(crate) store: usize,
    /// The key in the store, which names the user and the event type.
    pub(crate) key: Vec<u8>,
    /// The homeserver and the device: another store may have the same address later.
    pub(crate) session: String,
}

impl RecordKey {
    /// Whether two `Analytics` at these places would write the same value of one store.
    fn is_same_value(&self, other: &Self) -> bool {
        (self.store, &self.key) == (other.store, &other.key)
    }
}

/// Held by a request to the homeserver until it has ended.
pub(crate) type Turn = tokio::sync::Mutex<()>;

/// How many records that could not be saved are kept for those who come next.
const MOST_LEFT: usize = 64;

/// Who holds which record, and what those who are gone could not save.
#[derive(Default)]
struct Table {
    holders: Vec<Weak<Holder>>,
    /// The latest is last.
    left: VecDeque<(RecordKey, Save)>,
    /// A request can outlive the `Analytics` that sent it.
    turns: Vec<(RecordKey, Weak<Turn>)>,
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
    place: RecordKey,
    /// Whether there is a [`Claim`], and not a [`Hold`] only.
    is_live: AtomicBool,
    /// Its receivers learn that the holder is gone.
    gone: watch::Sender<()>,
}

impl Claim {
    /// Waits until the last `Analytics` of the record at `place` has saved what it has to
    /// save, and takes its place.
    pub(crate) async fn take(place: RecordKey) -> Result<Self, Taken> {
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

    /// Returns what keeps this `Analytics` from sending a request before the last one of its
    /// predecessor has ended.
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
        let place = self.holder.place.clone();
        table.left.retain(|(other, _)| *other != place);
        table.left.push_back((place, unsaved));
        if table.left.len() > MOST_LEFT {
            table.left.pop_front();
        }
    }
}

impl Table {
    /// Returns whom a new holder at `place` has to wait for.
    fn holder_before(&self, place: &RecordKey) -> Result<Option<Arc<Holder>>, Taken> {
        let mut holders = self.holders.iter().filter_map(Weak::upgrade);
        match holders.find(|holder| holder.place.is_same_value(place)) {
            Some(holder) if holder.is_live.load(Ordering::Acquire) => Err(Taken),
            before => Ok(before),
        }
    }

    fn claim(&mut self, place: RecordKey) -> Claim {
        let left = self.left.iter().position(|(other, _)| *other == place);
        let left = left.and_then(|number| self.left.remove(number)).map(|(_, left)| left);
        let turn = self.turn(&place);
        let holder = Arc::new(Holder {
            place,
            is_live: AtomicBool::new(true),
            gone: watch::Sender::new(()),
        });
        self.holders.retain(|holder| holder.strong_count() > 0);
        self.holders.push(Arc::downgrade(&holder));
        Claim { holder, turn, left }
    }

    fn turn(&mut self, place: &RecordKey) -> Arc<Turn> {
        self.turns.retain(|(_, turn)| turn.strong_count() > 0);
        let known = self.turns.iter().find(|(other, _)| other == place);
        if let Some(turn) = known.and_then(|(_, turn)| turn.upgrade()) {
            return turn;
        }
        let turn = Arc::default();
        self.turns.push((place.clone(), Arc::downgrade(&turn)));
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

    fn place(store: usize, key: &str) -> RecordKey {
        RecordKey { store, key: key.into(), session: String::new() }
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
        // Another session, whose store has the same address.
        let other = RecordKey { session: "other".to_owned(), ..place(0, "left") };
        assert!(Claim::take(other).await.unwrap().left().is_none());
        // The first that gets it fails to start.
        for takes_over in [false, true] {
            let mut claim = Claim::take(place(0, "left")).now_or_never().unwrap().unwrap();
            assert!(claim.left().is_some());
            if takes_over {
                claim.take_over();
            }
        }
        assert!(Claim::take(place(0, "left")).await.unwrap().left().is_none());
    }

    #[tokio::test]
    async fn however_many_are_left_the_next_one_gets_the_latest() {
        for number in 0..=MOST_LEFT {
            let claim = Claim::take(place(number, "many")).await.unwrap();
            drop(claim.hold(unsaved()));
        }
        let claim = Claim::take(place(MOST_LEFT, "many")).await.unwrap();
        assert!(claim.left().is_some());
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
        let next = Claim::take(place(0, "turn")).await.unwrap();
        assert!(next.turn().try_lock().is_err());
        drop(request);
        assert!(next.turn().try_lock().is_ok());
    }
}
