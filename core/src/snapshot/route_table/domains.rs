//! The choice of a virtual host by the authority of a request.
//!
//! In Envoy's order: the exact domain, then the longest `*.suffix`, then the longest `prefix.*`,
//! then `*`. Case does not matter; a port is part of the domain; a wildcard stands for at least one
//! character.
//!
//! What it leaves to others: the routes of the virtual host (`paths`).

use super::trie::{Ends, Folded, FoldedReversed, NONE, Trie};

/// Every domain of a route configuration, with the number of its virtual host.
#[derive(Debug, Default)]
pub(super) struct Domains {
    /// Exact domains, and `prefix.*` without its star.
    forward: Trie,
    /// `*.suffix` without its star, from the end.
    backward: Trie,
    /// The virtual host of `*`.
    any: Option<u32>,
}

impl Domains {
    /// Of domains that are in two virtual hosts, which validation refuses, the first counts.
    pub(super) fn new<'a>(domains: impl Iterator<Item = (&'a str, u32)>) -> Domains {
        let (mut forward, mut backward, mut any) = (Vec::new(), Vec::new(), None);
        for (domain, number) in domains {
            let mut domain = domain.to_ascii_lowercase().into_bytes();
            let wildcard = Ends { prefix: number, ..Ends::NOTHING };
            match domain.as_slice() {
                b"*" => any = Some(any.unwrap_or(number)),
                [b'*', suffix @ ..] => {
                    backward.push((suffix.iter().rev().copied().collect(), wildcard));
                }
                [.., b'*'] => {
                    domain.pop();
                    forward.push((domain.into(), wildcard));
                }
                _ => forward.push((domain.into(), Ends { exact: number, ..Ends::NOTHING })),
            }
        }
        Domains { forward: Trie::new(forward), backward: Trie::new(backward), any }
    }

    /// The virtual host of an authority. One without any (HTTP/1.0) belongs to `*`.
    pub(super) fn find(&self, authority: &[u8], mut step: impl FnMut()) -> Option<u32> {
        let mut by_prefix = NONE;
        if !self.forward.is_empty() {
            for (node, length) in self.forward.walk(Folded(authority)) {
                step();
                if length == authority.len() {
                    if node.ends.exact != NONE {
                        return Some(node.ends.exact);
                    }
                } else if node.ends.prefix != NONE {
                    by_prefix = node.ends.prefix;
                }
            }
        }
        let mut by_suffix = NONE;
        for (node, length) in self.backward.walk(FoldedReversed(authority)) {
            step();
            if length < authority.len() && node.ends.prefix != NONE {
                by_suffix = node.ends.prefix;
            }
        }
        [by_suffix, by_prefix].into_iter().find(|number| *number != NONE).or(self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(domains: &[&str], authority: &str) -> Option<u32> {
        let numbered = domains.iter().enumerate().map(|(number, domain)| (*domain, number as u32));
        Domains::new(numbered).find(authority.as_bytes(), || ())
    }

    #[test]
    fn exact_beats_suffix_beats_prefix_beats_any() {
        let all = ["*", "www.*", "*.com", "www.a.com"];
        assert_eq!(find(&all, "www.a.com"), Some(3));
        assert_eq!(find(&all, "www.b.com"), Some(2));
        assert_eq!(find(&all, "www.b.net"), Some(1));
        assert_eq!(find(&all, "b.net"), Some(0));
    }

    #[test]
    fn the_longest_wildcard_wins() {
        let suffixes = ["*.com", "*.foo.com", "*-bar.foo.com"];
        assert_eq!(find(&suffixes, "x.foo.com"), Some(1));
        assert_eq!(find(&suffixes, "x-bar.foo.com"), Some(2));
        assert_eq!(find(&suffixes, "foo.com"), Some(0));
        assert_eq!(find(&["foo.*", "foo.bar.*"], "foo.bar.net"), Some(1));
    }

    #[test]
    fn a_wildcard_stands_for_at_least_one_character() {
        assert_eq!(find(&["*.foo.com"], ".foo.com"), None);
        assert_eq!(find(&["*.foo.com"], "foo.com"), None);
        assert_eq!(find(&["*.foo.com"], "a.foo.com"), Some(0));
        assert_eq!(find(&["foo.*"], "foo."), None);
        assert_eq!(find(&["foo.*"], "foo.a"), Some(0));
    }

    #[test]
    fn a_port_is_part_of_the_domain() {
        assert_eq!(find(&["p.net"], "p.net:9"), None);
        assert_eq!(find(&["p.net:9"], "p.net:9"), Some(0));
        assert_eq!(find(&["*.net"], "p.net:9"), None);
        assert_eq!(find(&["p.*"], "p.net:9"), Some(0));
    }

    #[test]
    fn case_does_not_matter() {
        assert_eq!(find(&["Foo.Com"], "fOO.cOM"), Some(0));
        assert_eq!(find(&["*.FOO.com"], "A.foo.COM"), Some(0));
        assert_eq!(find(&["foo.*"], "FOO.A"), Some(0));
    }

    #[test]
    fn without_authority_only_any_matches() {
        assert_eq!(find(&["a", "*.b", "c.*"], ""), None);
        assert_eq!(find(&["a", "*"], ""), Some(1));
        assert_eq!(find(&[], "a"), None);
    }

    #[test]
    fn the_first_virtual_host_keeps_a_domain_that_two_have() {
        assert_eq!(find(&["*", "*"], "a"), Some(0));
        assert_eq!(find(&["a.*", "a.*"], "a.b"), Some(0));
    }
}
