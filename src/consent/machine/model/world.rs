//! The devices of one account, its homeserver, what is on its way between them, and
//! the clients of others.

use super::{
    content::{Content, Id, Member},
    device::{Device, Input, Kind, Memory, Request, Summary, Violation},
    search::Arena,
};
use crate::consent::{
    machine::{FailureKind, Session},
    record::Removal,
};

pub(super) const MOST_DEVICES: usize = 3;
/// How many contents may be on their way to a device; the oldest is skipped.
const MOST_PENDING: usize = 3;
const MOST_LOOSE: usize = 2;

/// A state of all.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// Indices into the [`Arena`].
    devices: [u32; MOST_DEVICES],
    server: Content,
    /// What sync has still to show to each device, oldest first.
    inboxes: [Few<Content, MOST_PENDING>; MOST_DEVICES],
    /// What sync showed last: it may be shown again.
    shown: [Few<Content, 2>; MOST_DEVICES],
    /// Writes whose sender is gone or waits no more.
    loose: Few<Loose, MOST_LOOSE>,
    foreign: Option<Foreign>,
    foreign_used: u8,
    /// By device: a bit for each device whose request may have read before the
    /// device wrote its new ID. The settle time is longer than all of them.
    awaited: [u8; MOST_DEVICES],
    /// The IDs that an event may have been sent under.
    used: u16,
    left: Budget,
}

/// At most `N` things in order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Few<T, const N: usize> {
    items: [Option<T>; N],
}

impl<T: Copy + PartialEq, const N: usize> Few<T, N> {
    const EMPTY: Self = Self { items: [None; N] };

    fn iter(&self) -> impl Iterator<Item = T> {
        self.items.iter().copied().flatten()
    }

    fn last(&self) -> Option<T> {
        self.iter().last()
    }

    /// Drops the first `n`.
    fn skip(&mut self, n: usize) {
        self.items.rotate_left(n);
        self.items[N - n..].fill(None);
    }

