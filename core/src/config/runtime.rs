//! Runtime values (`layered_runtime` of the bootstrap): numbers, shares and switches by key, which
//! configuration elsewhere can ask for by that key.
//!
//! They are looked up while a configuration is converted, so that a request never is. A value that
//! changes while the process runs (`/runtime_modify`, RTDS) converts the configuration again.
//!
//! What it leaves to others: which keys there are (each noun), `/runtime` (`admin`).

use super::config_source::ConfigSource;
use super::convert::At;
use super::disk_layer::DiskLayer;
use super::support::{SupportedMessage, message, used};
use envoy_types::pb::envoy::config::bootstrap::v3 as pb;
use envoy_types::pb::envoy::service::runtime::v3 as service;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Values that were set while the process runs, by key.
pub type Overrides = BTreeMap<String, String>;

/// Values of layers that the bootstrap does not have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RuntimeValues {
    /// Of the admin layer.
    pub admin: Overrides,
    /// Of layers by RTDS, by the names of their resources.
    pub rtds: BTreeMap<String, Overrides>,
    /// `--service-cluster`, for a node that does not say it.
    pub service_cluster: String,
}

impl RuntimeValues {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.admin.is_empty() && self.rtds.is_empty()
    }
}

/// `RuntimeLayer.RtdsLayer`
#[derive(Clone, PartialEq, Debug)]
pub struct Rtds {
    /// `name`, or the layer's: of the resource.
    pub name: String,
    /// `rtds_config`
    pub source: ConfigSource,
}

/// All layers; a later one counts before an earlier one.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Runtime {
    /// Names and values of the layers.
    pub layers: Vec<RuntimeLayer>,
    /// Layers on disk: one whose directory is not there, or cannot be read, is not in `layers`.
    pub disk: Vec<DiskLayer>,
    /// So many of these could not be read.
    pub unreadable: usize,
}

/// One layer.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RuntimeLayer {
    /// `name`
    pub name: String,
    /// The layer that `/runtime_modify` writes to.
    pub is_admin: bool,
    /// A layer whose values come from a management server.
    pub rtds: Option<Rtds>,
    /// A layer whose values are in files.
    pub is_on_disk: bool,
    /// Its values as texts, by key.
    pub values: BTreeMap<String, String>,
}

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message("envoy.config.bootstrap.v3.LayeredRuntime", &[used("layers")]),
    message(
        "envoy.config.bootstrap.v3.RuntimeLayer",
        &[
            used("name"),
            used("static_layer"),
            used("admin_layer"),
            used("disk_layer"),
            used("rtds_layer"),
        ],
    ),
    message("envoy.config.bootstrap.v3.RuntimeLayer.AdminLayer", &[]),
    message(
        "envoy.config.bootstrap.v3.RuntimeLayer.RtdsLayer",
        &[used("name"), used("rtds_config")],
    ),
    message("envoy.service.runtime.v3.Runtime", &[used("name"), used("layer")]),
];

