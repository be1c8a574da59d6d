//! Addresses that nobody may have this machine talk to: none is ever connected to, whatever leads there.

use std::{
    net::SocketAddr,
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::TcpListener;
use workers::webhooks::{AddressFilter, Allowed, Message, Sender, SystemNames};

/// What must be refused; `{port}` is that of a listener on this machine.
const HOSTILE: [&str; 62] = [
    // Loopback in all its spellings.
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://017700000001:{port}/",
    "http://0x7f.1:{port}/",
    "http://127.0.0.2:{port}/",
    "http://127.255.255.254:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://１２７.0.0.1:{port}/",
    "http://127。0。0。1:{port}/",
    "http://0.0.0.0:{port}/",
    "http://0:{port}/",
    "http://0.1.2.3:{port}/",
    "http://[::1]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[2001:0:7f00:1::1]:{port}/",
    "https://127.0.0.1:{port}/",
    "HTTP://127.0.0.1:{port}/",
    // Names of this machine, and names that lead to what is not public.
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://loopback.test:{port}/",
    "http://loopback6.test:{port}/",
    "http://mapped.test:{port}/",
    "http://nat64.test:{port}/",
    "http://unspecified.test:{port}/",
    "http://private.test:{port}/",
    "http://metadata.test:{port}/",
    "http://all-of-them.test:{port}/",
    // Private networks, link-local, metadata services of clouds, and the rest.
    "http://10.0.0.1:{port}/",
    "http://172.16.0.1:{port}/",
    "http://172.31.255.255:{port}/",
    "http://192.168.1.1:{port}/",
    "http://100.64.0.1:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:169.254.169.254]/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1]:{port}/",
    "http://[fc00::1]:{port}/",
    "http://224.0.0.1:{port}/",
    "http://255.255.255.255:{port}/",
    "http://240.0.0.1:{port}/",
    "http://198.18.0.1:{port}/",
    "http://[ff02::1]:{port}/",
    "http://[2001:db8::1]:{port}/",
];

/// Not for the network at all.
const NO_HTTP: [&str; 8] = [
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/",
    "unix:///run/redis.sock",
    "redis://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "http://",
    "http://[::1",
];

/// Names of a test, which answer in turn.
#[derive(Default)]
struct Names {
    answers: Mutex<Vec<Vec<SocketAddr>>>,
    asked: AtomicUsize,
}

impl Names {
    fn table(host: &str) -> Option<Vec<&'static str>> {
        Some(match host {
            "loopback.test" => vec!["127.0.0.1"],
            "loopback6.test" => vec!["::1"],
            "mapped.test" => vec!["::ffff:127.0.0.1"],
            "nat64.test" => vec!["64:ff9b::7f00:1"],
            "unspecified.test" => vec!["0.0.0.0"],
            "private.test" => vec!["10.0.0.1"],
            "metadata.test" => vec!["169.254.169.254"],
            "all-of-them.test" => vec!["127.0.0.1", "::1", "10.0.0.1", "fd00::1"],
            _ => return None,
        })
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        if let Some(found) = Self::table(name.as_str()) {
            let found: Vec<_> = found.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect();
            return Box::pin(async move { Ok(Box::new(found.into_iter()) as Addrs) });
        }
        let mut answers = self.answers.lock().unwrap();
        if answers.is_empty() {
            return SystemNames.resolve(name);
        }
        let turn = self.asked.fetch_add(1, Ordering::Relaxed) % answers.len();
        let found = std::mem::take(&mut answers[turn]);
        Box::pin(async move { Ok(Box::new(found.into_iter()) as Addrs) })
    }
}

/// Counts who connects, and says no to them.
struct Trap {
    address: SocketAddr,
    connected: Arc<AtomicUsize>,
}

impl Trap {
    async fn on(address: &str) -> Self {
        Self::with(TcpListener::bind(address).await.unwrap())
    }

    fn with(listener: TcpListener) -> Self {
        let (address, connected) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = connected.clone();
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { address, connected }
    }