    fn push(&mut self, item: T) {
        if self.items[N - 1].is_some() {
            self.skip(1);
        }
        *self.items.iter_mut().find(|slot| slot.is_none()).unwrap() = Some(item);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Loose {
    device: u8,
    content: Content,
    /// Applied within the bound on a write, if ever.
    is_bounded: bool,
}

/// A client of others in the middle of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Foreign {
    client: ForeignClient,
    /// The content that it read or had cached.
    cached: Content,
    nth: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ForeignClient {
    /// Element Android overwrites the event with an ID alone.
    Overwrites,
    /// Element iOS writes the two members, with an ID of its own if it saw none.
    WritesTwoKeys,
    /// Element Web at an opt-in: the flag, then the ID.
    FlagFirst,
    /// … of which the ID is left to write.
    ThenId,
    /// Element Web at an opt-out keeps the ID.
    SaysNo,
    /// Element Web writes another setting into its cached copy.
    RestoresCached,
    /// A `null` or an empty ID.
    WritesFalsyId,
    Erases,
}

pub(super) const FOREIGN_CLIENTS: &[ForeignClient] = &[
    ForeignClient::Overwrites,
    ForeignClient::WritesTwoKeys,
    ForeignClient::FlagFirst,
    ForeignClient::SaysNo,
    ForeignClient::RestoresCached,
    ForeignClient::WritesFalsyId,
    ForeignClient::Erases,
];

impl ForeignClient {
    fn waits(self) -> bool {
        !matches!(self, Self::Overwrites | Self::Erases)
    }
}

/// What may still happen of what need not happen.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) opt_in: [u8; MOST_DEVICES],
    pub(super) opt_out: [u8; MOST_DEVICES],
    pub(super) erase: [u8; MOST_DEVICES],
    /// Denying and allowing on a device, each.
    pub(super) veto: [u8; MOST_DEVICES],
    pub(super) drop_opt_in: u8,
    pub(super) recheck: u8,
    pub(super) crash: u8,
    /// Requests that fail, before or after they were applied.
    pub(super) lose: u8,
    /// Of these, writes that are applied at any time later.
    pub(super) late: u8,
    pub(super) save_failure: u8,
    /// What sync shows a second time.
    pub(super) replay: u8,
    pub(super) foreign: u8,
    /// Soft logouts and their ends, ends of sessions, accounts forbidden, users locked.
    pub(super) session: u8,
    /// Requests that the homeserver refuses and asks not to repeat for a while.
    pub(super) ask_to_wait: u8,
    /// Account data of other types in sync.
    pub(super) deliver: u8,
    /// The timer that asks again is due.
    pub(super) recheck_due: u8,
    /// The last handle is dropped, and another one is built.
    pub(super) rebuild: u8,
    /// Removals that the homeserver says it applied, and has not.
    pub(super) lie: u8,
}

/// What a run is made of.
#[derive(Clone, Default)]
pub(super) struct Scenario {
    /// What the server holds and each device remembers when a run begins.
    pub(super) starts: Vec<(Content, Vec<Memory>)>,
    pub(super) budget: Budget,
    pub(super) foreign: &'static [ForeignClient],
    /// Devices that are not to track, by bit.
    pub(super) do_not_track: u8,
    /// The disk takes its time.
    pub(super) has_slow_disk: bool,
    /// The settle time does not wait for the requests of other devices.
    pub(super) settles_too_early: bool,
    /// Whether no ID that was sent under may be replaced by an opt-in of ours.
    pub(super) used_ids_stay: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Device(u8, Input),
    /// The server applies the write of a device.
    Apply(u8),
    ApplyDetached(u8),
    ApplyLoose(u8),
    DropLoose(u8),
    /// A write fails, and …
    FailWrite(u8, Fate),
    /// Sync shows the device the nth content that waits for it, and skips those
    /// before.
    Sync(u8, u8),
    /// Sync shows again what it showed the nth last time.
    Replay(u8, u8),
    Crash(u8),
    Foreign(ForeignClient),
    ForeignWrites,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    NotApplied,
    /// Applied within the bound on a write, or not at all.
    Soon,
    /// Applied at any time, or not at all.
    Late,
}

/// A step from one state to the next.
pub(super) struct Step {
    pub(super) action: Action,
    pub(super) next: World,
}

impl World {
    pub(super) fn starts(scenario: &Scenario, arena: &mut Arena) -> Vec<Self> {
        let now = tokio::time::Instant::now();
        let start = |(server, memories): &(Content, Vec<Memory>)| {
            let mut devices = [u32::MAX; MOST_DEVICES];
            for (index, memory) in memories.iter().enumerate() {
                let do_not_track = scenario.do_not_track & 1 << index != 0;
                let kind = Kind { do_not_track, has_quick_disk: !scenario.has_slow_disk };
                devices[index] = arena.intern(Device::new(index, now, *memory, kind));
            }
            let mut world = Self {
                devices,
                server: *server,
                inboxes: [Few::EMPTY; MOST_DEVICES],
                shown: [Few::EMPTY; MOST_DEVICES],
                loose: Few::EMPTY,
                foreign: None,
                foreign_used: 0,
                awaited: [0; MOST_DEVICES],
                used: 0,
                left: scenario.budget,
            };
            if *server != Content::UNSET {
                for index in 0..memories.len() {
                    world.inboxes[index].push(*server);
                }
                if let Some(id) = server.granted() {
                    // Somebody decided so before the run.
                    for index in 0..memories.len() {
                        world.tell(arena, index, Input::YesWritten(id)).unwrap();
                    }
                }
            }
            world
        };
        scenario.starts.iter().map(start).collect()
    }

    fn count(&self) -> usize {
        self.devices.iter().filter(|device| **device != u32::MAX).count()
    }

    fn of(&self, arena: &Arena, index: usize) -> Summary {
        arena.summary(self.devices[index])
    }

    fn tell(&mut self, arena: &mut Arena, index: usize, input: Input) -> Result<(), Violation> {
        self.devices[index] = arena.step(self.devices[index], input)?;
        Ok(())
    }

    /// All steps that can be taken from here, and whether none of them must come: such
    /// a quiet state is checked to be a good one.
    pub(super) fn steps(
        &self,
        scenario: &Scenario,
        arena: &mut Arena,
        steps: &mut Vec<Step>,
    ) -> Result<bool, (Option<Action>, Violation)> {
        let mut actions = Vec::new();
        self.must_come(scenario, arena, &mut actions);
        let is_quiet = actions.is_empty();
        if is_quiet {
            for index in 0..self.count() {
                let device = self.devices[index];
                arena.device(device).judge_quiet(self.server).map_err(|what| (None, what))?;
            }
        }
        self.may_come(scenario, arena, &mut actions);
        for action in actions {
            let next = self.after(action, scenario, arena).map_err(|what| (Some(action), what))?;
            if next != *self {
                steps.push(Step { action, next });
            }
        }
        Ok(is_quiet)
    }

