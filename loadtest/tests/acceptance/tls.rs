//! TLS, HTTP/1.1 and HTTP/2, against a server of rustls.
//!
//! What it leaves to others: TLS itself.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::common::{json, loadtest};
use crate::http2::{Answer, serve};

/// A server for `localhost`, and its certificate as PEM.
fn server(protocol: &'static [u8]) -> (SocketAddr, String) {
    server_for(protocol, None)
}

/// The same; where a client's certificate is given, for this client only.
fn server_for(
    protocol: &'static [u8],
    client: Option<CertificateDer<'static>>,
) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let builder = match client {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(certificate) => {
            let mut roots = RootCertStore::empty();
            roots.add(certificate).unwrap();
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let config = Arc::clone(&config);
            std::thread::spawn(move || {
                let mut tls = ServerConnection::new(config).unwrap();
                let mut socket = stream.unwrap();
                let mut stream = Stream::new(&mut tls, &mut socket);
                if protocol == b"h2" {
                    return serve(&mut stream, Answer::Body, 100, usize::MAX);
                }
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {
                    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\n";
                    if stream.write_all(&[&head[..], &[b'x'; 20_000]].concat()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, made.cert.pem())
}

#[test]
fn http1_and_http2_over_tls_on_both_backends() {
    for (protocol, bytes) in [(&b"http/1.1"[..], 20_000), (b"h2", 9)] {
        let (address, certificate) = server(protocol);
        let file = std::env::temp_dir().join(format!(
            "loadtest-{}-{}.pem",
            std::process::id(),
            address.port()
        ));
        std::fs::write(&file, certificate).unwrap();
        let url = format!("https://localhost:{}/", address.port());
        let streams = ["--http2", "-p", "4"];
        for backend in ["io_uring", "epoll"] {
            let mut arguments = vec!["-n", "60", "-c", "2", "--io-backend", backend, "--cacert"];
            let name = file.to_string_lossy().into_owned();
            arguments.extend([name.as_str(), &url]);
            if protocol == b"h2" {
                arguments.extend(streams);
            }
            let (report, _) = json(&arguments);
            assert_eq!(report["loadtest"]["succeeded"], 60, "{report}");
            assert_eq!(report["summary"]["totalData"], 60 * bytes, "{report}");
        }
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_certificate_that_nobody_vouches_for() {
    let (address, _) = server(b"http/1.1");
    let url = format!("https://localhost:{}/", address.port());
    let output = loadtest(&["-n", "3", "-c", "1", "--no-tui", &url]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("TLS: invalid peer certificate"), "{text}");
    assert_eq!(output.status.code(), Some(1));
    let (report, _) = json(&["-n", "3", "-c", "1", "--insecure", &url]);
    assert_eq!(report["loadtest"]["succeeded"], 3, "{report}");
    let (report, _) = json(&["-n", "6", "-c", "2", "--insecure", "--disable-keepalive", &url]);
    assert_eq!(report["loadtest"]["connects"], 6, "{report}");
}

#[test]
fn a_client_with_a_certificate() {
    let made = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
    let (address, _) = server_for(b"http/1.1", Some(made.cert.der().clone()));
    let folder = std::env::temp_dir().join(format!("loadtest-client-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: String| {
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        file.to_string_lossy().into_owned()
    };
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let both = file("both.pem", format!("{certificate}{key}"));
    let (certificate, key) = (file("client.pem", certificate), file("client.key", key));
    let url = format!("https://localhost:{}/", address.port());
    for identity in [&["--cert", &certificate, "--key", &key][..], &["--cert", &both]] {
        let arguments = [&["-n", "6", "-c", "2", "--insecure"], identity, &[&url]].concat();
        let (report, _) = json(&arguments);
        assert_eq!(report["loadtest"]["succeeded"], 6, "{report}");
    }
    let (report, _) = json(&["-n", "6", "-c", "2", "--insecure", &url]);
    assert_eq!(report["loadtest"]["succeeded"], 0, "{report}");
    let wrong = loadtest(&["-n", "6", "--insecure", "--cert", &key, &url]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("no certificate in it"));
    std::fs::remove_dir_all(folder).unwrap();
}
