//! Visits all reachable states, breadth first.

use std::{
    collections::{VecDeque, hash_map::Entry},
    fmt::Write as _,
    time::{Duration, Instant},
};

use super::{
    arena::{Arena, Map},
    device::Violation,
    scenario::Scenario,
    world::{Action, World},
};

/// The result of a search.
pub(super) struct Report {
    pub(super) states: usize,
    pub(super) steps: usize,
    pub(super) quiet: usize,
    pub(super) depth: usize,
    /// The numbers of distinct devices and of their distinct transitions.
    pub(super) devices: (usize, usize),
    pub(super) time: Duration,
    /// Whether every reachable state was visited.
    pub(super) is_whole: bool,
    /// The broken promise, and the shortest trace to it.
    pub(super) violation: Option<(Violation, String)>,
}

/// Visits every state that `scenario` can reach, up to the first violation.
///
/// If there is none and all states were visited, checks that their graph has no cycle. Then
/// every run ends.
pub(super) fn search(scenario: &Scenario, max_states: usize) -> Report {
    let begun = Instant::now();
    let mut arena = Arena::default();
    let mut seen: Map<World, u32> = Map::default();
    let mut parents: Vec<Option<(u32, Action)>> = Vec::new();
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut frontier = VecDeque::new();
    let starts = World::starts(scenario, &mut arena);
    for start in &starts {
        let index = u32::try_from(parents.len()).unwrap();
        if seen.insert(start.clone(), index).is_none() {
            parents.push(None);
            frontier.push_back((index, 0, start.clone()));
        }
    }

    let mut steps = Vec::new();
    let (mut depth, mut quiet, mut is_whole) = (0, 0, true);
    let mut violation = None;
    while let Some((from, at, world)) = frontier.pop_front() {
        depth = depth.max(at);
        if parents.len() >= max_states {
            is_whole = false;
            break;
        }
        match world.steps(scenario, &mut arena, &mut steps) {
            Ok(is_quiet) => quiet += usize::from(is_quiet),
            Err((action, what)) => {
                violation = Some((what, Some(from), action));
                is_whole = false;
                break;
            }
        }
        for step in steps.drain(..) {
            let new = u32::try_from(parents.len()).unwrap();
            let to = match seen.entry(step.next) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(unseen) => {
                    frontier.push_back((new, at + 1, unseen.key().clone()));
                    parents.push(Some((from, step.action)));
                    *unseen.insert(new)
                }
            };
            edges.push((from, to));
        }
    }
    if violation.is_none() && is_whole {
        let on_cycle = find_cycle(parents.len(), &edges);
        violation = on_cycle.map(|state| ("a run that never ends", Some(state), None));
    }

    Report {
        states: parents.len(),
        steps: edges.len(),
        quiet,
        depth,
        devices: arena.sizes(),
        time: begun.elapsed(),
        is_whole,
        violation: violation.map(|(what, state, action)| {
            (what, trace(scenario, &mut arena, &starts, &parents, state, action))
        }),
    }
}

/// Returns a state on a cycle, or between two cycles.
fn find_cycle(states: usize, edges: &[(u32, u32)]) -> Option<u32> {
    let mut edges = edges.to_vec();
    let is_left = without_ends(states, &mut edges);
    edges.retain(|(from, to)| is_left[*from as usize] && is_left[*to as usize]);
    for edge in &mut edges {
        *edge = (edge.1, edge.0);
    }
    let is_left = without_ends(states, &mut edges);
    edges.into_iter().map(|(from, _)| from).filter(|from| is_left[*from as usize]).min()
}

/// Returns which states remain after repeatedly removing states without an incoming edge.
fn without_ends(states: usize, edges: &mut [(u32, u32)]) -> Vec<bool> {
    edges.sort_unstable();
    let mut incoming = vec![0_u32; states];
    for (_, to) in &*edges {
        incoming[*to as usize] += 1;
    }
    let mut free: Vec<u32> =
        (0..).zip(&incoming).filter(|(_, incoming)| **incoming == 0).map(|(i, _)| i).collect();
    while let Some(state) = free.pop() {
        let first = edges.partition_point(|(from, _)| *from < state);
        for (_, to) in edges[first..].iter().take_while(|(from, _)| *from == state) {
            incoming[*to as usize] -= 1;
            if incoming[*to as usize] == 0 {
                free.push(*to);
            }
        }
    }
    incoming.into_iter().map(|incoming| incoming > 0).collect()
}

/// Describes the shortest path to `state`, and the `last` action there.
fn trace(
    scenario: &Scenario,
    arena: &mut Arena,
    starts: &[World],
    parents: &[Option<(u32, Action)>],
    state: Option<u32>,
    last: Option<Action>,
) -> String {
    let mut actions: Vec<Action> = last.into_iter().collect();
    let mut start = state.unwrap_or_default();
    while let Some((parent, action)) = parents[start as usize] {
        actions.push(action);
        start = parent;
    }
    let mut world = starts[start as usize].clone();
    let mut text = world.describe(None, arena);
    for action in actions.into_iter().rev() {
        let _ = writeln!(text, "{action:?}");
        match world.after(action, scenario, arena) {
            Ok(next) => {
                text.push_str(&next.describe(Some(&world), arena));
                world = next;
            }
            Err(_) => break,
        }
    }
    text
}
