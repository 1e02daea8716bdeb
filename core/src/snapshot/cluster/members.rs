//! Which hosts of a cluster are in a group, as runs of places: 100,000 hosts of which all take part
//! are one run.
//!
//! What it leaves to others: who takes part (`selection`).

/// Places of hosts, ascending.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    first: Run,
    /// The other runs, if there are any.
    others: Vec<Run>,
    len: u32,
}

/// Places in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Run {
    /// The first.
    place: u32,
    /// How many there are in the runs before.
    before: u32,
}

impl Members {
    /// How many there are.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The place of the member with this number, which is below the length. Constant time where
    /// all are in a row, else logarithmic.
    #[must_use]
    #[inline]
    pub fn get(&self, number: usize) -> u32 {
        let number = number as u32;
        if self.others.is_empty() {
            return self.first.place + number;
        }
        let after = self.others.partition_point(|run| run.before <= number);
        let run = after.checked_sub(1).map_or(&self.first, |run| &self.others[run]);
        run.place + (number - run.before)
    }

    /// All places.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let ends = self.others.iter().map(|run| run.before).chain([self.len]);
        let runs = std::iter::once(&self.first).chain(&self.others).zip(ends);
        runs.flat_map(|(run, end)| run.place..run.place + (end - run.before))
    }

    /// The number of the member at this place.
    #[must_use]
    pub fn number_of(&self, place: u32) -> Option<usize> {
        let after = self.others.partition_point(|run| run.place <= place);
        let run = after.checked_sub(1).map_or(&self.first, |run| &self.others[run]);
        let end = self.others.get(after).map_or(self.len, |next| next.before);
        let number = run.before + place.checked_sub(run.place)?;
        (number < end).then_some(number as usize)
    }

    /// Adds so many places from `place` on, which is behind all others.
    pub(super) fn push(&mut self, place: u32, count: u32) {
        if count == 0 {
            return;
        }
        let run = Run { place, before: self.len };
        let last = self.others.last().unwrap_or(&self.first);
        if self.len == 0 {
            self.first = run;
        } else if last.place + (self.len - last.before) != place {
            self.others.push(run);
        }
        self.len += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_the_places_that_were_added(
            taken in prop::collection::vec(any::<bool>(), 0..60),
        ) {
            let taken = (0..).zip(&taken).filter(|(_, it)| **it);
            let places: Vec<u32> = taken.map(|(place, _)| place).collect();
            let mut members = Members::default();
            places.iter().for_each(|place| members.push(*place, 1));
            prop_assert_eq!(members.len(), places.len());
            prop_assert!(members.iter().eq(places.iter().copied()));
            for (number, place) in places.iter().enumerate() {
                prop_assert_eq!(members.get(number), *place);
            }
            for place in 0..70 {
                let number = places.iter().position(|it| *it == place);
                prop_assert_eq!(members.number_of(place), number);
            }
        }
    }

    #[test]
    fn places_in_a_row_are_one_run() {
        let mut members = Members::default();
        members.push(3, 100);
        members.push(103, 50);
        members.push(200, 0);
        assert_eq!((members.len(), members.others.len()), (150, 0));
        members.push(154, 1);
        assert_eq!((members.get(149), members.get(150), members.others.len()), (152, 154, 1));
    }
}