impl Runtime {
    /// Converts the layers, with what was set while the process runs.
    pub(super) fn from_proto(
        at: &At<'_>,
        runtime: Option<&pb::LayeredRuntime>,
        given: &RuntimeValues,
        cluster: &str,
    ) -> Runtime {
        use pb::runtime_layer::LayerSpecifier;
        let at = at.field("layers");
        let (mut layers, mut disk) = (Vec::<RuntimeLayer>::new(), Vec::new());
        let mut unreadable = 0;
        for (index, layer) in runtime.iter().flat_map(|runtime| runtime.layers.iter().enumerate()) {
            let at = at.index(index);
            let mut converted = RuntimeLayer { name: layer.name.clone(), ..Default::default() };
            if layers.iter().any(|other| other.name == layer.name) {
                at.field("name").error(format!("the layer `{}` is there twice", layer.name));
            }
            match &layer.layer_specifier {
                Some(LayerSpecifier::StaticLayer(values)) => {
                    flatten(&at.field("static_layer"), "", values, &mut converted.values);
                }
                Some(LayerSpecifier::AdminLayer(_)) => {
                    if layers.iter().any(|other| other.is_admin) {
                        at.field("admin_layer").error("there can be one `admin_layer` only");
                    }
                    converted.is_admin = true;
                    converted.values = given.admin.clone();
                }
                Some(LayerSpecifier::RtdsLayer(rtds)) => {
                    let at = at.field("rtds_layer");
                    let name = match rtds.name.as_str() {
                        "" => layer.name.clone(),
                        name => name.to_owned(),
                    };
                    let Some(source) = &rtds.rtds_config else {
                        at.missing("rtds_config", Some("`ads: {}` for example"));
                        continue;
                    };
                    let at = at.field("rtds_config");
                    converted.values = given.rtds.get(&name).cloned().unwrap_or_default();
                    converted.rtds = at
                        .converted(ConfigSource::from_proto(&at, source))
                        .map(|source| Rtds { name, source });
                }
                Some(LayerSpecifier::DiskLayer(layer)) => {
                    let at = at.field("disk_layer");
                    let layer = DiskLayer::from_proto(&at, layer, cluster);
                    let read = layer.read();
                    disk.push(layer);
                    converted.is_on_disk = true;
                    converted.values = match read {
                        Ok(Some(values)) => values,
                        Ok(None) => continue,
                        Err(reason) => {
                            at.warning(format!("the layer does not count: {reason}"));
                            unreadable += 1;
                            continue;
                        }
                    };
                }
                // The reader says that one is required.
                None => continue,
            }
            layers.push(converted);
        }
        Runtime { layers, disk, unreadable }
    }

    /// The value that counts.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let values = self.layers.iter().rev().filter_map(|layer| layer.values.get(key));
        values.map(String::as_str).next()
    }

    /// Every key with its value in each layer, as far as it has one.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<&str, Vec<Option<&str>>> {
        let keys: BTreeSet<&str> =
            self.layers.iter().flat_map(|layer| layer.values.keys().map(String::as_str)).collect();
        let of = |key: &str| {
            self.layers.iter().map(|layer| layer.values.get(key).map(String::as_str)).collect()
        };
        keys.into_iter().map(|key| (key, of(key))).collect()
    }
}

/// The values of a resource by RTDS.
pub(super) fn values_of(at: &At<'_>, runtime: &service::Runtime) -> Overrides {
    let mut values = Overrides::new();
    if let Some(layer) = &runtime.layer {
        flatten(&at.field("layer"), "", layer, &mut values);
    }
    values
}

/// Adds the values of a structure under dotted keys.
fn flatten(at: &At<'_>, prefix: &str, values: &Struct, out: &mut BTreeMap<String, String>) {
    for (name, value) in &values.fields {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match &value.kind {
            Some(Kind::StructValue(inner)) => match fraction_text(inner) {
                Some(text) => {
                    out.insert(key, text);
                }
                None => flatten(at, &key, inner, out),
            },
            Some(Kind::StringValue(text)) => {
                out.insert(key, text.clone());
            }
            Some(Kind::NumberValue(number)) => {
                out.insert(key, number.to_string());
            }
            Some(Kind::BoolValue(value)) => {
                out.insert(key, value.to_string());
            }
            Some(Kind::ListValue(_) | Kind::NullValue(_)) | None => {
                at.error(format!("`{key}` must be a number, a text, true, false or a share"));
            }
        }
    }
}

/// `{numerator: 5, denominator: HUNDRED}` as `5/100`; `None` for what is no share.
fn fraction_text(value: &Struct) -> Option<String> {
    let number = |value: &Value| match value.kind {
        Some(Kind::NumberValue(number)) if number >= 0.0 && number <= f64::from(u32::MAX) => {
            Some(number as u32)
        }
        _ => None,
    };
    let named = |name: &str| value.fields.contains_key(name);
    if value.fields.keys().any(|name| name != "numerator" && name != "denominator")
        || !(named("numerator") || named("denominator"))
    {
        return None;
    }
    let numerator = match value.fields.get("numerator") {
        Some(value) => number(value)?,
        None => 0,
    };
    let denominator = match value.fields.get("denominator").and_then(|value| value.kind.as_ref()) {
        None => 100,
        Some(Kind::StringValue(name)) => match name.as_str() {
            "HUNDRED" => 100,
            "TEN_THOUSAND" => 10_000,
            "MILLION" => 1_000_000,
            _ => return None,
        },
        Some(Kind::NumberValue(0.0)) => 100,
        Some(Kind::NumberValue(1.0)) => 10_000,
        Some(Kind::NumberValue(2.0)) => 1_000_000,
        Some(_) => return None,
    };
    Some(format!("{numerator}/{denominator}"))
}

