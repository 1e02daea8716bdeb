//! What a response has replaced, so that it can be taken back when what it asks for cannot be had.
//!
//! What it leaves to others: when that is (`discovery`).

use super::{Dynamic, Known};
use crate::config::tls::Secret;
use crate::config::{
    Cluster, ClusterLoadAssignment, Listener, Overrides, ResourceKind, RouteConfiguration,
    ScopedRouteConfiguration, VirtualHost,
};
use foldhash::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What there was under a name, if anything was.
#[derive(Debug)]
pub(super) enum Old {
    Cluster(String, Option<Arc<Cluster>>),
    Listener(String, Option<Arc<Listener>>),
    Scope(String, Option<Arc<ScopedRouteConfiguration>>),
    VirtualHost(String, Option<Arc<VirtualHost>>),
    Runtime(String, Option<Overrides>),
    Assignment(String, Option<Known<ClusterLoadAssignment>>),
    Routes(String, Option<Known<RouteConfiguration>>),
    Secret(String, Option<Known<Secret>>),
    Answered(BTreeSet<ResourceKind>),
    Broken(BTreeMap<(ResourceKind, String), String>),
}

impl Dynamic {
    /// From here on changes can be taken back.
    pub(super) fn begin(&mut self) {
        self.undo.clear();
        self.undo.push(Old::Answered(self.answered.clone()));
        self.undo.push(Old::Broken(self.broken.clone()));
    }

    /// What the last response changed stays.
    pub fn keep(&mut self) {
        self.undo.clear();
    }

    /// What the last response changed is as it was before.
    pub fn take_back(&mut self) {
        while let Some(old) = self.undo.pop() {
            match old {
                Old::Cluster(name, old) => {
                    let new = self.clusters.get(&name).cloned();
                    self.note_use(new.as_ref(), old.as_ref());
                    restore_ordered(&mut self.clusters, name, old);
                }
                Old::Listener(name, old) => restore_ordered(&mut self.listeners, name, old),
                Old::Scope(name, old) => restore_ordered(&mut self.scopes, name, old),
                Old::VirtualHost(name, old) => {
                    restore_ordered(&mut self.virtual_hosts, name, old);
                }
                Old::Runtime(name, old) => restore_ordered(&mut self.runtime, name, old),
                Old::Assignment(name, old) => restore(&mut self.assignments, name, old),
                Old::Routes(name, old) => restore(&mut self.routes, name, old),
                Old::Secret(name, old) => restore(&mut self.secrets, name, old),
                Old::Answered(old) => self.answered = old,
                Old::Broken(old) => self.broken = old,
            }
        }
    }
}

fn restore_ordered<T>(map: &mut BTreeMap<String, T>, name: String, old: Option<T>) {
    match old {
        Some(old) => map.insert(name, old),
        None => map.remove(&name),
    };
}

fn restore<T>(map: &mut HashMap<String, T>, name: String, old: Option<T>) {
    match old {
        Some(old) => map.insert(name, old),
        None => map.remove(&name),
    };
}
