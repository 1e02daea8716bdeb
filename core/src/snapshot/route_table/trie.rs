//! A radix trie over bytes whose nodes carry the lowest number of what ends there.
//!
//! It answers "which of these strings does the text begin with" in one walk down, whose length is
//! bounded by the text, not by the number of strings. Nodes stand in breadth-first order, so that
//! the children of a node are neighbours, and so are their first bytes.
//!
//! What it leaves to others: what the numbers mean (`paths`, `domains`).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;

/// No number: larger than all.
pub(super) const NONE: u32 = u32::MAX;

/// What ends at a node. [`NONE`] for what does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ends {
    /// The lowest number of a string that texts may go on after.
    pub(super) prefix: u32,
    /// The lowest number of a string that is a whole text.
    pub(super) exact: u32,
    /// The group of regexes that begin with this string.
    pub(super) group: u32,
    /// The lowest number in the group.
    pub(super) group_least: u32,
}

impl Ends {
    pub(super) const NOTHING: Ends =
        Ends { prefix: NONE, exact: NONE, group: NONE, group_least: NONE };

    /// Joins what ends at the same string. There is at most one group to a string.
    fn join(self, other: Ends) -> Ends {
        Ends {
            prefix: self.prefix.min(other.prefix),
            exact: self.exact.min(other.exact),
            group: self.group.min(other.group),
            group_least: self.group_least.min(other.group_least),
        }
    }

    fn least(self) -> u32 {
        self.prefix.min(self.exact).min(self.group_least)
    }
}

/// One node. Its string is its parent's, its first byte (which the parent looks at), and its label.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) ends: Ends,
    /// The lowest number here or anywhere below.
    pub(super) least: u32,
    /// `label_start + label_length <= labels.len()`
    label_start: u32,
    label_length: u32,
    /// The first of `children` neighbours.
    first_child: u32,
    /// At most 256.
    children: u32,
}

/// A text to walk along, seen through what makes bytes equal.
pub(super) trait Text: Copy {
    /// Its length.
    fn length(self) -> usize;
    /// The byte at a place below the length.
    fn at(self, place: usize) -> u8;
}

/// Bytes as they are.
#[derive(Clone, Copy)]
pub(super) struct Plain<'a>(pub(super) &'a [u8]);

/// Bytes in ASCII lower case.
#[derive(Clone, Copy)]
pub(super) struct Folded<'a>(pub(super) &'a [u8]);

/// Bytes in ASCII lower case, from the end.
#[derive(Clone, Copy)]
pub(super) struct FoldedReversed<'a>(pub(super) &'a [u8]);

impl Text for Plain<'_> {
    fn length(self) -> usize {
        self.0.len()
    }
    fn at(self, place: usize) -> u8 {
        self.0[place]
    }
}

impl Text for Folded<'_> {
    fn length(self) -> usize {
        self.0.len()
    }
    fn at(self, place: usize) -> u8 {
        self.0[place].to_ascii_lowercase()
    }
}

impl Text for FoldedReversed<'_> {
    fn length(self) -> usize {
        self.0.len()
    }
    fn at(self, place: usize) -> u8 {
        self.0[self.0.len() - 1 - place].to_ascii_lowercase()
    }
}

/// A set of strings with numbers.
#[derive(Debug, Default)]
pub(super) struct Trie {
    /// Breadth-first; the root is the first. Empty when there is no string.
    nodes: Box<[Node]>,
    /// By node, the byte that leads to it; the root's is meaningless.
    first_bytes: Box<[u8]>,
    labels: Box<[u8]>,
}

/// A trie that grows.
struct Growing {
    nodes: Vec<Node>,
    first_bytes: Vec<u8>,
    labels: Vec<u8>,
}

