//! What the encoder learns of columns that follow from others, and the order in which they are coded for it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::encoding::encode::Learned;
use crate::encoding::formula_sample::{Depth, PlacesByPath};
use crate::encoding::formula_search::{Finding, FormulaSearch};
use crate::encoding::numbers::Input;
use crate::state::id_map::IdMap;
use crate::state::schema::PathId;

/// A column's updates, or its inserts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Updates,
    Inserts,
}

/// Rows of samples that the search may look at in one frame, and more for each cell, up to a limit: a share of what the
/// frame costs by itself. What is left is searched in the next frames.
const LEAST_BUDGET: usize = 20_000;
const BUDGET_AN_UPDATE: usize = 6;
/// In the first frame, if it has updates: a delta by itself has no use for what pays only in many frames.
const LEAST_BUDGET_ALONE: usize = 16_700;
const BUDGET_AN_UPDATE_ALONE: usize = 2;
const BUDGET_AN_INSERT: usize = 1;
const MOST_BUDGET: usize = 200_000;

/// Frames until a column is searched again: twice as many each time, up to the longest.
const FIRST_WAIT: u32 = 16;
const LONGEST_WAIT: u32 = 256;

/// A column is searched again when what was learned did not pay in so many frames in a row.
const MISSES: u32 = 2;

/// A check for cycles goes through so many columns at most.
const REACH: usize = 512;

/// What is known of one column.
#[derive(Debug, Clone)]
struct Lesson {
    learned: Option<Learned>,
    /// In how many frames, up to the last one, what was learned did not pay.
    missed: u32,
    /// Frames until it is searched again for that.
    retry: u32,
    /// The frame in which to search again.
    due: u32,
    wait: u32,
    split: SplitLesson,
}

/// What is known of a column's cells as two kinds.
#[derive(Debug, Clone)]
struct SplitLesson {
    /// The column whose changes tell them apart.
    by: Option<PathId>,
    /// The frame in which to look again, and how many frames later the next time.
    due: u32,
    wait: u32,
}

/// So many columns are searched for a split in one frame; the others wait.
const MOST_SPLITS: u32 = 64;
/// A split is not searched in the first frame: a delta by itself has no use for what takes so long.
const FIRST_SPLIT: u32 = 2;

/// What was learned from frames before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Knowledge {
    frame: u32,
    /// Columns that may be searched for a split in this frame.
    splits_left: u32,
    lessons: IdMap<(PathId, Part), Lesson>,
}

/// A column of a frame as the search sees it: all columns are known.
pub(crate) struct Subject<'a> {
    pub(crate) path: PathId,
    pub(crate) part: Part,
    pub(crate) input: Input<'a>,
    /// What it may follow from.
    pub(crate) columns: Vec<PathId>,
}

impl Knowledge {
    pub(crate) fn clear(&mut self) {
        *self = Knowledge::default();
    }

    /// How a column follows from others, as far as is known.
    pub(crate) fn of(&self, path: PathId, part: Part) -> Option<Learned> {
        self.lessons.get(&(path, part)).and_then(|lesson| lesson.learned)
    }

    /// The columns that a column follows from.
    fn operands(&self, path: PathId, part: Part) -> impl Iterator<Item = PathId> {
        self.of(path, part).into_iter().flat_map(Learned::columns)
    }

    /// The column whose changes tell the updates of another apart.
    pub(crate) fn split(&self, path: PathId) -> Option<PathId> {
        self.lessons.get(&(path, Part::Updates)).and_then(|lesson| lesson.split.by)
    }

    /// Where it is time to, finds out which column that is.
    pub(crate) fn learn_split(
        &mut self,
        path: PathId,
        is_possible: impl FnOnce() -> bool,
        find: impl FnOnce(Option<PathId>) -> Option<PathId>,
    ) {
        let Some(lesson) = self.lessons.get_mut(&(path, Part::Updates)) else { return };
        let split = &mut lesson.split;
        if self.frame >= split.due && self.splits_left > 0 && is_possible() {
            self.splits_left -= 1;
            split.by = find(split.by);
            split.due = self.frame + split.wait;
            split.wait = (2 * split.wait).min(LONGEST_WAIT);
        }
    }

    /// True if the column is one of these, or one of these follows from it.
    fn makes_cycle(&self, path: PathId, part: Part, learned: Learned) -> bool {
        let mut stack: Vec<PathId> = learned.columns().collect();
        let mut seen: Vec<PathId> = Vec::new();
        while let Some(at) = stack.pop() {
            if at == path || seen.len() > REACH {
                return true;
            }
            if !seen.contains(&at) {
                seen.push(at);
                stack.extend(self.operands(at, part));
            }
        }
        false
    }

    /// Notes if what was learned of a column paid in this frame. If it did not, in several frames in a row, the column
    /// is searched again, each time after more frames.
    pub(crate) fn note(&mut self, path: PathId, part: Part, pays: bool) {
        let Some(lesson) = self.lessons.get_mut(&(path, part)) else { return };
        lesson.missed = if pays { 0 } else { lesson.missed + 1 };
        if lesson.missed == MISSES {
            lesson.missed = 0;
            lesson.due = lesson.due.min(self.frame + lesson.retry);
            lesson.retry = (2 * lesson.retry).min(LONGEST_WAIT);
        }
    }

