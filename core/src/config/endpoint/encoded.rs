//! An encoded assignment, read page by page: a page whose bytes are those of a page of the version
//! before is shared with it, so that one endpoint of 100,000 that changes costs a comparison of
//! bytes, and the reading of one endpoint.
//!
//! It takes what is clean only, as the whole message would be (`reader`); any other assignment is
//! read by names, which says what is wrong.
//!
//! What it leaves to others: what an endpoint is (`endpoint`).

use super::list::{EndpointPage, hash_of, pages_of};
use super::{ClusterLoadAssignment, Endpoint};
use crate::config::Address;
use crate::config::convert::At;
use crate::config::descriptors;
use crate::config::reader::is_clean;
use crate::paged::{PAGE, Page, Paged};
use envoy_types::pb::envoy::config::endpoint::v3 as pb;
use foldhash::{HashMap, HashSet};
use prost::Message;
use prost::bytes::Bytes;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_reflect::DescriptorPool;
use std::ops::Range;
use std::sync::Arc;

const ASSIGNMENT: &str = "envoy.config.endpoint.v3.ClusterLoadAssignment";
const LOCALITY: &str = "envoy.config.endpoint.v3.LocalityLbEndpoints";
const ENDPOINT: &str = "envoy.config.endpoint.v3.LbEndpoint";

/// The number of `ClusterLoadAssignment.endpoints`, and of `LocalityLbEndpoints.lb_endpoints`.
const ITEMS: u32 = 2;

/// The bytes that an assignment was read from, and where its pages are in them.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    bytes: Bytes,
    /// Of every page.
    places: Vec<Place>,
    /// Of every locality, all but its endpoints.
    headers: Vec<Vec<u8>>,
}

/// Where a page is.
#[derive(Clone, Debug)]
struct Place {
    /// Whole fields.
    bytes: Range<usize>,
    /// Of its locality.
    header: usize,
}

/// Reads an assignment with its `cluster_name`, sharing what it can with the version before.
/// `None`: there is something to tell of it.
pub(in crate::config) fn decode(
    at: &At<'_>,
    bytes: &Bytes,
    before: Option<&ClusterLoadAssignment>,
) -> Option<(String, ClusterLoadAssignment)> {
    let pool = descriptors::pool().ok()?;
    let (localities, rest) = split(bytes, 0..bytes.len())?;
    if !is_clean(pool, ASSIGNMENT, &rest) {
        return None;
    }
    let message = pb::ClusterLoadAssignment::decode(rest.as_slice()).ok()?;
    let mut before = before.and_then(Before::of);
    let localities = localities.into_iter().map(|locality| {
        let (pieces, header) = pieces(bytes, locality, &mut before)?;
        is_clean(pool, LOCALITY, &header).then_some(Locality { header, pieces })
    });
    let localities: Vec<Locality> = localities.collect::<Option<_>>()?;
    let pieces = localities.iter().flat_map(|locality| &locality.pieces);
    let mut used = vec![false; before.as_ref().map_or(0, |before| before.pages.len())];
    // What is there twice is told.
    if pieces.filter_map(|piece| piece.page).any(|page| std::mem::replace(&mut used[page], true)) {
        return None;
    }
    let mut made = Made::new(pool, at, bytes, &before);
    made.known = before.as_ref().map(|it| it.others_than(&used)).unwrap_or_default();
    for locality in localities {
        made.add(locality)?;
    }
    let mut assignment = ClusterLoadAssignment::of_policy(message.policy.as_ref());
    made.finish(&mut assignment)?;
    Some((message.cluster_name, assignment))
}

/// Endpoints of a locality, and the rest of it.
struct Locality {
    header: Vec<u8>,
    pieces: Vec<Piece>,
}

/// Endpoints in a row.
struct Piece {
    /// Whole fields.
    bytes: Range<usize>,
    /// The page of the version before that has the same bytes.
    page: Option<usize>,
}

/// The version before.
struct Before<'b> {
    pages: &'b [Arc<EndpointPage>],
    encoded: &'b Encoded,
    /// The page that is expected.
    next: usize,
    /// Pages by their first endpoint, once one was not where it was expected.
    firsts: HashMap<&'b [u8], usize>,
}

impl<'b> Before<'b> {
    fn of(assignment: &'b ClusterLoadAssignment) -> Option<Before<'b>> {
        let (encoded, pages) = (assignment.encoded.as_ref()?, assignment.endpoints.pages());
        // Where many pages have become small, all are made anew.
        let few = 16 + encoded.headers.len() + 4 * assignment.endpoints.len() / PAGE;
        (pages.len() <= few).then(|| Before { pages, encoded, next: 0, firsts: HashMap::default() })
    }

    fn bytes_of(&self, page: usize) -> &'b [u8] {
        &self.encoded.bytes[self.encoded.places[page].bytes.clone()]
    }