impl Trie {
    /// A trie of these strings. A string may come several times.
    pub(super) fn new(mut strings: Vec<(Cow<'_, [u8]>, Ends)>) -> Trie {
        strings.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        strings.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = kept.1.join(later.1);
            }
            same
        });
        let mut trie = Growing {
            nodes: Vec::with_capacity(strings.len() + 1),
            first_bytes: Vec::with_capacity(strings.len() + 1),
            labels: Vec::new(),
        };
        let mut open = VecDeque::new();
        if !strings.is_empty() {
            trie.add_node(0, &mut open, 0..strings.len(), 0);
        }
        while let Some((node, range, depth)) = open.pop_front() {
            trie.fill_node(node, &strings, range, depth, &mut open);
        }
        trie.sum_up();
        let Growing { nodes, first_bytes, labels } = trie;
        Trie { nodes: nodes.into(), first_bytes: first_bytes.into(), labels: labels.into() }
    }

    /// Whether there is no string.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The nodes whose strings the text begins with, shortest first, and how long their strings
    /// are.
    pub(super) fn walk<T: Text>(&self, text: T) -> Walk<'_, T> {
        Walk { trie: self, text, place: 0, node: 0 }
    }

    /// The child that `byte` leads to; out of range when there is none. Takes the same time for the
    /// first child as for the last: bytes mostly follow each other (digits, letters), so that the
    /// place can be computed.
    #[inline]
    fn child(&self, node: &Node, byte: u8) -> usize {
        let first = node.first_child as usize;
        let bytes = &self.first_bytes[first..first + node.children as usize];
        let Some(lowest) = bytes.first() else { return usize::MAX };
        let guess = usize::from(byte.wrapping_sub(*lowest));
        if bytes.get(guess) == Some(&byte) {
            return first + guess;
        }
        bytes.binary_search(&byte).map_or(usize::MAX, |place| first + place)
    }
}

impl Growing {
    /// Adds a node of the strings in `range`, all of which begin with the same `depth` bytes.
    fn add_node(
        &mut self,
        first_byte: u8,
        open: &mut VecDeque<(usize, Range<usize>, usize)>,
        range: Range<usize>,
        depth: usize,
    ) {
        open.push_back((self.nodes.len(), range, depth));
        self.first_bytes.push(first_byte);
        self.nodes.push(Node {
            ends: Ends::NOTHING,
            least: NONE,
            label_start: 0,
            label_length: 0,
            first_child: 0,
            children: 0,
        });
    }

