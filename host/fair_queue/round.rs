//! Lines that take turns, by key. A line may be a round itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hash;

/// What can have turns in a round.
pub(crate) trait Line: Default {
    fn is_empty(&self) -> bool;

    /// How many in it may be refused.
    fn size(&self) -> usize;
}

impl<T> Line for VecDeque<T> {
    fn is_empty(&self) -> bool {
        VecDeque::is_empty(self)
    }

    fn size(&self) -> usize {
        self.len()
    }
}

pub(crate) struct Round<K, L> {
    /// Those that are not empty, with their turns.
    lines: HashMap<K, (u64, L)>,
    /// Their keys by their turns: the first is next. No two have the same.
    turns: BTreeMap<u64, K>,
    /// Their sizes with their turns: the last one is the largest.
    sizes: BTreeSet<(usize, u64)>,
    /// All sizes together.
    size: usize,
    last_turn: u64,
}

impl<K, L> Default for Round<K, L> {
    fn default() -> Self {
        Self {
            lines: HashMap::new(),
            turns: BTreeMap::new(),
            sizes: BTreeSet::new(),
            size: 0,
            last_turn: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, L: Line> Round<K, L> {
    pub(crate) fn get(&self, key: &K) -> Option<&L> {
        self.lines.get(key).map(|(_, line)| line)
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = (&K, &L)> {
        self.lines.iter().map(|(key, (_, line))| (key, line))
    }

    pub(crate) fn size_of(&self, key: &K) -> usize {
        self.get(key).map_or(0, Line::size)
    }

    /// The size of the largest line.
    pub(crate) fn most(&self) -> usize {
        self.sizes.last().map_or(0, |(size, _)| *size)
    }

    /// Changes the line whose turn it is, if there is one. It goes to the end of the round.
    pub(crate) fn turn<R>(&mut self, change: impl FnOnce(&mut L) -> Option<R>) -> Option<R> {
        let key = self.turns.first_key_value()?.1.clone();
        let (_, mut line) = self.take(&key)?;
        let result = change(&mut line);
        let turn = self.new_turn();
        self.put(key, turn, line);
        result
    }

    /// Changes a line. One that was empty comes last in the round.
    pub(crate) fn change<R>(&mut self, key: &K, change: impl FnOnce(&mut L) -> R) -> R {
        let (turn, mut line) = match self.take(key) {
            Some(taken) => taken,
            None => (self.new_turn(), L::default()),
        };
        let result = change(&mut line);
        self.put(key.clone(), turn, line);
        result
    }

    /// Changes the largest line, if there is one.
    pub(crate) fn change_largest<R>(&mut self, change: impl FnOnce(&mut L) -> Option<R>) -> Option<R> {
        let (_, turn) = self.sizes.last()?;
        let key = self.turns.get(turn)?.clone();
        self.change(&key, change)
    }

    fn new_turn(&mut self) -> u64 {
        self.last_turn += 1;
        self.last_turn
    }

    /// A line is changed outside of the round only, so that all views of it agree.
    fn take(&mut self, key: &K) -> Option<(u64, L)> {
        let (turn, line) = self.lines.remove(key)?;
        self.turns.remove(&turn);
        self.sizes.remove(&(line.size(), turn));
        self.size -= line.size();
        Some((turn, line))
    }

    fn put(&mut self, key: K, turn: u64, line: L) {
        if !line.is_empty() {
            self.turns.insert(turn, key.clone());
            self.sizes.insert((line.size(), turn));
            self.size += line.size();
            self.lines.insert(key, (turn, line));
        }
    }
}

impl<K: Clone + Eq + Hash, L: Line> Line for Round<K, L> {
    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn size(&self) -> usize {
        self.size
    }
}
