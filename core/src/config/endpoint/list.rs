//! The endpoints of an assignment, in pages that versions of it share.
//!
//! What it leaves to others: what an endpoint is (`endpoint`), reading them (`encoded`).

use super::Endpoint;
use crate::config::Address;
use crate::paged::{Page, Paged, page_sizes};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Endpoints in their order. Those of one page have the same locality and priority.
pub type Endpoints = Paged<EndpointPage>;

/// Endpoints of one locality.
#[derive(Debug)]
pub struct EndpointPage {
    endpoints: Box<[Endpoint]>,
    /// Of their addresses: to find one again, 100,000 of them are looked through in no time.
    hashes: Box<[u32]>,
}

impl EndpointPage {
    pub(super) fn new(endpoints: Vec<Endpoint>) -> EndpointPage {
        let hashes = endpoints.iter().map(|it| hash_of(&it.address)).collect();
        EndpointPage { endpoints: endpoints.into(), hashes }
    }

    /// One for each endpoint.
    pub(super) fn hashes(&self) -> &[u32] {
        &self.hashes
    }
}

impl Page for EndpointPage {
    type Item = Endpoint;

    fn items(&self) -> &[Endpoint] {
        &self.endpoints
    }
}

/// The same for the same address, now and later.
pub(super) fn hash_of(address: &Address) -> u32 {
    let mut hasher = DefaultHasher::new();
    address.hash(&mut hasher);
    hasher.finish() as u32
}

/// Pages of endpoints of one locality.
pub(super) fn pages_of(endpoints: Vec<Endpoint>) -> impl Iterator<Item = Arc<EndpointPage>> {
    let sizes = page_sizes(endpoints.len()).filter(|size| *size > 0);
    let mut endpoints = endpoints.into_iter();
    sizes.map(move |size| Arc::new(EndpointPage::new(endpoints.by_ref().take(size).collect())))
}

impl FromIterator<Endpoint> for Endpoints {
    fn from_iter<I: IntoIterator<Item = Endpoint>>(endpoints: I) -> Endpoints {
        let (mut pages, mut run) = (Vec::new(), Vec::<Endpoint>::new());
        for endpoint in endpoints {
            if run.last().is_some_and(|last| !last.is_beside(&endpoint)) {
                pages.extend(pages_of(std::mem::take(&mut run)));
            }
            run.push(endpoint);
        }
        pages.extend(pages_of(run));
        Endpoints::new(pages)
    }
}
