//! Where in the text of a configuration its virtual hosts and routes are.
//!
//! What it leaves to others: what they mean (`route`).

use super::ast::{Mark, Node};
use super::convert::{Segment, step};
use super::load::parse;
use super::report::Report;
use super::{Position, Source};

/// The texts of a configuration that could be read.
#[derive(Debug)]
pub struct RoutePlaces {
    names: Vec<String>,
    roots: Vec<Node>,
}

impl RoutePlaces {
    /// Of these sources; `None` if one of them is no tree.
    #[must_use]
    pub fn read(sources: &[Source]) -> Option<RoutePlaces> {
        let roots = parse(sources, &mut Report::new(sources))?;
        let names = sources.iter().map(|source| source.name.clone()).collect();
        Some(RoutePlaces { names, roots })
    }

    /// Where a virtual host of a listener's route configuration begins.
    #[must_use]
    pub fn virtual_host(&self, [listener, chain]: [usize; 2], host: usize) -> Option<Position> {
        let host = [Segment::Field("virtual_hosts"), Segment::Index(host)];
        self.position(self.find(&self.route_config(listener, chain), &host).first()?.at)
    }

    /// Where a route of a virtual host begins.
    #[must_use]
    pub fn route(
        &self,
        [listener, chain]: [usize; 2],
        host: usize,
        route: usize,
    ) -> Option<Position> {
        let route = [
            Segment::Field("virtual_hosts"),
            Segment::Index(host),
            Segment::Field("routes"),
            Segment::Index(route),
        ];
        self.position(self.find(&self.route_config(listener, chain), &route).first()?.at)
    }

    /// The `route_config` of a listener's filter chain (the default is the last), in each of the
    /// sources that has it.
    fn route_config(&self, listener: usize, chain: usize) -> Vec<&Node> {
        let path = [
            Segment::Field("static_resources"),
            Segment::Field("listeners"),
            Segment::Index(listener),
        ];
        let roots: Vec<&Node> = self.roots.iter().collect();
        let listener = self.find(&roots, &path);
        let named = [Segment::Field("filter_chains"), Segment::Index(chain)];
        let mut chain = self.find(&listener, &named);
        if chain.is_empty() {
            chain = self.find(&listener, &[Segment::Field("default_filter_chain")]);
        }
        let filters = self.find(&chain, &[Segment::Field("filters")]);
        let of_filter = |index| {
            let path = [
                Segment::Index(index),
                Segment::Field("typed_config"),
                Segment::Field("route_config"),
            ];
            self.find(&filters, &path)
        };
        // The connection manager is the last of a few.
        (0..8).map(of_filter).find(|found| !found.is_empty()).unwrap_or_default()
    }

    fn find<'n>(&'n self, from: &[&'n Node], path: &[Segment<'_>]) -> Vec<&'n Node> {
        path.iter().fold(from.to_vec(), |nodes, segment| step(&nodes, *segment))
    }

    fn position(&self, at: Mark) -> Option<Position> {
        let file = self.names.get(at.source)?.clone();
        Some(Position { file, line: at.line, column: at.column })
    }
}