    fn fill_node(
        &mut self,
        node: usize,
        strings: &[(Cow<'_, [u8]>, Ends)],
        mut range: Range<usize>,
        depth: usize,
        open: &mut VecDeque<(usize, Range<usize>, usize)>,
    ) {
        // Sorted: what the first and the last have in common, all have.
        let (first, last) = (&strings[range.start].0[depth..], &strings[range.end - 1].0[depth..]);
        let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        let label_start = self.labels.len() as u32;
        self.labels.extend_from_slice(&first[..common]);
        let depth = depth + common;
        let mut ends = Ends::NOTHING;
        if strings[range.start].0.len() == depth {
            ends = strings[range.start].1;
            range.start += 1;
        }
        let first_child = self.nodes.len();
        while !range.is_empty() {
            let byte = strings[range.start].0[depth];
            let same = strings[range.clone()].partition_point(|(s, _)| s[depth] <= byte);
            let child = range.start..range.start + same;
            range.start = child.end;
            self.add_node(byte, open, child, depth + 1);
        }
        let children = (self.nodes.len() - first_child) as u32;
        self.nodes[node] = Node {
            ends,
            least: NONE,
            label_start,
            label_length: common as u32,
            first_child: first_child as u32,
            children,
        };
    }

    /// Children come after their parents, so from the end every node finds its children done.
    fn sum_up(&mut self) {
        for index in (0..self.nodes.len()).rev() {
            let node = &self.nodes[index];
            let children = node.first_child as usize..(node.first_child + node.children) as usize;
            let below = self.nodes[children].iter().map(|child| child.least).min();
            self.nodes[index].least = self.nodes[index].ends.least().min(below.unwrap_or(NONE));
        }
    }
}

/// A walk down a trie, along a text.
pub(super) struct Walk<'a, T> {
    trie: &'a Trie,
    text: T,
    /// How much of the text led to `node`.
    place: usize,
    /// The node that is next; none when out of range.
    node: usize,
}

impl<'a, T: Text> Iterator for Walk<'a, T> {
    type Item = (&'a Node, usize);

    #[inline]
    fn next(&mut self) -> Option<(&'a Node, usize)> {
        let node = self.trie.nodes.get(self.node)?;
        self.node = usize::MAX;
        let label = &self.trie.labels[node.label_start as usize..][..node.label_length as usize];
        if self.text.length() - self.place < label.len()
            || !label.iter().zip(self.place..).all(|(&byte, place)| self.text.at(place) == byte)
        {
            return None;
        }
        self.place += label.len();
        let place = self.place;
        if place < self.text.length() {
            self.node = self.trie.child(node, self.text.at(place));
            self.place += 1;
        }
        Some((node, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trie(strings: &[&str]) -> Trie {
        let ends = |number| Ends { prefix: number, ..Ends::NOTHING };
        let strings = (0..).zip(strings);
        Trie::new(strings.map(|(number, it)| (it.as_bytes().into(), ends(number))).collect())
    }

    fn found(trie: &Trie, text: &str) -> Vec<(u32, usize)> {
        let walk = trie.walk(Plain(text.as_bytes()));
        walk.filter(|(n, _)| n.ends.prefix != NONE).map(|(n, at)| (n.ends.prefix, at)).collect()
    }

    #[test]
    fn all_strings_that_a_text_begins_with_are_met() {
        let trie = trie(&["/a/b", "/", "/a", "/ab", "/a/bc", "", "/b"]);
        assert_eq!(found(&trie, "/a/b/c"), [(5, 0), (1, 1), (2, 2), (0, 4)]);
        assert_eq!(found(&trie, "/abc"), [(5, 0), (1, 1), (2, 2), (3, 3)]);
        assert_eq!(found(&trie, ""), [(5, 0)]);
        assert_eq!(found(&trie, "x"), [(5, 0)]);
    }

    #[test]
    fn a_common_beginning_that_differs_matches_nothing() {
        let trie = trie(&["/api/x", "/api/y"]);
        assert_eq!(found(&trie, "/apj/x"), []);
        assert_eq!(found(&trie, "/api"), []);
        assert_eq!(found(&trie, ""), []);
    }

    #[test]
    fn the_lowest_number_wins_for_a_string_that_comes_twice() {
        assert_eq!(found(&trie(&["/b", "/a", "/a"]), "/a"), [(1, 2)]);
    }

    #[test]
    fn an_empty_trie_matches_nothing() {
        assert!(trie(&[]).is_empty());
        assert_eq!(found(&trie(&[]), "/a"), []);
    }

    #[test]
    fn a_node_with_every_child_finds_each() {
        let strings: Vec<(Cow<'_, [u8]>, Ends)> = (0..=255_u8)
            .map(|byte| (vec![byte, b'x'].into(), Ends { exact: byte.into(), ..Ends::NOTHING }))
            .collect();
        let trie = Trie::new(strings);
        for byte in 0..=255_u8 {
            let (node, place) = trie.walk(Plain(&[byte, b'x'])).last().unwrap();
            assert_eq!((node.ends.exact, place), (byte.into(), 2));
        }
        assert_eq!(trie.nodes[0].least, 0);
    }

    #[test]
    fn texts_are_folded_and_reversed() {
        let trie = trie(&["moc.", "moc.a."]);
        let met: Vec<usize> =
            trie.walk(FoldedReversed(b"x.A.CoM")).map(|(_, place)| place).collect();
        assert_eq!(met, [4, 6]);
        assert_eq!(trie.walk(Folded(b"MOC.b")).count(), 1);
    }

    /// Each string is the beginning of the next: building does not recurse.
    #[test]
    fn a_deep_trie_is_built_and_walked() {
        let long = "a".repeat(2_000);
        let strings: Vec<&str> = (0..=long.len()).map(|length| &long[..length]).collect();
        let trie = trie(&strings);
        assert_eq!(found(&trie, &long).len(), 2_001);
    }
}
