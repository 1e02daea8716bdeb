//! TLS contexts of what is configured: built when it is, and again when what their files hold
//! changes. A context whose material is what it was is kept, so that sessions go on.
//!
//! What it leaves to others: noticing changes (`watch`), snapshots (`resources`).

use crate::config::tls::{DownstreamTlsContext, SecretRef, TlsSource, UpstreamTlsContext};
use crate::config::{Bootstrap, Cluster, Listener, RequestServerName};
use crate::transport::{
    CertificateMaterial, ClientContext, ServerContext, TicketKeys, TlsError, ValidationMaterial,
};
use rustls::time_provider::DefaultTimeProvider;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
#[derive(Debug)]
pub struct Tls {
    contexts: TlsContexts,
    tickets: Arc<TicketKeys>,
}

/// A context that cannot be built.
#[derive(Debug)]
pub struct Unusable {
    /// `listener` or `cluster`, and its name.
    pub owner: String,
    /// Why.
    pub error: TlsError,
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: TLS: {}", self.owner, self.error)
    }
}

impl Default for Tls {
    fn default() -> Tls {
        Tls { contexts: TlsContexts::default(), tickets: TicketKeys::new() }
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

    /// Reads again what is in these directories, or everything. Answers the contexts that are now
    /// other ones, and what cannot be used; what served before goes on serving.
    pub fn refresh(&mut self, changed: Option<&BTreeSet<PathBuf>>) -> (TlsContexts, Vec<Unusable>) {
        let concerns = |of: BTreeSet<PathBuf>| changed.is_none_or(|dirs| !dirs.is_disjoint(&of));
        let (mut renewed, mut errors) = (TlsContexts::default(), Vec::new());
        for (key, old) in &self.contexts.servers {
            if !concerns(directories_of_server(old)) {
                continue;
            }
            match self.server(key, &old.material.config) {
                Ok(new) if Arc::ptr_eq(&new, old) => {}
                Ok(new) => drop(renewed.servers.insert(key.clone(), new)),
                Err(error) => {
                    errors.push(Unusable { owner: format!("listener `{}`", key.0), error });
                }
            }
        }
        for (name, old) in &self.contexts.clients {
            if !concerns(directories_of_client(old)) {
                continue;
            }
            match self.client(name, &old.material.config, old.material.of_request.as_ref()) {
                Ok(new) if Arc::ptr_eq(&new, old) => {}
                Ok(new) => drop(renewed.clients.insert(name.clone(), new)),
                Err(error) => errors.push(Unusable { owner: format!("cluster `{name}`"), error }),
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
        self.tickets.rotate();
    }

    fn server(
        &self,
        key: &ChainKey,
        config: &Arc<DownstreamTlsContext>,
    ) -> Result<Arc<ServerContext>, TlsError> {
        let material = config.read()?;
        match self.contexts.servers.get(key).filter(|old| old.material == material) {
            Some(same) => Ok(same.clone()),
            None => ServerContext::build(material, &self.tickets, Arc::new(DefaultTimeProvider)),
        }
    }

    fn client(
        &self,
        name: &str,
        config: &Arc<UpstreamTlsContext>,
        of_request: Option<&RequestServerName>,
    ) -> Result<Arc<ClientContext>, TlsError> {
        let material = config.read(of_request)?;
        match self.contexts.clients.get(name).filter(|old| old.material == material) {
            Some(same) => Ok(same.clone()),
            None => ClientContext::build(material, Arc::new(DefaultTimeProvider)),
        }
    }
}

fn of_listener(listener: &Listener, error: TlsError) -> Unusable {
    Unusable { owner: format!("listener `{}`", listener.name), error }
}

fn of_cluster(cluster: &Cluster, error: TlsError) -> Unusable {
    Unusable { owner: format!("cluster `{}`", cluster.name), error }
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
    for secret in secrets {
        found.insert(directory_of(&secret.path));
        found.extend(secret.watched_directory.as_ref().map(PathBuf::from));
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