/// The runtime of a conversion, and which of its keys were asked for.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    runtime: Runtime,
    asked: RefCell<BTreeSet<String>>,
}

impl Lookups {
    /// Of this runtime.
    pub fn new(runtime: Runtime) -> Lookups {
        Lookups { runtime, asked: RefCell::default() }
    }

    fn get(&self, key: &str) -> Option<&str> {
        if key.is_empty() {
            return None;
        }
        self.asked.borrow_mut().insert(key.to_owned());
        self.runtime.get(key)
    }

    /// A whole number; `default` where there is none.
    pub fn integer(&self, key: &str, default: u32) -> u32 {
        self.get(key).and_then(whole).unwrap_or(default)
    }

    /// A share: a whole number is one of 100.
    pub fn fraction(&self, key: &str, default: (u32, u32)) -> (u32, u32) {
        let Some(text) = self.get(key) else { return default };
        let share = match text.split_once('/') {
            Some((numerator, denominator)) => whole(numerator).zip(whole(denominator)),
            None => whole(text).map(|percent| (percent, 100)),
        };
        share.unwrap_or(default)
    }

    /// The keys of static layers that nothing has asked for.
    pub fn unread(&self) -> Vec<String> {
        let asked = self.asked.borrow();
        let is_static =
            |layer: &&RuntimeLayer| !layer.is_admin && layer.rtds.is_none() && !layer.is_on_disk;
        let layers = self.runtime.layers.iter().filter(is_static);
        let keys: BTreeSet<&String> = layers.flat_map(|layer| layer.values.keys()).collect();
        keys.into_iter().filter(|key| !asked.contains(*key)).cloned().collect()
    }
}

fn whole(text: &str) -> Option<u32> {
    let number: f64 = text.trim().parse().ok()?;
    (number >= 0.0 && number.fract() == 0.0 && number <= f64::from(u32::MAX))
        .then_some(number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(is_admin: bool, values: &[(&str, &str)]) -> RuntimeLayer {
        let values = values.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        RuntimeLayer { name: "l".into(), is_admin, values, ..RuntimeLayer::default() }
    }

    #[test]
    fn a_later_layer_counts_before_an_earlier_one() {
        let layers = vec![
            layer(false, &[("a", "1"), ("b", "5/10000"), ("c", "x"), ("d", "1.5")]),
            layer(true, &[("a", "7")]),
        ];
        let lookups = Lookups::new(Runtime { layers, ..Runtime::default() });
        assert_eq!([lookups.integer("a", 0), lookups.integer("c", 3)], [7, 3]);
        assert_eq!([lookups.integer("d", 4), lookups.integer("none", 9)], [4, 9]);
        assert_eq!(lookups.fraction("b", (1, 2)), (5, 10_000));
        assert_eq!(
            [lookups.fraction("a", (1, 2)), lookups.fraction("c", (1, 2))],
            [(7, 100), (1, 2)]
        );
        assert_eq!(lookups.unread(), [] as [&str; 0]);
    }

    #[test]
    fn keys_that_nothing_reads_are_known() {
        let layers = vec![layer(false, &[("a", "1"), ("b", "2")]), layer(true, &[("c", "1")])];
        let lookups = Lookups::new(Runtime { layers, ..Runtime::default() });
        lookups.integer("a", 0);
        assert_eq!(lookups.unread(), ["b"]);
        assert_eq!(lookups.runtime.entries()["c"], [None, Some("1")]);
    }
}
