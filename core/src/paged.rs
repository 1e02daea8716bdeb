//! A list in pages that versions of the list share: a version that differs in one item has all
//! pages but one in common with the version before, and what has changed is found by comparing
//! pointers.
//!
//! What it leaves to others: what a page knows of its items besides them.

use foldhash::{HashMap, HashSet};
use std::fmt;
use std::ops::{Index, Range};
use std::sync::Arc;

/// Items of a page; two pages may have less.
pub const PAGE: usize = 256;

/// A part of a list.
pub trait Page {
    /// What the list has.
    type Item;

    /// The page's items; at least one.
    fn items(&self) -> &[Self::Item];
}

/// Items in their order.
pub struct Paged<P> {
    pages: Box<[Arc<P>]>,
    /// The places of the first items of all pages but the first.
    starts: Box<[u32]>,
    len: usize,
}

impl<P: Page> Paged<P> {
    /// The list that these pages make.
    #[must_use]
    pub fn new(pages: Vec<Arc<P>>) -> Paged<P> {
        let mut len = 0;
        let mut starts = Vec::with_capacity(pages.len().saturating_sub(1));
        for (index, page) in pages.iter().enumerate() {
            if index > 0 {
                // Four thousand million items do not fit into memory.
                starts.push(len as u32);
            }
            len += page.items().len();
        }
        Paged { pages: pages.into(), starts: starts.into(), len }
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The item at this place. Constant time in a list of one page, else logarithmic.
    #[must_use]
    #[inline]
    pub fn get(&self, place: usize) -> Option<&P::Item> {
        (place < self.len).then(|| &self[place])
    }

    /// The first item.
    #[must_use]
    pub fn first(&self) -> Option<&P::Item> {
        self.get(0)
    }

    /// All items.
    pub fn iter(&self) -> impl Iterator<Item = &P::Item> + Clone {
        self.pages.iter().flat_map(|page| page.items())
    }

    /// The pages.
    #[must_use]
    pub fn pages(&self) -> &[Arc<P>] {
        &self.pages
    }

    /// The place of a page's first item.
    #[must_use]
    pub fn start(&self, page: usize) -> usize {
        page.checked_sub(1).map_or(0, |before| self.starts[before] as usize)
    }

    /// The page of a place, and the place within it.
    #[must_use]
    pub fn page_of(&self, place: usize) -> (usize, usize) {
        let page = self.starts.partition_point(|start| *start as usize <= place);
        (page, place - self.start(page))
    }

    /// Where the pages of this list are in another version of it.
    #[must_use]
    pub fn places_in(&self, other: &Paged<P>) -> Vec<Option<usize>> {
        let (mine, others) = self.apart(other);
        let behind = self.pages.len() - mine.end;
        let at = other.pages[others.clone()].iter().map(Arc::as_ptr).zip(others.clone());
        let at: HashMap<*const P, usize> =
            if mine.is_empty() { HashMap::default() } else { at.collect() };
        let between = self.pages[mine.clone()].iter().map(|it| at.get(&Arc::as_ptr(it)).copied());
        let ahead = (0..mine.start).map(Some);
        ahead.chain(between).chain((others.end..others.end + behind).map(Some)).collect()
    }

    /// The items of pages that another version of the list does not have.
    pub fn items_not_in<'p>(&'p self, other: &Paged<P>) -> impl Iterator<Item = &'p P::Item> {
        let (mine, others) = self.apart(other);
        let others = &other.pages[others];
        let shared: HashSet<*const P> = match mine.len() * others.len() {
            0 => HashSet::default(),
            _ => others.iter().map(Arc::as_ptr).collect(),
        };
        let own = self.pages[mine].iter().filter(move |it| !shared.contains(&Arc::as_ptr(it)));
        own.flat_map(|page| page.items())
    }

    /// The pages of both between those at the beginning and at the end that both have.
    fn apart(&self, other: &Paged<P>) -> (Range<usize>, Range<usize>) {
        let same = |(a, b): &(&Arc<P>, &Arc<P>)| Arc::ptr_eq(a, b);
        let ahead = self.pages.iter().zip(&other.pages).take_while(same).count();
        let (mine, others) = (&self.pages[ahead..], &other.pages[ahead..]);
        let behind = mine.iter().rev().zip(others.iter().rev()).take_while(same).count();
        (ahead..self.pages.len() - behind, ahead..other.pages.len() - behind)
    }

    /// Whether it has the pages that another version has.
    #[must_use]
    pub fn has_same_pages(&self, other: &Paged<P>) -> bool {
        let mut pairs = self.pages.iter().zip(&other.pages);
        self.pages.len() == other.pages.len() && pairs.all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

/// How many items each page of so many in a row has.
pub fn page_sizes(items: usize) -> impl Iterator<Item = usize> {
    let pages = ((items + PAGE / 2) / PAGE).max(1);
    (0..pages).map(move |page| items * (page + 1) / pages - items * page / pages)
}

impl<P> Clone for Paged<P> {
    fn clone(&self) -> Paged<P> {
        Paged { pages: self.pages.clone(), starts: self.starts.clone(), len: self.len }
    }
}

impl<P> Default for Paged<P> {
    fn default() -> Paged<P> {
        Paged { pages: Box::default(), starts: Box::default(), len: 0 }
    }
}

impl<P: Page<Item: PartialEq>> PartialEq for Paged<P> {
    /// Pages that are shared are not looked into.
    fn eq(&self, other: &Paged<P>) -> bool {
        if self.len != other.len || self.starts != other.starts {
            return self.len == other.len && self.iter().eq(other.iter());
        }
        let mut pairs = self.pages.iter().zip(&other.pages);
        let is_same = |(a, b): (&Arc<P>, &Arc<P>)| Arc::ptr_eq(a, b) || a.items() == b.items();
        pairs.all(is_same)
    }
}

impl<P: Page<Item: fmt::Debug>> fmt::Debug for Paged<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<P: Page> Index<usize> for Paged<P> {
    type Output = P::Item;

    /// # Panics
    ///
    /// When there is no such place.
    #[inline]
    fn index(&self, place: usize) -> &P::Item {
        if let [page] = &*self.pages {
            return &page.items()[place];
        }
        let (page, within) = self.page_of(place);
        &self.pages[page].items()[within]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug)]
    struct Numbers(Vec<u32>);

    impl Page for Numbers {
        type Item = u32;

        fn items(&self) -> &[u32] {
            &self.0
        }
    }

    type List = Paged<Numbers>;

    /// Pages from a stock, so that two lists can share some.
    fn pages(stock: &[Arc<Numbers>], chosen: &[usize]) -> List {
        List::new(chosen.iter().map(|index| stock[*index].clone()).collect())
    }

    fn some_of_twelve() -> impl Strategy<Value = Vec<usize>> {
        prop::sample::subsequence((0..12).collect::<Vec<_>>(), 0..12).prop_shuffle()
    }

    #[test]
    fn pages_of_a_run_differ_by_one_item_at_most() {
        for items in [1, 255, 256, 383, 384, 385, 511, 100_000] {
            let sizes: Vec<_> = page_sizes(items).collect();
            assert_eq!(sizes.iter().sum::<usize>(), items);
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            assert!(most - least <= 1 && *most <= PAGE * 3 / 2, "{items}: {least} to {most}");
        }
    }

    #[test]
    #[should_panic(expected = "index out of bounds: the len is 3 but the index is 3")]
    fn a_place_behind_the_end_is_a_mistake() {
        let _ = List::new(vec![Arc::new(Numbers(vec![1, 2, 3]))])[3];
    }

    proptest! {
        #[test]
        fn a_list_is_its_pages_in_a_row(sizes in prop::collection::vec(1_usize..5, 0..8)) {
            let mut next = 0;
            let page = |size: &usize| {
                next += *size as u32;
                Arc::new(Numbers((next - *size as u32..next).collect()))
            };
            let list = List::new(sizes.iter().map(page).collect());
            prop_assert_eq!(list.len(), next as usize);
            prop_assert!(list.iter().copied().eq(0..next));
            for place in 0..next {
                prop_assert_eq!(list[place as usize], place);
                let (page, within) = list.page_of(place as usize);
                prop_assert_eq!(list.pages()[page].0[within], place);
                prop_assert_eq!(list.start(page) + within, place as usize);
            }
            prop_assert_eq!(list.get(next as usize), None);
        }

        #[test]
        fn shared_pages_are_found_wherever_they_are(
            before in some_of_twelve(),
            after in some_of_twelve(),
        ) {
            let stock: Vec<_> = (0..12).map(|it| Arc::new(Numbers(vec![it; 2]))).collect();
            let (old, new) = (pages(&stock, &before), pages(&stock, &after));
            let places: Vec<_> =
                after.iter().map(|it| before.iter().position(|other| other == it)).collect();
            prop_assert_eq!(new.places_in(&old), places);
            let fresh = after.iter().filter(|it| !before.contains(it));
            let fresh: Vec<_> = fresh.flat_map(|it| [*it as u32; 2]).collect();
            prop_assert!(new.items_not_in(&old).copied().eq(fresh));
            prop_assert_eq!(new.has_same_pages(&old), before == after);
            prop_assert_eq!(new == old, before == after);
        }
    }
}
