//! How a request reaches the service: through a proxy, through Tor, and over TLS.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use matrix_analytics::{Backend as _, DeliveryError, PostHog, PostHogBuildError};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use reqwest::{Certificate, Proxy};
use time::{Duration, OffsetDateTime};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufStream,
    },
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer},
};

use super::posthog::{KEY, opened};

/// A name that only a proxy can resolve.
const HOST: &str = "posthog.invalid";

/// What a double is, apart from a service that answers 200 to every request.
#[derive(Clone)]
enum Role {
    HttpProxy,
    /// A proxy whose tunnels end at a service with this certificate.
    HttpsProxy(TlsAcceptor),
    SocksProxy,
    Tls(TlsAcceptor),
}

/// A proxy or a service on loopback.
struct Double {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Double {
    async fn start(role: Role) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let all_seen = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, role.clone(), all_seen.clone()));
            }
        });
        Self { address, seen }
    }

    /// Returns the first line of each request, and the targets of the SOCKS proxy.
    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, role: Role, seen: Arc<Mutex<Vec<String>>>) -> Option<()> {
    let mut stream = BufStream::new(stream);
    match role {
        Role::HttpProxy => answer(stream, seen).await,
        Role::HttpsProxy(acceptor) => {
            let head = read_head(&mut stream).await?;
            seen.lock().unwrap().push(head.lines().next()?.to_owned());
            write(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n").await?;
            answer(BufStream::new(acceptor.accept(stream).await.ok()?), seen).await
        }
        Role::SocksProxy => {
            // RFC 1928: the version, and the methods of authentication.
            let [_, methods] = read(&mut stream).await?;
            stream.read_exact(&mut vec![0; methods.into()]).await.ok()?;
            write(&mut stream, &[5, 0]).await?;
            // The command "connect", and a target that is a name.
            let request: [u8; 5] = read(&mut stream).await?;
            assert_eq!(request[..4], [5, 1, 0, 3]);
            let mut name = vec![0; request[4].into()];
            stream.read_exact(&mut name).await.ok()?;
            let port = u16::from_be_bytes(read(&mut stream).await?);
            seen.lock().unwrap().push(format!("{}:{port}", String::from_utf8(name).ok()?));
            write(&mut stream, &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
            answer(stream, seen).await
        }
        Role::Tls(acceptor) => {
            answer(BufStream::new(acceptor.accept(stream).await.ok()?), seen).await
        }
    }
}

async fn read<const N: usize>(stream: &mut BufStream<TcpStream>) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

async fn read_head<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufStream<S>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufStream<S>,
    bytes: &[u8],
) -> Option<()> {
    stream.write_all(bytes).await.ok()?;
    stream.flush().await.ok()
}

/// Answers 200 to every request of a connection.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: BufStream<S>,
    seen: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    loop {
        let head = read_head(&mut stream).await?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        stream.read_exact(&mut vec![0; length.parse().ok()?]).await.ok()?;
        seen.lock().unwrap().push(head.lines().next()?.to_owned());
        write(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
    }
}

/// Returns the certificate of a new issuer, and a service whose certificate it has issued.
fn issuer() -> (Certificate, TlsAcceptor) {
    let valid = |mut params: CertificateParams| {
        params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(1);
        params
    };
    let issuer_key = KeyPair::generate().unwrap();
    let mut params = valid(CertificateParams::default());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&issuer_key).unwrap();
    let issuer = Issuer::new(params, issuer_key);

    let key = KeyPair::generate().unwrap();
    let names = [HOST.to_owned(), "127.0.0.1".to_owned()];
    let mut params = valid(CertificateParams::new(names).unwrap());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (Certificate::from_der(root.der()).unwrap(), TlsAcceptor::from(Arc::new(config)))
}

fn through(proxy: Proxy) -> PostHog {
    PostHog::builder(&format!("http://{HOST}"), KEY).proxy(proxy).build().unwrap()
}

#[tokio::test]
async fn an_http_endpoint_is_reached_through_the_proxy() {
    let proxy = Double::start(Role::HttpProxy).await;
    let backend = through(Proxy::all(format!("http://{}", proxy.address)).unwrap());
    backend.send(&opened()).await.unwrap();
    assert_eq!(proxy.seen(), [format!("POST http://{HOST}/batch/ HTTP/1.1")]);

    // The client that is made after a close has the same settings.
    backend.close();
    backend.send(&opened()).await.unwrap();
    assert_eq!(proxy.seen().len(), 2);
}

