//! Secrets while we run: files that change, and keys of tickets that grow old.
//!
//! What it leaves to others: contexts (`tls`), directories (`watch`), snapshots (`resources`).

use super::tls::{self, Tls, TlsContexts, Unusable};
use super::watch::{Changed, Watch};
use crate::config::tls::SentSecrets;
use crate::log::{self, Component};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long a change waits for those that belong to it: a key follows its certificate.
const SETTLE: Duration = Duration::from_millis(20);

/// How long a key seals tickets. Two old ones still open them.
const TICKET_KEY_AGE: Duration = Duration::from_secs(12 * 3600);

/// Secrets in use.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    pub tls: Tls,
    watch: Watch,
    /// Whether what is watched is not what is in use.
    unwatched: bool,
    changed: Option<(Instant, Option<BTreeSet<PathBuf>>)>,
    rotate_at: Option<Instant>,
}

impl Secrets {
    /// From now on these contexts are in use.
    pub fn replace(&mut self, contexts: TlsContexts) {
        self.tls.replace(contexts);
        self.unwatched = true;
    }

    /// Secrets that servers have sent; see [`Tls::handle_sent`].
    pub fn handle_sent(&mut self, sent: SentSecrets) -> Result<TlsContexts, Vec<Unusable>> {
        let renewed = self.tls.handle_sent(sent)?;
        self.unwatched = true;
        Ok(renewed)
    }

    /// Waits until there are contexts to take the place of those in use. Can be dropped and called
    /// again at any time.
    pub async fn renewed(&mut self) -> TlsContexts {
        loop {
            if std::mem::take(&mut self.unwatched) {
                self.watch.set(&self.tls.directories());
            }
            let rotate_at = *self.rotate_at.get_or_insert_with(|| Instant::now() + TICKET_KEY_AGE);
            let due = self.changed.as_ref().map_or(rotate_at, |(due, _)| rotate_at.min(*due));
            tokio::select! {
                changed = self.watch.changed() => self.note(changed),
                () = sleep_until(due) => {
                    if Instant::now() >= rotate_at {
                        self.tls.rotate_tickets();
                        self.rotate_at = None;
                    }
                    if let Some(renewed) = self.refresh() {
                        return renewed;
                    }
                }
            }
        }
    }

    fn note(&mut self, changed: Changed) {
        let (_, noted) =
            self.changed.get_or_insert_with(|| (Instant::now() + SETTLE, Some(BTreeSet::new())));
        match (changed, noted) {
            (Changed::In(more), Some(directories)) => directories.extend(more),
            (Changed::In(_), None) => {}
            (Changed::Unknown, noted) => {
                *noted = None;
                self.unwatched = true;
            }
        }
    }

    /// Reads what has changed, if its time has come.
    fn refresh(&mut self) -> Option<TlsContexts> {
        let (_, directories) = self.changed.take_if(|(due, _)| *due <= Instant::now())?;
        let what = directories.as_ref().map_or(tls::Changed::All, tls::Changed::Directories);
        let (renewed, errors) = self.tls.refresh(&what);
        for error in errors {
            let text = format_args!("{error}; what was in use before stays in use");
            log::warning(Component::Config, text);
        }
        self.unwatched = true;
        let names = renewed.servers.keys().map(|(listener, _)| listener);
        let mut names: Vec<_> = names.chain(renewed.clients.keys()).map(String::as_str).collect();
        names.dedup();
        if names.is_empty() {
            return None;
        }
        let text = format_args!("new TLS secrets are in use: {}", names.join(", "));
        log::info(Component::Config, text);
        Some(renewed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Bootstrap, Options, Source, load};
    use crate::transport::ServerContext;
    use std::fs;
    use std::sync::Arc;
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_secs(10);

    /// PEM of a certificate and of its key.
    fn pair(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    /// Writes beside, then moves into place.
    fn put(directory: &std::path::Path, name: &str, text: &str) {
        let beside = directory.join("..new");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, directory.join(name)).unwrap();
    }

    fn bootstrap(directory: &std::path::Path, certificates: &str) -> Bootstrap {
        let http = "type.googleapis.com/envoy.extensions.filters";
        let tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
        let text = format!(
            "
static_resources:
  listeners:
  - name: l
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 1 }} }}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config: {{ '@type': {tls}.DownstreamTlsContext, common_tls_context: {{ \
         {certificates} }} }}
      filters:
      - name: h
        typed_config:
          '@type': {http}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: s
          route_config: {{ name: r }}
          http_filters:
          - name: router
            typed_config: {{ '@type': {http}.http.router.v3.Router }}
"
        );
        let text = text.replace("DIR", &directory.display().to_string());
        let source = Source { name: "x".into(), text };
        load(&[source], &Options::default()).unwrap_or_else(|errors| panic!("{errors}")).0
    }

    async fn next(secrets: &mut Secrets) -> Arc<ServerContext> {
        let renewed = timeout(LONG, secrets.renewed()).await.expect("nothing was renewed");
        renewed.servers[&("l".to_owned(), 0)].clone()
    }

    fn name_of(context: &ServerContext) -> String {
        context.certificates[0][0].server_names().next().unwrap_or_default().to_owned()
    }

    async fn rotates(kind: &str, certificates: &str) {
        let name = format!("tidegate-secrets-{kind}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let (certificate, key) = pair("first");
        put(&directory, "tls.crt", &certificate);
        put(&directory, "tls.key", &key);
        let secret = "\
resources:
- '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
  name: s
  tls_certificate:
    certificate_chain: { filename: DIR/tls.crt }
    private_key: { filename: DIR/tls.key }
";
        put(&directory, "sds.yaml", &secret.replace("DIR", &directory.display().to_string()));
        let bootstrap = bootstrap(&directory, certificates);
        let mut secrets = Secrets::default();
        let built = secrets.tls.build(&bootstrap).unwrap();
        assert_eq!(name_of(&built.servers[&("l".to_owned(), 0)]), "first");
        secrets.replace(built);
        assert!(timeout(Duration::from_millis(50), secrets.renewed()).await.is_err());
        let (certificate, key) = pair("second");
        put(&directory, "tls.crt", &certificate);
        // The certificate without its key cannot be used; it is when the key has come.
        assert!(timeout(Duration::from_millis(200), secrets.renewed()).await.is_err());
        put(&directory, "tls.key", &key);
        let renewed = next(&mut secrets).await;
        assert_eq!(name_of(&renewed), "second");
        fs::remove_dir_all(&directory).unwrap();
    }

    #[tokio::test]
    async fn files_that_are_moved_into_place_are_used() {
        let certificates = "tls_certificates: [{ certificate_chain: { filename: DIR/tls.crt }, \
                            private_key: { filename: DIR/tls.key } }]";
        rotates("files", certificates).await;
    }

    #[tokio::test]
    async fn files_of_a_secret_in_a_file_are_used() {
        let certificates = "tls_certificate_sds_secret_configs: [{ name: s, sds_config: { \
                            path_config_source: { path: DIR/sds.yaml } } }]";
        rotates("sds", certificates).await;
    }
}