    /// What happens by itself, sooner or later.
    fn must_come(&self, scenario: &Scenario, arena: &Arena, actions: &mut Vec<Action>) {
        for index in 0..self.count() {
            let device = u8::try_from(index).unwrap();
            let of = self.of(arena, index);
            let mut input = |input| actions.push(Action::Device(device, input));
            if of.can_go {
                input(Input::Go);
            }
            if of.is_saving {
                input(Input::Saved);
            }
            if of.can_retry_save {
                input(Input::SaveRetryDue);
            }
            if of.can_retry {
                input(Input::RetryDue);
            }
            if of.is_asked_to_wait {
                input(Input::RequestedWaitOver);
            }
            match of.request {
                Request::None | Request::WaitsForTurn => {}
                Request::Get => input(Input::Read(self.server)),
                Request::GetAnswered | Request::PutApplied => input(Input::Answered),
                Request::Put { .. } => actions.push(Action::Apply(device)),
            }
            if of.detached.is_some() {
                actions.push(Action::ApplyDetached(device));
            }
            if of.settles
                && (scenario.settles_too_early
                    || self.awaited[index] == 0
                        && of.detached.is_none()
                        && !self.has_bounded_loose(index))
            {
                actions.push(Action::Device(device, Input::Settled));
            }
            for nth in 0..self.inboxes[index].iter().count() {
                actions.push(Action::Sync(device, u8::try_from(nth).unwrap()));
            }
        }
        for nth in 0..self.loose.iter().count() {
            let nth = u8::try_from(nth).unwrap();
            actions.extend([Action::ApplyLoose(nth), Action::DropLoose(nth)]);
        }
        if self.foreign.is_some() {
            actions.push(Action::ForeignWrites);
        }
    }

    /// What may happen or not.
    fn may_come(&self, scenario: &Scenario, arena: &Arena, actions: &mut Vec<Action>) {
        let left = self.left;
        for index in 0..self.count() {
            let device = u8::try_from(index).unwrap();
            let of = self.of(arena, index);
            let mut input = |budget: u8, input| {
                if budget > 0 {
                    actions.push(Action::Device(device, input));
                }
            };
            if !of.has_ended {
                input(left.opt_in[index], Input::OptIn);
                input(left.session, Input::EndSession);
                input(left.session, Input::SessionIs(Session::Lost));
                input(left.session, Input::SessionIs(Session::SoftLogout));
                input(left.session, Input::SessionIs(Session::Live));
                input(left.session, Input::MissedSessionChanges);
                input(left.deliver, Input::Delivered);
                input(left.rebuild, Input::Rebuild);
                if of.has_timer {
                    input(left.recheck_due, Input::RecheckDue);
                }
            }
            input(left.opt_out[index], Input::OptOut(Removal::Id));
            input(left.erase[index], Input::OptOut(Removal::Event));
            input(left.veto[index], Input::Deny);
            input(left.veto[index], Input::Allow);
            input(left.recheck, Input::Recheck);
            if of.opts_in {
                input(left.drop_opt_in, Input::DropOptIn);
            }
            if of.is_saving {
                input(left.save_failure, Input::SaveFailed { is_written: false });
                input(left.save_failure, Input::SaveFailed { is_written: true });
            }
            match of.request {
                Request::Get
                | Request::GetAnswered
                | Request::PutApplied
                | Request::WaitsForTurn => {
                    input(left.lose, Input::Failed(FailureKind::Unanswered));
                }
                Request::Put { .. } | Request::None => {}
            }
            if matches!(of.request, Request::Get | Request::Put { .. }) {
                input(left.ask_to_wait, Input::AskedToWait);
                input(left.session, Input::Failed(FailureKind::Guest));
                input(left.session, Input::Failed(FailureKind::Locked));
            }
            if matches!(of.request, Request::Put { is_opt_in: false, .. }) {
                input(left.lie, Input::Lied);
            }
            if matches!(of.request, Request::Put { .. }) && left.lose > 0 {
                actions.push(Action::FailWrite(device, Fate::NotApplied));
                actions.push(Action::FailWrite(device, Fate::Soon));
                if left.late > 0 {
                    actions.push(Action::FailWrite(device, Fate::Late));
                }
            }
            if left.replay > 0 {
                for nth in 0..self.shown[index].iter().count() {
                    actions.push(Action::Replay(device, u8::try_from(nth).unwrap()));
                }
            }
            if left.crash > 0 {
                actions.push(Action::Crash(device));
            }
        }
        if left.foreign > 0 && self.foreign.is_none() {
            actions.extend(scenario.foreign.iter().map(|client| Action::Foreign(*client)));
        }
    }

