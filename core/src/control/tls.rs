//! TLS contexts of what is configured: built when it is, and again when what their files hold
//! changes. A context whose material is what it was is kept, so that sessions go on.
//!
//! What it leaves to others: noticing changes (`watch`), snapshots (`resources`).

use crate::config::tls::{
    DownstreamTlsContext, SecretRef, SentSecrets, TlsSource, UpstreamTlsContext,
};
use crate::config::{Bootstrap, Cluster, Listener, RequestServerName, ResourceKind};
use crate::transport::{
    CertificateMaterial, ClientContext, ServerContext, TicketKeys, TlsError, ValidationMaterial,
};
use rustls::time_provider::DefaultTimeProvider;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A filter chain: its listener's name, and its place there.
pub type ChainKey = (String, usize);

/// The key of a listener's chain.
#[must_use]
pub fn chain_key(listener: &Listener, place: usize) -> ChainKey {
    (listener.name.clone(), place)
}

/// Contexts by filter chains and by the names of clusters.
#[derive(Clone, Debug, Default)]
pub struct TlsContexts {
    /// Of filter chains.
    pub servers: BTreeMap<ChainKey, Arc<ServerContext>>,
    /// Of clusters.
    pub clients: BTreeMap<String, Arc<ClientContext>>,
}

/// The contexts in use, and where they came from.
#[derive(Debug, Default)]
pub struct Tls {
    contexts: TlsContexts,
    /// Made for the first context that needs them: the first random bytes cost 30 ms.
    tickets: OnceLock<Arc<TicketKeys>>,
    /// What management servers have sent.
    sent: SentSecrets,
}

/// A context that cannot be built.
#[derive(Debug)]
pub struct Unusable {
    /// Of a listener, or of a cluster.
    pub kind: ResourceKind,
    /// Its name.
    pub name: String,
    /// Why.
    pub error: TlsError,
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let noun = match self.kind {
            ResourceKind::Listener => "listener",
            _ => "cluster",
        };
        write!(f, "{noun} `{}`: TLS: {}", self.name, self.error)
    }
}

impl Tls {
    /// The contexts of a configuration; nothing is in use before [`Tls::replace`].
    ///
    /// # Errors
    ///
    /// Every context that cannot be built.
    pub fn build(&self, bootstrap: &Bootstrap) -> Result<TlsContexts, Vec<Unusable>> {
        let (mut built, mut errors) = (TlsContexts::default(), Vec::new());
        for listener in &bootstrap.listeners {
            for (place, chain) in listener.chains().enumerate() {
                let Some(config) = &chain.tls else { continue };
                let key = chain_key(listener, place);
                match self.server(&key, config) {
                    Ok(context) => drop(built.servers.insert(key, context)),
                    Err(error) => errors.push(of_listener(listener, error)),
                }
            }
        }
        for cluster in &bootstrap.clusters {
            let Some(config) = &cluster.tls else { continue };
            match self.client(&cluster.name, config, cluster.server_name.as_ref()) {
                Ok(context) => drop(built.clients.insert(cluster.name.clone(), context)),
                Err(error) => errors.push(of_cluster(cluster, error)),
            }
        }
        if errors.is_empty() { Ok(built) } else { Err(errors) }
    }

    /// From now on these are in use.
    pub fn replace(&mut self, contexts: TlsContexts) {
        self.contexts = contexts;
    }

    /// Takes secrets that servers have sent. Answers the contexts that are now other ones.
    ///
    /// # Errors
    ///
    /// Every context that cannot be built; then nothing of it is taken.
    pub fn handle_sent(&mut self, sent: SentSecrets) -> Result<TlsContexts, Vec<Unusable>> {
        let is_new = |name: &String| match (self.sent.get(name), sent.get(name)) {
            (Some(before), Some(now)) => before != now,
            (before, now) => before.is_some() || now.is_some(),
        };
        let names: BTreeSet<String> = self.sent.keys().chain(sent.keys()).cloned().collect();
        let names: BTreeSet<String> = names.into_iter().filter(is_new).collect();
        let (before, contexts) = (std::mem::replace(&mut self.sent, sent), self.contexts.clone());
        let (renewed, errors) = self.refresh(&Changed::Secrets(&names));
        if errors.is_empty() {
            return Ok(renewed);
        }
        (self.sent, self.contexts) = (before, contexts);
        Err(errors)
    }

    /// Reads again what has changed. Answers the contexts that are now other ones, and what cannot
    /// be used; what served before goes on serving.
    pub fn refresh(&mut self, changed: &Changed<'_>) -> (TlsContexts, Vec<Unusable>) {
        let (mut renewed, mut errors) = (TlsContexts::default(), Vec::new());
        for (key, old) in &self.contexts.servers {
            let secrets = old.material.config.secrets();
            if !changed.concerns(secrets, || directories_of_server(old)) {
                continue;
            }
            match self.read_server(key, &old.material.config) {
                Ok(new) if Arc::ptr_eq(&new, old) => {}
                Ok(new) => drop(renewed.servers.insert(key.clone(), new)),
                Err(error) => {
                    let (kind, name) = (ResourceKind::Listener, key.0.clone());
                    errors.push(Unusable { kind, name, error });
                }
            }
        }
        for (name, old) in &self.contexts.clients {
            let secrets = old.material.config.common.secrets();
            if !changed.concerns(secrets, || directories_of_client(old)) {
                continue;
            }
            match self.read_client(name, &old.material.config, old.material.of_request.as_ref()) {
                Ok(new) if Arc::ptr_eq(&new, old) => {}
                Ok(new) => drop(renewed.clients.insert(name.clone(), new)),
                Err(error) => {
                    let (kind, name) = (ResourceKind::Cluster, name.clone());
                    errors.push(Unusable { kind, name, error });
                }
            }
        }
        self.contexts.servers.extend(renewed.servers.clone());
        self.contexts.clients.extend(renewed.clients.clone());
        (renewed, errors)
    }