    fn header_of(&self, page: usize) -> &'b [u8] {
        &self.encoded.headers[self.encoded.places[page].header]
    }

    /// The page with which these bytes begin.
    fn page_at(&mut self, bytes: &[u8]) -> Option<usize> {
        let expected = Some(self.next).filter(|page| *page < self.pages.len());
        let found = match expected.filter(|page| bytes.starts_with(self.bytes_of(*page))) {
            Some(found) => found,
            None => self.find(bytes)?,
        };
        self.next = found + 1;
        Some(found)
    }

    /// The same, wherever it was.
    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.firsts.is_empty() {
            let first = |page| Some((first_item(self.bytes_of(page))?, page));
            self.firsts = (0..self.pages.len()).filter_map(first).collect();
        }
        let found = *self.firsts.get(first_item(bytes)?)?;
        bytes.starts_with(self.bytes_of(found)).then_some(found)
    }

    /// The endpoints of other pages, by their bytes, with their header.
    fn others_than(&self, used: &[bool]) -> HashMap<&'b [u8], (&'b Endpoint, &'b [u8])> {
        let mut others = HashMap::default();
        for (page, endpoints) in self.pages.iter().enumerate() {
            if !used[page] {
                let header = self.header_of(page);
                let items = items(self.bytes_of(page)).zip(endpoints.items());
                others.extend(items.map(|(bytes, endpoint)| (bytes, (endpoint, header))));
            }
        }
        others
    }
}

/// What is being made.
struct Made<'m, 'b> {
    pool: &'static DescriptorPool,
    at: &'m At<'m>,
    bytes: &'m Bytes,
    before: &'m Option<Before<'b>>,
    known: HashMap<&'b [u8], (&'b Endpoint, &'b [u8])>,
    pages: Vec<Arc<EndpointPage>>,
    places: Vec<Place>,
    headers: Vec<Vec<u8>>,
    /// Places of pages that the version before has, too.
    shared: Vec<usize>,
    /// Addresses on pages of its own.
    own: HashSet<Address>,
    /// Of them, those that the version before did not have on pages that went.
    fresh: Vec<Address>,
}

impl<'m, 'b> Made<'m, 'b> {
    fn new(
        pool: &'static DescriptorPool,
        at: &'m At<'m>,
        bytes: &'m Bytes,
        before: &'m Option<Before<'b>>,
    ) -> Made<'m, 'b> {
        Made {
            pool,
            at,
            bytes,
            before,
            known: HashMap::default(),
            pages: Vec::new(),
            places: Vec::new(),
            headers: Vec::new(),
            shared: Vec::new(),
            own: HashSet::default(),
            fresh: Vec::new(),
        }
    }

    fn add(&mut self, locality: Locality) -> Option<()> {
        let group = pb::LocalityLbEndpoints::decode(locality.header.as_slice()).ok()?;
        let name = group.locality.clone().unwrap_or_default();
        let name = Arc::new([name.region, name.zone, name.sub_zone]);
        for Piece { bytes, page } in locality.pieces {
            let same = self.before.as_ref().zip(page);
            let same = same.filter(|(before, page)| before.header_of(*page) == locality.header);
            match same {
                Some((before, page)) => {
                    self.shared.push(self.pages.len());
                    self.pages.push(before.pages[page].clone());
                    self.places.push(Place { bytes, header: self.headers.len() });
                }
                None => self.read(bytes, &locality.header, (&group, &name))?,
            }
        }
        self.headers.push(locality.header);
        Some(())
    }

    /// Makes pages of endpoints.
    fn read(
        &mut self,
        range: Range<usize>,
        header: &[u8],
        locality: (&pb::LocalityLbEndpoints, &Arc<[String; 3]>),
    ) -> Option<()> {
        let bytes = &self.bytes[range.clone()];
        let mut endpoints = Vec::new();
        let mut ends = Vec::new();
        for item in items(bytes) {
            let known = self.known.get(item).filter(|(_, of)| *of == header);
            let endpoint = match known {
                Some((endpoint, _)) => Endpoint::clone(endpoint),
                None => {
                    let endpoint = self.endpoint(item, locality)?;
                    self.fresh.push(endpoint.address.clone());
                    endpoint
                }
            };
            // What is there twice is told.
            if !self.own.insert(endpoint.address.clone()) {
                return None;
            }
            endpoints.push(endpoint);
            ends.push(range.start + (item.as_ptr_range().end.addr() - bytes.as_ptr().addr()));
        }
        let (mut start, mut count) = (range.start, 0);
        for page in pages_of(endpoints) {
            count += page.items().len();
            let place = Place { bytes: start..ends[count - 1], header: self.headers.len() };
            start = place.bytes.end;
            self.pages.push(page);
            self.places.push(place);
        }
        Some(())
    }