    pub(super) fn after(
        &self,
        action: Action,
        scenario: &Scenario,
        arena: &mut Arena,
    ) -> Result<Self, Violation> {
        let mut next = self.clone();
        next.take(action, scenario, arena)?;
        for index in 0..next.count() {
            let of = next.of(arena, index);
            if !of.in_flight && !next.has_bounded_loose(index) {
                for awaited in &mut next.awaited {
                    *awaited &= !(1 << index);
                }
            }
            if let Some(id) = of.open.filter(|_| scenario.used_ids_stay) {
                next.used |= id.mask();
            }
        }
        Ok(next)
    }

    fn take(
        &mut self,
        action: Action,
        scenario: &Scenario,
        arena: &mut Arena,
    ) -> Result<(), Violation> {
        match action {
            Action::Device(device, input) => {
                let index = usize::from(device);
                self.left.spend(index, input);
                self.tell(arena, index, input)
            }
            Action::Apply(device) => {
                let index = usize::from(device);
                let Request::Put { content, is_opt_in } = self.of(arena, index).request else {
                    return Ok(());
                };
                // Before the write, for what it proves is known only by its answer.
                self.tell(arena, index, Input::Applied)?;
                self.write(content, Some(index), is_opt_in, scenario, arena)
            }
            Action::ApplyDetached(device) => {
                let index = usize::from(device);
                let Some(content) = self.of(arena, index).detached else { return Ok(()) };
                self.tell(arena, index, Input::DetachedEnded)?;
                let is_opt_in = content.granted().is_some();
                self.write(content, Some(index), is_opt_in, scenario, arena)
            }
            Action::ApplyLoose(nth) => {
                let loose = self.take_loose(nth);
                let index = usize::from(loose.device);
                // A write that comes after its bound is nobody's fault.
                let is_opt_in = loose.content.granted().is_some() && loose.is_bounded;
                self.write(loose.content, Some(index), is_opt_in, scenario, arena)
            }
            Action::DropLoose(nth) => {
                self.take_loose(nth);
                Ok(())
            }
            Action::FailWrite(device, fate) => {
                let index = usize::from(device);
                let Request::Put { content, .. } = self.of(arena, index).request else {
                    return Ok(());
                };
                self.left.lose -= 1;
                match fate {
                    Fate::NotApplied => {}
                    Fate::Soon => self.loose.push(Loose { device, content, is_bounded: true }),
                    Fate::Late => {
                        self.left.late -= 1;
                        self.loose.push(Loose { device, content, is_bounded: false });
                    }
                }
                self.tell(arena, index, Input::Failed(FailureKind::Unanswered))
            }
            Action::Sync(device, nth) => {
                let (index, nth) = (usize::from(device), usize::from(nth));
                let Some(content) = self.inboxes[index].items[nth] else { return Ok(()) };
                self.inboxes[index].skip(nth + 1);
                self.show(index, content, arena)
            }
            Action::Replay(device, nth) => {
                let index = usize::from(device);
                let Some(content) = self.shown[index].items[usize::from(nth)] else {
                    return Ok(());
                };
                self.left.replay -= 1;
                // A sync that goes back goes on from there.
                let newest = self.inboxes[index].last().unwrap_or(content);
                if newest != self.server {
                    self.inboxes[index].push(self.server);
                }
                self.show(index, content, arena)
            }
            Action::Crash(device) => {
                let index = usize::from(device);
                self.left.crash -= 1;
                let of = self.of(arena, index);
                if let Request::Put { content, .. } = of.request {
                    self.loose.push(Loose { device, content, is_bounded: true });
                }
                if let Some(content) = of.detached {
                    self.loose.push(Loose { device, content, is_bounded: true });
                }
                self.tell(arena, index, Input::Crash)
            }
            Action::Foreign(client) => {
                self.left.foreign -= 1;
                let foreign = Foreign { client, cached: self.server, nth: self.foreign_used };
                self.foreign_used += 1;
                if client.waits() {
                    self.foreign = Some(foreign);
                    Ok(())
                } else {
                    self.foreign_writes(foreign, scenario, arena)
                }
            }
            Action::ForeignWrites => match self.foreign.take() {
                Some(foreign) => self.foreign_writes(foreign, scenario, arena),
                None => Ok(()),
            },
        }
    }

