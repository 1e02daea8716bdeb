//! Mistakes in what is not supported yet. Envoy refuses them too, so they are what is told: that a
//! thing is not supported would be no help to whoever wrote it wrong.
//!
//! What it leaves to others: mistakes in what is supported (each noun's `from_proto`).

use super::super::ast::{Node, Tree};
use super::super::upstream_options::HTTP_PROTOCOL_OPTIONS;
use super::{Reader, Written};
use prost_reflect::MessageDescriptor;

/// Of Maglev, as the .proto file says.
const MAX_TABLE_SIZE: u64 = 5_000_011;

const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";

struct Mistake {
    fields: &'static [&'static str],
    reason: String,
    hint: &'static str,
}

impl Reader<'_, '_> {
    /// Reports such a mistake, and names the fields that it is made with.
    pub(super) fn mistake(
        &mut self,
        descriptor: &MessageDescriptor,
        written: &[Written<'_>],
    ) -> &'static [&'static str] {
        let found = match descriptor.full_name() {
            CLUSTER => self.of_cluster(written),
            HTTP_PROTOCOL_OPTIONS => of_options(written),
            _ => None,
        };
        let Some(Mistake { fields, reason, hint }) = found else { return &[] };
        let at = part(written, fields[fields.len() - 1]).map(|node| node.at);
        let path = self.path_of(fields[fields.len() - 1]);
        self.report.error(at, &path, reason, Some(hint.to_owned()));
        fields
    }

    fn of_cluster(&self, written: &[Written<'_>]) -> Option<Mistake> {
        let kind = self.enumerator(written, "type").unwrap_or_default();
        let policy = self.enumerator(written, "lb_policy").unwrap_or_default();
        let (fields, reason, hint): (&[_], _, _) = match (kind.as_str(), policy.as_str()) {
            ("EDS", _) if part(written, "eds_cluster_config").is_none() => (
                &["type"],
                "an EDS cluster needs `eds_cluster_config`".to_owned(),
                "with a `load_assignment` of its own it is `type: STATIC`",
            ),
            ("ORIGINAL_DST", policy) if policy != "CLUSTER_PROVIDED" => (
                &["type"],
                "ORIGINAL_DST goes with `lb_policy: CLUSTER_PROVIDED` only".to_owned(),
                "there is one host for each request, and nothing to balance",
            ),
            (_, "MAGLEV") => match table_size(written) {
                Some(size) if size <= MAX_TABLE_SIZE && !is_prime(size) => (
                    &["lb_policy", "maglev_lb_config"],
                    format!("`table_size` must be a prime number, which {size} is not"),
                    "65537 is the default",
                ),
                _ => return None,
            },
            _ => return None,
        };
        Some(Mistake { fields, reason, hint })
    }

    /// The value of an enumeration by its name, however it is written.
    fn enumerator(&self, written: &[Written<'_>], name: &str) -> Option<String> {
        let part = written.iter().find(|part| part.field.name() == name)?;
        self.canonical(&part.field, part.parts.last()?)
    }
}

/// Without TLS Envoy refuses it, too.
fn of_options(written: &[Written<'_>]) -> Option<Mistake> {
    part(written, "auto_config")?;
    Some(Mistake {
        fields: &["auto_config"],
        reason: "`auto_config` chooses the version by ALPN, which needs a TLS transport socket \
                 and is not there yet"
            .to_owned(),
        hint: "name the version in `explicit_http_config`",
    })
}

fn part<'t>(written: &[Written<'t>], name: &str) -> Option<&'t Node> {
    written.iter().find(|part| part.field.name() == name)?.parts.last().copied()
}

fn table_size(written: &[Written<'_>]) -> Option<u64> {
    let config = part(written, "maglev_lb_config")?;
    let size = config.get("table_size").or_else(|| config.get("tableSize"))?;
    let Tree::Scalar(size) = &size.value else { return None };
    size.text.parse().ok()
}

/// Of a number that can be the size of a table; a larger one is refused for that.
fn is_prime(number: u64) -> bool {
    number > 1
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use super::is_prime;

    #[test]
    fn primes() {
        assert!([2, 3, 5, 65_537, 5_000_011].into_iter().all(is_prime));
        assert!(![0, 1, 4, 10, 65_536].into_iter().any(is_prime));
    }
}