#[tokio::test]
async fn an_https_endpoint_is_reached_through_a_tunnel_of_the_proxy() {
    let (root, acceptor) = issuer();
    let proxy = Double::start(Role::HttpsProxy(acceptor)).await;
    let backend = PostHog::builder(&format!("https://{HOST}"), KEY)
        .proxy(Proxy::all(format!("http://{}", proxy.address)).unwrap())
        .root_certificate(root)
        .build()
        .unwrap();
    backend.send(&opened()).await.unwrap();
    let tunnel = format!("CONNECT {HOST}:443 HTTP/1.1");
    assert_eq!(proxy.seen(), [tunnel, "POST /batch/ HTTP/1.1".to_owned()]);
}

#[tokio::test]
async fn tor_resolves_the_name_of_the_endpoint() {
    let tor = Double::start(Role::SocksProxy).await;
    let backend = through(Proxy::all(format!("socks5h://{}", tor.address)).unwrap());
    backend.send(&opened()).await.unwrap();
    assert_eq!(tor.seen(), [format!("{HOST}:80"), "POST /batch/ HTTP/1.1".to_owned()]);
}

#[tokio::test]
async fn a_request_uses_the_first_proxy_that_applies() {
    let (https, http) =
        (Double::start(Role::HttpProxy).await, Double::start(Role::HttpProxy).await);
    let backend = PostHog::builder(&format!("http://{HOST}"), KEY)
        .proxy(Proxy::https(format!("http://{}", https.address)).unwrap())
        .proxy(Proxy::http(format!("http://{}", http.address)).unwrap())
        .proxy(Proxy::all(format!("http://{}", https.address)).unwrap())
        .build()
        .unwrap();
    backend.send(&opened()).await.unwrap();
    assert_eq!((https.seen().len(), http.seen().len()), (0, 1));
}

#[tokio::test]
async fn no_request_goes_past_a_proxy_that_cannot_be_reached() {
    let service = Double::start(Role::HttpProxy).await;
    let nothing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for scheme in ["http", "https", "socks5h"] {
        let backend = PostHog::builder(&format!("http://{}", service.address), KEY)
            .proxy(Proxy::all(format!("{scheme}://{nothing}")).unwrap())
            .build()
            .unwrap();
        let error = backend.send(&opened()).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Transient(_)), "{scheme}: {error:?}");
    }
    assert!(service.seen().is_empty());
}

#[tokio::test]
async fn no_request_goes_directly_if_no_proxy_applies_or_its_scheme_is_unknown() {
    let service = Double::start(Role::HttpProxy).await;
    let proxies = [
        Proxy::all(format!("socks://{}", service.address)),
        Proxy::all(format!("sock5h://{}", service.address)),
        Proxy::https(format!("http://{}", service.address)),
    ];
    for proxy in proxies {
        let builder = PostHog::builder(&format!("http://{}", service.address), KEY);
        let backend = builder.proxy(proxy.unwrap()).build().unwrap();
        let error = backend.send(&opened()).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Transient(_)), "{error:?}");
    }
    assert!(service.seen().is_empty());
}

#[tokio::test]
async fn a_service_of_an_unknown_issuer_gets_nothing() {
    let (_, acceptor) = issuer();
    let service = Double::start(Role::Tls(acceptor)).await;
    let backend = PostHog::new(&format!("https://{}", service.address), KEY).unwrap();
    let error = backend.send(&opened()).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Transient(_)), "{error:?}");
    assert!(service.seen().is_empty());
}

#[tokio::test]
async fn a_service_of_any_added_issuer_is_trusted() {
    let ((first, first_acceptor), (second, second_acceptor)) = (issuer(), issuer());
    for acceptor in [first_acceptor, second_acceptor] {
        let service = Double::start(Role::Tls(acceptor)).await;
        let backend = PostHog::builder(&format!("https://{}", service.address), KEY)
            .root_certificate(first.clone())
            .root_certificate(second.clone())
            .build()
            .unwrap();
        backend.send(&opened()).await.unwrap();
        assert_eq!(service.seen(), ["POST /batch/ HTTP/1.1"]);
    }
}

#[test]
fn something_else_than_a_certificate_is_refused_when_the_backend_is_built() {
    for certificate in [
        Certificate::from_der(b"not a certificate").unwrap(),
        Certificate::from_pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .unwrap(),
    ] {
        let builder = PostHog::builder("https://example.org", KEY).root_certificate(certificate);
        let error = builder.build().unwrap_err();
        assert!(matches!(error, PostHogBuildError::RootCertificate(_)), "{error:?}");
    }
}