    fn foreign_writes(
        &mut self,
        Foreign { client, cached, nth }: Foreign,
        scenario: &Scenario,
        arena: &mut Arena,
    ) -> Result<(), Violation> {
        let own = Member::Usable(Id::foreign(nth));
        let content = match client {
            ForeignClient::Overwrites => Content::new(None, own),
            ForeignClient::WritesTwoKeys => match cached.id() {
                Member::Usable(_) => cached,
                Member::Absent | Member::Unusable => Content::new(cached.flag(), own),
            },
            ForeignClient::FlagFirst => {
                let content = Content::new(Some(true), cached.id());
                let client = ForeignClient::ThenId;
                self.foreign = Some(Foreign { client, cached: content, nth });
                content
            }
            // A falsy ID that is there wins over the new one.
            ForeignClient::ThenId => match cached.id() {
                Member::Absent => Content::new(cached.flag(), own),
                Member::Unusable => cached,
                Member::Usable(_) => return Ok(()),
            },
            ForeignClient::SaysNo => Content::new(Some(false), cached.id()),
            ForeignClient::RestoresCached => cached,
            ForeignClient::WritesFalsyId => Content::new(cached.flag(), Member::Unusable),
            ForeignClient::Erases => Content::UNSET,
        };
        self.write(content, None, false, scenario, arena)
    }

    /// The server takes a write: the last one wins, and sync will show it.
    fn write(
        &mut self,
        content: Content,
        by: Option<usize>,
        is_opt_in: bool,
        scenario: &Scenario,
        arena: &mut Arena,
    ) -> Result<(), Violation> {
        if let (Some(old), Some(new), Some(by), true, true) =
            (self.server.granted(), content.granted(), by, is_opt_in, scenario.used_ids_stay)
            && old != new
            && self.used & old.mask() != 0
            && !self.of(arena, by).refuses(old)
        {
            return Err("P6: an ID that events were sent under lost to another");
        }
        self.server = content;
        for index in 0..self.count() {
            if self.inboxes[index].last() != Some(content) {
                self.inboxes[index].push(content);
            }
            if let Some(id) = content.granted() {
                let input = if by == Some(index) {
                    Input::OwnYesWritten(id)
                } else {
                    Input::YesWritten(id)
                };
                self.tell(arena, index, input)?;
            }
        }
        if let (Some(by), true) = (by, is_opt_in) {
            for index in (0..self.count()).filter(|index| *index != by) {
                if self.of(arena, index).in_flight || self.has_bounded_loose(index) {
                    self.awaited[by] |= 1 << index;
                }
            }
        }
        Ok(())
    }

    fn show(&mut self, index: usize, content: Content, arena: &mut Arena) -> Result<(), Violation> {
        if self.left.replay > 0 {
            if self.shown[index].last() != Some(content) {
                self.shown[index].push(content);
            }
        } else {
            self.shown = [Few::EMPTY; MOST_DEVICES];
        }
        self.tell(arena, index, Input::Synced(content))
    }

    fn has_bounded_loose(&self, index: usize) -> bool {
        self.loose.iter().any(|loose| loose.is_bounded && usize::from(loose.device) == index)
    }

    fn take_loose(&mut self, nth: u8) -> Loose {
        let nth = usize::from(nth);
        self.loose.items[nth..].rotate_left(1);
        self.loose.items[MOST_LOOSE - 1].take().unwrap()
    }

    /// For the report of a violation: what differs from `before`, or all.
    pub(super) fn describe(&self, before: Option<&Self>, arena: &Arena) -> String {
        let mut text = String::new();
        if before.is_none_or(|before| before.server != self.server) {
            text.push_str(&format!("    server {:?}\n", self.server));
        }
        for index in 0..self.count() {
            let line = |world: &Self| {
                let device = arena.device(world.devices[index]).describe();
                let inbox: Vec<_> = world.inboxes[index].iter().collect();
                format!("    {index}: {device}, inbox {inbox:?}\n")
            };
            if before.is_none_or(|before| line(before) != line(self)) {
                text.push_str(&line(self));
            }
        }
        text
    }
}

impl Budget {
    fn spend(&mut self, index: usize, input: Input) {
        let budget = match input {
            Input::OptIn => &mut self.opt_in[index],
            Input::OptOut(Removal::Id) => &mut self.opt_out[index],
            Input::OptOut(Removal::Event) => &mut self.erase[index],
            Input::Deny | Input::Allow => &mut self.veto[index],
            Input::DropOptIn => &mut self.drop_opt_in,
            Input::Recheck => &mut self.recheck,
            Input::SaveFailed { .. } => &mut self.save_failure,
            Input::Failed(FailureKind::Unanswered) => &mut self.lose,
            Input::Failed(_)
            | Input::SessionIs(_)
            | Input::EndSession
            | Input::MissedSessionChanges => &mut self.session,
            Input::AskedToWait => &mut self.ask_to_wait,
            Input::Delivered => &mut self.deliver,
            Input::RecheckDue => &mut self.recheck_due,
            Input::Rebuild => &mut self.rebuild,
            Input::Lied => &mut self.lie,
            _ => return,
        };
        *budget -= 1;
    }
}