    /// Every directory in which a move means that something has changed.
    #[must_use]
    pub fn directories(&self) -> BTreeSet<PathBuf> {
        let servers = self.contexts.servers.values().flat_map(|one| directories_of_server(one));
        let clients = self.contexts.clients.values().flat_map(|one| directories_of_client(one));
        servers.chain(clients).collect()
    }

    /// New keys for tickets.
    pub fn rotate_tickets(&self) {
        if let Some(tickets) = self.tickets.get() {
            tickets.rotate();
        }
    }

    /// A context that was asked for in the same words stays: what its files hold is watched.
    fn server(
        &self,
        key: &ChainKey,
        config: &Arc<DownstreamTlsContext>,
    ) -> Result<Arc<ServerContext>, TlsError> {
        let old = self.contexts.servers.get(key);
        match old.filter(|old| Arc::ptr_eq(&old.material.config, config)) {
            Some(same) => Ok(same.clone()),
            None => self.read_server(key, config),
        }
    }

    fn read_server(
        &self,
        key: &ChainKey,
        config: &Arc<DownstreamTlsContext>,
    ) -> Result<Arc<ServerContext>, TlsError> {
        let material = config.read(&self.sent)?;
        match self.contexts.servers.get(key).filter(|old| old.material == material) {
            Some(same) => Ok(same.clone()),
            None => {
                let tickets = self.tickets.get_or_init(TicketKeys::new);
                ServerContext::build(material, tickets, Arc::new(DefaultTimeProvider))
            }
        }
    }

    fn client(
        &self,
        name: &str,
        config: &Arc<UpstreamTlsContext>,
        of_request: Option<&RequestServerName>,
    ) -> Result<Arc<ClientContext>, TlsError> {
        let is_same = |old: &&Arc<ClientContext>| {
            Arc::ptr_eq(&old.material.config, config)
                && old.material.of_request.as_ref() == of_request
        };
        match self.contexts.clients.get(name).filter(is_same) {
            Some(same) => Ok(same.clone()),
            None => self.read_client(name, config, of_request),
        }
    }

    fn read_client(
        &self,
        name: &str,
        config: &Arc<UpstreamTlsContext>,
        of_request: Option<&RequestServerName>,
    ) -> Result<Arc<ClientContext>, TlsError> {
        let material = config.read(of_request, &self.sent)?;
        match self.contexts.clients.get(name).filter(|old| old.material == material) {
            Some(same) => Ok(same.clone()),
            None => ClientContext::build(material, Arc::new(DefaultTimeProvider)),
        }
    }
}

/// What is to be read again.
#[derive(Debug)]
pub enum Changed<'c> {
    /// Everything.
    All,
    /// What is in these directories.
    Directories(&'c BTreeSet<PathBuf>),
    /// Secrets of servers, by name.
    Secrets(&'c BTreeSet<String>),
}

impl Changed<'_> {
    fn concerns<'s>(
        &self,
        mut secrets: impl Iterator<Item = &'s SecretRef>,
        directories: impl FnOnce() -> BTreeSet<PathBuf>,
    ) -> bool {
        match self {
            Changed::All => true,
            Changed::Directories(changed) => !changed.is_disjoint(&directories()),
            Changed::Secrets(names) => {
                secrets.any(|secret| secret.file().is_none() && names.contains(&secret.name))
            }
        }
    }
}

fn of_listener(listener: &Listener, error: TlsError) -> Unusable {
    Unusable { kind: ResourceKind::Listener, name: listener.name.clone(), error }
}

fn of_cluster(cluster: &Cluster, error: TlsError) -> Unusable {
    Unusable { kind: ResourceKind::Cluster, name: cluster.name.clone(), error }
}

fn directories_of_server(context: &ServerContext) -> BTreeSet<PathBuf> {
    let material = &context.material;
    directories(
        &mut material.config.secrets(),
        &material.certificates,
        material.validation.as_ref(),
    )
}

fn directories_of_client(context: &ClientContext) -> BTreeSet<PathBuf> {
    let material = &context.material;
    directories(
        &mut material.config.common.secrets(),
        material.certificate.as_slice(),
        material.validation.as_ref(),
    )
}

fn directories(
    secrets: &mut dyn Iterator<Item = &SecretRef>,
    certificates: &[CertificateMaterial],
    validation: Option<&ValidationMaterial>,
) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for file in secrets.filter_map(|secret| secret.file()) {
        found.insert(directory_of(&file.path));
        found.extend(file.watched_directory.as_ref().map(PathBuf::from));
    }
    let sources = certificates.iter().flat_map(|one| one.config.sources());
    let sources = sources.chain(validation.iter().flat_map(|one| one.config.sources()));
    found.extend(sources.filter_map(TlsSource::file).map(directory_of));
    let watched = certificates.iter().filter_map(|one| one.config.watched_directory.as_ref());
    let watched = watched.chain(validation.and_then(|one| one.config.watched_directory.as_ref()));
    found.extend(watched.map(PathBuf::from));
    found
}

fn directory_of(file: &str) -> PathBuf {
    match Path::new(file).parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => PathBuf::from("/"),
    }
}