    fn endpoint(
        &self,
        bytes: &[u8],
        locality: (&pb::LocalityLbEndpoints, &Arc<[String; 3]>),
    ) -> Option<Endpoint> {
        if !is_clean(self.pool, ENDPOINT, bytes) {
            return None;
        }
        let message = pb::LbEndpoint::decode(bytes).ok()?;
        Endpoint::from_proto(self.at, &message, locality, None)
    }

    fn finish(self, assignment: &mut ClusterLoadAssignment) -> Option<()> {
        if self.has_shared(&self.fresh) {
            return None;
        }
        assignment.endpoints = Paged::new(self.pages);
        let is_name = |endpoint: &Endpoint| matches!(endpoint.address, Address::Name { .. });
        let own = assignment.endpoints.pages().iter().enumerate();
        let mut own = own.filter(|(page, _)| self.shared.binary_search(page).is_err());
        assignment.is_plain = !own.any(|(_, page)| page.items().iter().any(is_name));
        if assignment.endpoints.pages().len() > 1 {
            let bytes = self.bytes.clone();
            let encoded = Encoded { bytes, places: self.places, headers: self.headers };
            assignment.encoded = assignment.is_plain.then(|| Box::new(encoded));
        }
        Some(())
    }

    /// Whether one of these addresses is on a page that the version before has, too.
    fn has_shared(&self, addresses: &[Address]) -> bool {
        if addresses.is_empty() || self.shared.is_empty() {
            return false;
        }
        let mut bits = vec![0_u64; 1 << 10];
        let place = |hash: u32| ((hash >> 6) as usize & ((1 << 10) - 1), 1 << (hash & 63));
        for address in addresses {
            let (word, bit) = place(hash_of(address));
            bits[word] |= bit;
        }
        let addresses: HashSet<&Address> = addresses.iter().collect();
        self.shared.iter().map(|page| &self.pages[*page]).any(|page| {
            let hashes = page.hashes().iter().zip(page.items());
            let mut likely = hashes.filter(|(hash, _)| {
                let (word, bit) = place(**hash);
                bits[word] & bit != 0
            });
            likely.any(|(_, endpoint)| addresses.contains(&endpoint.address))
        })
    }
}

/// The endpoints of a locality, and the rest of it.
fn pieces(
    bytes: &[u8],
    locality: Range<usize>,
    before: &mut Option<Before<'_>>,
) -> Option<(Vec<Piece>, Vec<u8>)> {
    let (mut pieces, mut header) = (Vec::<Piece>::new(), Vec::new());
    let Range { start: mut at, end } = locality;
    while at < end {
        if let Some(before) = before
            && let Some(page) = before.page_at(&bytes[at..end])
        {
            let length = before.bytes_of(page).len();
            pieces.push(Piece { bytes: at..at + length, page: Some(page) });
            at += length;
            continue;
        }
        let (number, content, length) = field(&bytes[at..end])?;
        let whole = at..at + length;
        match (number, content) {
            (ITEMS, Some(_)) => match pieces.last_mut() {
                Some(last) if last.page.is_none() && last.bytes.end == at => {
                    last.bytes.end = whole.end;
                }
                _ => pieces.push(Piece { bytes: whole.clone(), page: None }),
            },
            _ => header.extend_from_slice(&bytes[whole.clone()]),
        }
        at = whole.end;
    }
    Some((pieces, header))
}

/// The messages of the field [`ITEMS`], and the message without them.
fn split(bytes: &[u8], range: Range<usize>) -> Option<(Vec<Range<usize>>, Vec<u8>)> {
    let (mut found, mut rest) = (Vec::new(), Vec::new());
    let Range { start: mut at, end } = range;
    while at < end {
        let (number, content, length) = field(&bytes[at..end])?;
        match (number, content) {
            (ITEMS, Some(content)) => found.push(at + content.start..at + content.end),
            _ => rest.extend_from_slice(&bytes[at..at + length]),
        }
        at += length;
    }
    Some((found, rest))
}

/// The number of the first field, where its content is if that has a length, and the length of the
/// whole field.
fn field(bytes: &[u8]) -> Option<(u32, Option<Range<usize>>, usize)> {
    let mut rest = bytes;
    let (number, wire) = decode_key(&mut rest).ok()?;
    if wire != WireType::LengthDelimited {
        skip_field(wire, number, &mut rest, DecodeContext::default()).ok()?;
        return Some((number, None, bytes.len() - rest.len()));
    }
    let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
    let start = bytes.len() - rest.len();
    let end = start.checked_add(length).filter(|end| *end <= bytes.len())?;
    Some((number, Some(start..end), end))
}

/// The content of the first field, which is an item.
fn first_item(bytes: &[u8]) -> Option<&[u8]> {
    let (number, content, _) = field(bytes)?;
    bytes.get(content.filter(|_| number == ITEMS)?)
}

/// The items of a piece.
fn items(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (_, content, length) = field(bytes)?;
        let item = bytes.get(content?)?;
        bytes = &bytes[length..];
        Some(item)
    })
}

#[cfg(test)]
mod tests;