    /// Whoever was let in is counted by then: the test connects itself, and waits for that.
    async fn connected(&self) -> usize {
        tokio::net::TcpStream::connect(self.address).await.unwrap();
        let end = std::time::Instant::now() + crate::harness::LIMIT;
        while self.connected.load(Ordering::Relaxed) == 0 {
            assert!(std::time::Instant::now() < end, "the trap does not count");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.connected.load(Ordering::Relaxed) - 1
    }
}

fn sender(allowed: &[&str], names: Arc<dyn Resolve>) -> Sender {
    let filter = AddressFilter::new(allowed.iter().map(|text| Allowed::from_str(text).unwrap()));
    Sender::new(filter, names, Duration::from_secs(5)).unwrap()
}

fn message() -> Message {
    Message { id: "msg_1".into(), seconds: 1, signatures: "v1,x".into(), body: "{}".into() }
}

#[tokio::test]
async fn no_hostile_url_is_ever_connected_to() {
    let trap = Trap::on("127.0.0.1:0").await;
    let port = trap.address.port();
    // The same port on the other addresses of this machine that can be listened on.
    let mut traps = vec![trap];
    for address in ["[::1]", "127.0.0.2", "127.255.255.254"] {
        if let Ok(listener) = TcpListener::bind(format!("{address}:{port}")).await {
            traps.push(Trap::with(listener));
        }
    }
    let names = Arc::new(Names::default());
    let nowhere = sender(&[], names.clone());
    for url in HOSTILE.into_iter().chain(NO_HTTP) {
        let url = url.replace("{port}", &port.to_string());
        let answer = nowhere.send(&url, message()).await;
        assert_eq!(answer.status, None, "{url}");
        assert!(answer.refused, "{url}: {answer:?}");
        let told = answer.error.unwrap();
        assert!(
            !told.contains("10.0.0.1") || url.contains("10.0.0.1"),
            "{url}: what a name leads to is not told: {told}"
        );
    }
    for trap in &traps {
        assert_eq!(trap.connected().await, 0, "{}", trap.address);
    }
    // The traps would have caught them: allowed, the same URLs come through.
    let everywhere = sender(&["127.0.0.0/8"], names);
    let before = traps[0].connected.load(Ordering::Relaxed);
    let url = format!("http://loopback.test:{port}/");
    let sending = everywhere.send(&url, message());
    let _no_answer = tokio::time::timeout(Duration::from_millis(300), sending).await;
    assert!(traps[0].connected.load(Ordering::Relaxed) > before);
}

#[tokio::test]
async fn a_name_that_changes_between_two_looks_leads_nowhere_else() {
    let good = super::receiver::Receiver::healthy().await;
    let port = good.address.port();
    let trap = Trap::on(&format!("127.0.0.2:{port}")).await;
    let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
    let (own, other) = (address("127.0.0.1"), address("127.0.0.2"));
    // In turn: good, hostile, both.
    let names = Names {
        answers: Mutex::new(vec![vec![own], vec![other], vec![other, own]]),
        asked: AtomicUsize::new(0),
    };
    let names = Arc::new(names);
    let url = format!("http://rebinding.test:{port}/");
    let mut statuses = Vec::new();
    for _ in 0..3 {
        // Each without the connection of the one before: that is how a name is asked for again.
        let sender = sender(&["127.0.0.1"], names.clone());
        let answer = sender.send(&url, message()).await;
        statuses.push((answer.status, answer.refused));
    }
    assert_eq!(statuses, [(Some(204), false), (None, true), (Some(204), false)]);
    assert_eq!(names.asked.load(Ordering::Relaxed), 3);
    assert_eq!(trap.connected().await, 0);
}

#[tokio::test]
async fn redirects_lead_nowhere_and_endless_answers_are_cut() {
    use super::receiver::{Receiver, Reply};

    let trap = Trap::on("127.0.0.2:0").await;
    let target = format!("http://{}/", trap.address);
    let receiver = Receiver::start(move |received, _| match received.path.as_str() {
        "/endless" => Reply::Endless,
        path => {
            let status = path.trim_start_matches('/').parse().unwrap();
            Reply::With(status, "location", target.clone())
        }
    })
    .await;
    let sender = sender(&["127.0.0.1"], Arc::new(SystemNames));
    for status in [301, 302, 303, 307, 308] {
        let answer = sender.send(&receiver.url(&format!("/{status}")), message()).await;
        assert_eq!(answer.status, Some(status));
    }
    assert_eq!(trap.connected().await, 0);
    let answer = sender.send(&receiver.url("/endless"), message()).await;
    assert_eq!((answer.status, answer.response.len()), (Some(200), 1024));
}
