//! The devices of one account, its homeserver, the requests between them, and other clients.

mod actions;

pub(super) use self::actions::{Action, Fate};
use super::{
    arena::Arena,
    content::{Content, Id, Member},
    device::{Device, Input, Kind, Memory, Request, Summary, Violation},
    few::Few,
    foreign::ForeignClient,
    scenario::{Budget, Scenario},
};
use crate::consent::machine::FailureKind;

pub(super) const MAX_DEVICES: usize = 3;
/// The most contents that sync may still have to show to a device. The oldest is skipped.
const MAX_PENDING: usize = 3;
const MAX_LOOSE: usize = 2;

/// A state of the whole model.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// Indices into the [`Arena`].
    devices: [u32; MAX_DEVICES],
    server: Content,
    /// Contents that sync has yet to show to each device, oldest first.
    inboxes: [Few<Content, MAX_PENDING>; MAX_DEVICES],
    /// Contents that sync showed last, and may show again.
    shown: [Few<Content, 2>; MAX_DEVICES],
    /// Writes whose sender has ended or stopped waiting.
    loose: Few<Loose, MAX_LOOSE>,
    foreign: Option<Foreign>,
    foreign_used: u8,
    /// For each device, a bit for every other device whose request may have read before the
    /// device wrote its new ID. The settle time is longer than these requests.
    awaited: [u8; MAX_DEVICES],
    /// IDs that an event may have been sent under.
    used: u16,
    remaining: Budget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Loose {
    device: u8,
    content: Content,
    /// Whether it is applied within the time limit of a write, if at all.
    is_bounded: bool,
}

/// Another client between its read and its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Foreign {
    client: ForeignClient,
    /// The content that it read or had cached.
    cached: Content,
    nth: u8,
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
            let mut devices = [u32::MAX; MAX_DEVICES];
            for (index, memory) in memories.iter().enumerate() {
                let do_not_track = scenario.do_not_track & 1 << index != 0;
                let policy = scenario.policies[index];
                let kind = Kind { do_not_track, has_quick_disk: !scenario.has_slow_disk, policy };
                devices[index] = arena.intern(Device::new(index, now, *memory, kind));
            }
            let mut world = Self {
                devices,
                server: *server,
                inboxes: [Few::EMPTY; MAX_DEVICES],
                shown: [Few::EMPTY; MAX_DEVICES],
                loose: Few::EMPTY,
                foreign: None,
                foreign_used: 0,
                awaited: [0; MAX_DEVICES],
                used: 0,
                remaining: scenario.budget,
            };
            if *server != Content::UNSET {
                for index in 0..memories.len() {
                    world.inboxes[index].push(*server);
                }
                if let Some(id) = server.granted() {
                    // The user opted in before the run.
                    for index in 0..memories.len() {
                        world.tell(arena, index, Input::OptInWritten(id)).unwrap();
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

    /// Collects all possible steps, and returns whether none of them has to happen. Such a
    /// quiet state is checked for convergence.
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
            let is_last = scenario.all_open_at_last && self.remaining.opt_in == [0; MAX_DEVICES];
            let has_foreign = self.foreign_used > 0;
            for index in 0..self.count() {
                if is_last && self.of(arena, index).open.is_none() {
                    return Err((None, "quiet, and a device that opted in is not open"));
                }
                let device = self.devices[index];
                arena
                    .device(device)
                    .judge_quiet(self.server, has_foreign)
                    .map_err(|what| (None, what))?;
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
                self.remaining.spend(index, input);
                self.tell(arena, index, input)
            }
            Action::Apply(device) => {
                let index = usize::from(device);
                let Request::Put { content, is_opt_in } = self.of(arena, index).request else {
                    return Ok(());
                };
                // This comes before the write, which counts as proof only once it is answered.
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
                // The settle time does not cover a write that exceeds its time limit.
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
                self.remaining.lose -= 1;
                match fate {
                    Fate::NotApplied => {}
                    Fate::Soon => self.loose.push(Loose { device, content, is_bounded: true }),
                    Fate::Late => {
                        self.remaining.late -= 1;
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
                self.remaining.replay -= 1;
                // A sync that went back continues to the current content.
                let newest = self.inboxes[index].last().unwrap_or(content);
                if newest != self.server {
                    self.inboxes[index].push(self.server);
                }
                self.show(index, content, arena)
            }
            Action::Crash(device) => {
                let index = usize::from(device);
                self.remaining.crash -= 1;
                let of = self.of(arena, index);
                if let Request::Put { content, .. } = of.request {
                    self.loose.push(Loose { device, content, is_bounded: true });
                }
                if let Some(content) = of.detached {
                    self.loose.push(Loose { device, content, is_bounded: true });
                }
                self.tell(arena, index, Input::Crash)
            }
            Action::Ages => {
                self.remaining.age -= 1;
                for index in 0..self.count() {
                    self.tell(arena, index, Input::Ages)?;
                }
                Ok(())
            }
            Action::Foreign(client) => {
                self.remaining.foreign -= 1;
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
                Member::Usable(_) => Content::new(cached.flag(), cached.id()),
                Member::Absent | Member::Unusable => Content::new(cached.flag(), own),
            },
            ForeignClient::FlagFirst => {
                let content = cached.replaced(Some(true), cached.id());
                let client = ForeignClient::ThenId;
                self.foreign = Some(Foreign { client, cached: content, nth });
                content
            }
            // A falsy ID that is present wins over the new one.
            ForeignClient::ThenId => match cached.id() {
                Member::Absent => cached.replaced(cached.flag(), own),
                Member::Unusable => cached,
                Member::Usable(_) => return Ok(()),
            },
            ForeignClient::OptsOut => cached.replaced(Some(false), cached.id()),
            ForeignClient::RestoresCached => cached,
            ForeignClient::WritesFalsyId => cached.replaced(cached.flag(), Member::Unusable),
            ForeignClient::Erases => Content::UNSET,
            ForeignClient::OptsIn | ForeignClient::ThenIn => Content::new(Some(true), own),
            ForeignClient::OutAndIn => {
                self.foreign = Some(Foreign { client: ForeignClient::ThenIn, cached, nth });
                Content::new(Some(false), Member::Absent)
            }
        };
        self.write(content, None, false, scenario, arena)
    }

    /// Applies a write on the server. The last one wins, and sync will show it.
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
                    Input::OwnOptInWritten(id)
                } else {
                    Input::OptInWritten(id)
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
        if self.remaining.replay > 0 {
            if self.shown[index].last() != Some(content) {
                self.shown[index].push(content);
            }
        } else {
            self.shown = [Few::EMPTY; MAX_DEVICES];
        }
        self.tell(arena, index, Input::Synced(content))
    }

    fn has_bounded_loose(&self, index: usize) -> bool {
        self.loose.iter().any(|loose| loose.is_bounded && usize::from(loose.device) == index)
    }

    fn take_loose(&mut self, nth: u8) -> Loose {
        let nth = usize::from(nth);
        self.loose.items[nth..].rotate_left(1);
        self.loose.items[MAX_LOOSE - 1].take().unwrap()
    }

    /// Describes the differences from `before`, or everything, for the report of a violation.
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