    /// Begins a frame of so many updated and inserted cells: learns what is due, as far as the budget goes.
    pub(crate) fn learn<'a>(
        &mut self,
        parts: &[(PathId, Part)],
        (updates, inserts): (usize, usize),
        subject: impl Fn(PathId, Part) -> Subject<'a>,
    ) {
        self.frame += 1;
        self.splits_left = MOST_SPLITS;
        let (least, an_update, depth) = match self.frame {
            1 if updates > 0 => (LEAST_BUDGET_ALONE, BUDGET_AN_UPDATE_ALONE, Depth::Quick),
            _ => (LEAST_BUDGET, BUDGET_AN_UPDATE, Depth::Thorough),
        };
        let cells = an_update * updates + BUDGET_AN_INSERT * inserts;
        let mut budget = (least + cells).min(MOST_BUDGET);
        let frame = self.frame;
        let is_due = |(path, part): &&(PathId, Part)| {
            self.lessons.get(&(*path, *part)).is_none_or(|lesson| lesson.due <= frame)
        };
        let due: Vec<(PathId, Part)> = parts.iter().filter(is_due).copied().collect();
        let mut searches: Vec<(f64, Subject<'_>, FormulaSearch)> = Vec::new();
        for (path, part) in due {
            budget = budget.saturating_sub(100);
            if budget == 0 {
                break;
            }
            let subject = subject(path, part);
            match FormulaSearch::new(&subject.input) {
                Some(search) => {
                    let worth = search.own_bits() * subject.input.cells.len() as f64;
                    searches.push((worth, subject, search));
                }
                None => self.wait(path, part),
            }
        }
        searches.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut of_updates, mut of_inserts) = (PlacesByPath::default(), PlacesByPath::default());
        let mut findings: Vec<(f64, PathId, Part, Learned)> = Vec::new();
        for (worth, Subject { path, part, input, columns }, search) in searches {
            if budget == 0 {
                break;
            }
            let own = search.own_bits();
            let places = match part {
                Part::Updates => &mut of_updates,
                Part::Inserts => &mut of_inserts,
            };
            let known = (self.of(path, part), depth);
            let view = (&input.view, places);
            for Finding { learned, bits } in search.run(&columns, known, view, &mut budget) {
                findings.push((worth * (1.0 - bits / own), path, part, learned));
            }
            self.wait(path, part);
            if let (Some(lesson), Depth::Quick) = (self.lessons.get_mut(&(path, part)), depth) {
                // a stream that begins with a delta is searched thoroughly in its next frame
                lesson.due = frame + 1;
            }
            if let Some(lesson) = self.lessons.get_mut(&(path, part)) {
                lesson.learned = None;
            }
        }
        // the most useful first; what would make a cycle gives way to the next best
        findings.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, path, part, learned) in findings {
            if self.of(path, part).is_none()
                && !self.makes_cycle(path, part, learned)
                && let Some(lesson) = self.lessons.get_mut(&(path, part))
            {
                lesson.learned = Some(learned);
            }
        }
    }

    /// Puts off the next search of a column.
    fn wait(&mut self, path: PathId, part: Part) {
        let split = SplitLesson { by: None, due: FIRST_SPLIT, wait: FIRST_WAIT };
        let new = || Lesson { learned: None, missed: 0, retry: 1, due: 0, wait: FIRST_WAIT, split };
        let lesson = self.lessons.entry((path, part)).or_insert_with(new);
        lesson.due = self.frame + lesson.wait;
        lesson.wait = (2 * lesson.wait).min(LONGEST_WAIT);
    }

    /// The order in which columns are coded: each after those that it follows from, else as they are. Each is named with
    /// the part that counts.
    pub(crate) fn order(&self, columns: &[(PathId, Part)]) -> Vec<usize> {
        let places: IdMap<PathId, usize> =
            columns.iter().enumerate().map(|(at, (path, _))| (*path, at)).collect();
        let mut waits = vec![0; columns.len()];
        let mut followers: Vec<Vec<usize>> = vec![Vec::new(); columns.len()];
        for (at, (path, part)) in columns.iter().enumerate() {
            for operand in self.operands(*path, *part).filter_map(|operand| places.get(&operand)) {
                followers[*operand].push(at);
                waits[at] += 1;
            }
        }
        let mut ready: BinaryHeap<Reverse<usize>> =
            (0..columns.len()).filter(|at| waits[*at] == 0).map(Reverse).collect();
        let mut order = Vec::with_capacity(columns.len());
        let mut is_taken = vec![false; columns.len()];
        let mut first = 0;
        while order.len() < columns.len() {
            // parts of one frame may wait for each other: then one goes without what it follows from
            let at = ready.pop().map_or(first, |Reverse(at)| at);
            first += usize::from(at == first);
            if std::mem::replace(&mut is_taken[at], true) {
                continue;
            }
            order.push(at);
            for follower in &followers[at] {
                waits[*follower] -= 1;
                if waits[*follower] == 0 {
                    ready.push(Reverse(*follower));
                }
            }
        }
        order
    }
}
