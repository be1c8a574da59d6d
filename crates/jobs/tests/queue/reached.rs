//! The ways in which Redis is reached: TLS with certificates of our own, users, and sentinels through a fail-over.

use std::{path::Path, process::Stdio, time::Duration};

use jobs::{JobState, Queue, QueueError, Redis, RedisAccess, Retention, TenantId, WorkerId};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::process::{Child, Command};

use crate::{
    server::{connect, until},
    support::{submission, success},
};

/// A redis-server of the installed version that ends with the test.
fn serve(folder: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new("redis-server");
    command.args(arguments).arg("--dir").arg(folder).arg("--appendonly").arg("yes").arg("--save").arg("");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().unwrap()
}

fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// An authority, and a certificate of it with its key, as files.
fn certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    // By the same name as the certificate's it would be taken for that, signed by itself.
    params.distinguished_name.push(DnType::CommonName, "an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    std::fs::write(folder.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let authority = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&own, &authority).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), own.serialize_pem()).unwrap();
}

fn open(url: &str, access: &RedisAccess) -> Queue {
    Queue::new(Redis::open_with(url, access, "reached", 2).unwrap(), Retention::default())
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

/// Computes whatever is queued, one run after the other.
async fn compute_all(queue: &Queue) {
    let free = jobs::Free { slots: 1, memory_mb: 0, idle: true };
    while let Some(claim) = queue.claim(&WorkerId::new("w"), free).await.unwrap().0.pop() {
        queue.finish(&claim, &success(&claim.run.to_string())).await.unwrap();
    }
}

#[tokio::test]
async fn over_tls_with_a_certificate_and_a_user_of_its_own() {
    let (folder, foreign) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificates(folder.path());
    certificates(foreign.path());
    let file = |name: &str| folder.path().join(name);
    let port = free_port();
    let text = |name: &str| file(name).display().to_string();
    let (ca, cert, key) = (text("ca.pem"), text("cert.pem"), text("key.pem"));
    let tls =
        ["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let users =
        ["--user", "default", "off", "--user", "jobs", "on", ">p@ss/word", "~*", "&*", "+@all", "-@admin"];
    let plain = ["--port", "0", "--bind", "127.0.0.1", "--tls-auth-clients", "yes"];
    let _server = serve(folder.path(), &[&plain[..], &tls[..], &users[..]].concat());

    let all = RedisAccess {
        ca_file: Some(file("ca.pem")),
        certificate_file: Some(file("cert.pem")),
        key_file: Some(file("key.pem")),
        ..RedisAccess::default()
    };
    let url = format!("rediss://jobs:p%40ss%2Fword@localhost:{port}/0");
    let queue = open(&url, &all);
    until("Redis answers over TLS", async || queue.redis().ping().await.is_ok()).await;
    let (job, _) = queue.submit(&submission("a")).await.unwrap();
    compute_all(&queue).await;
    assert_eq!(queue.get(job, &tenant()).await.unwrap().state, JobState::Succeeded);

    let without = RedisAccess { certificate_file: None, key_file: None, ..all.clone() };
    let another = RedisAccess { ca_file: Some(foreign.path().join("ca.pem")), ..all.clone() };
    let system = RedisAccess { ca_file: None, ..all.clone() };
    for (what, url, access) in [
        ("no certificate is shown", url.clone(), &without),
        ("another authority is trusted", url.clone(), &another),
        ("the system's authorities are trusted", url.clone(), &system),
        (
            "no TLS is spoken",
            format!("redis://jobs:p%40ss%2Fword@localhost:{port}/0"),
            &RedisAccess::default(),
        ),
        ("the name is not in the certificate", url.replace("localhost", "127.0.0.2"), &all),
        ("the password is wrong", url.replace("p%40ss", "pass"), &all),
        ("the user is off", format!("rediss://localhost:{port}/0"), &all),
    ] {
        let answer = open(&url, access).redis().ping().await;
        assert!(matches!(answer, Err(QueueError::Unavailable(_))), "{what}: {answer:?}");
    }
}

/// Two servers and a sentinel that knows them as `jobs`, all behind passwords.
struct Watched {
    folder: tempfile::TempDir,
    ports: [String; 2],
    servers: [Child; 2],
    sentinel_port: String,
    _sentinel: Child,
}

const SECRET: &str = "se:cret";
const SENTINEL_SECRET: &str = "guard";

impl Watched {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = [free_port(), free_port()];
        let sentinel_port = free_port();
        let mut servers = ports.each_ref().map(|port| Self::server(folder.path(), port, &[]));
        for (server, port) in servers.iter_mut().zip(&ports) {
            until("a server answers", async || connect(&url(port)).await.is_ok()).await;
            assert!(server.try_wait().unwrap().is_none());
        }
        let replicate = ["REPLICAOF", "127.0.0.1", &ports[0]];
        let _done: String = ask(&url(&ports[1]), &replicate).await;
        until("the replica has caught up", async || {
            ask::<String>(&url(&ports[1]), &["INFO", "replication"]).await.contains("master_link_status:up")
        })
        .await;
        let settings = format!(
            "port {sentinel_port}\nbind 127.0.0.1\ndir {}\nrequirepass {SENTINEL_SECRET}\nsentinel monitor jobs 127.0.0.1 {} 1\n\
             sentinel auth-pass jobs {SECRET}\nsentinel down-after-milliseconds jobs 3000\nsentinel failover-timeout jobs 6000\n",
            folder.path().display(),
            ports[0]
        );
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, settings).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let sentinel = command.spawn().unwrap();
        let watched = Self { folder, ports, servers, sentinel_port, _sentinel: sentinel };
        let sentinel = watched.sentinel_url();
        until("the sentinel answers", async || connect(&sentinel).await.is_ok()).await;
        until("the sentinel knows the replica", async || {
            let replicas: Vec<redis::Value> = ask(&sentinel, &["SENTINEL", "REPLICAS", "jobs"]).await;
            format!("{replicas:?}").contains("master-link-status") && format!("{replicas:?}").contains("ok")
        })
        .await;
        watched
    }

    fn server(folder: &Path, port: &str, more: &[&str]) -> Child {
        let own = folder.join(port);
        std::fs::create_dir_all(&own).unwrap();
        let secrets = ["--requirepass", SECRET, "--masterauth", SECRET];
        serve(&own, &[&["--port", port, "--bind", "127.0.0.1"], &secrets[..], more].concat())
    }

    fn sentinel_url(&self) -> String {
        format!("redis://:{SENTINEL_SECRET}@127.0.0.1:{}", self.sentinel_port)
    }

    async fn is_primary(&self, server: usize) -> bool {
        let Ok(mut redis) = connect(&url(&self.ports[server])).await else { return false };
        let role = redis::cmd("INFO").arg("replication").query_async::<String>(&mut redis).await;
        role.is_ok_and(|role| role.contains("role:master"))
    }
}

fn url(port: &str) -> String {
    format!("redis://:{}@127.0.0.1:{port}", SECRET.replace(':', "%3A"))
}

async fn ask<T: redis::FromRedisValue>(url: &str, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(word);
    }
    command.query_async(&mut connect(url).await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn sentinels_lead_to_the_primary_whoever_that_is() {
    let mut watched = Watched::start().await;
    let access = RedisAccess { sentinel_password: Some(SENTINEL_SECRET.into()), ..RedisAccess::default() };
    // The first of the sentinels is away.
    let sentinels = format!("127.0.0.1:{},127.0.0.1:{}", free_port(), watched.sentinel_port);
    let queue =
        open(&format!("redis+sentinel://:{}@{sentinels}/jobs/0", SECRET.replace(':', "%3A")), &access);
    let mut jobs = Vec::new();
    for n in 0..20 {
        jobs.push(queue.submit(&submission(&n.to_string())).await.unwrap().0);
    }
    // What the replica has not received when the primary dies is lost: that is all that a fail-over promises.
    let received: u32 = ask(&url(&watched.ports[0]), &["WAIT", "1", "60000"]).await;
    assert_eq!(received, 1);
    watched.servers[0].kill().await.unwrap();
    until("the replica has taken over", async || queue.get(jobs[0], &tenant()).await.is_ok()).await;
    assert!(watched.is_primary(1).await);
    for job in &jobs {
        assert_eq!(queue.get(*job, &tenant()).await.unwrap().state, JobState::Queued);
    }
    jobs.push(queue.submit(&submission("after")).await.unwrap().0);

    // The old one comes back as a replica (which the sentinel would make of it too, after some quiet seconds), and takes over in its
    // turn while the primary is there: as one does to restart that.
    let replica = ["--replicaof", "127.0.0.1", &watched.ports[1]];
    watched.servers[0] = Watched::server(watched.folder.path(), &watched.ports[0], &replica);
    until("the old primary has caught up", async || {
        let Ok(mut redis) = connect(&url(&watched.ports[0])).await else { return false };
        let told = redis::cmd("INFO").arg("replication").query_async::<String>(&mut redis).await;
        told.is_ok_and(|told| told.contains("role:slave") && told.contains("master_link_status:up"))
    })
    .await;
    until("the sentinel hands over", async || {
        let mut sentinel = connect(&watched.sentinel_url()).await.unwrap();
        let mut hand_over = redis::cmd("SENTINEL");
        let accepted = hand_over.arg("FAILOVER").arg("jobs").exec_async(&mut sentinel).await.is_ok();
        tokio::time::sleep(Duration::from_millis(200)).await;
        accepted || watched.is_primary(0).await
    })
    .await;
    until("the old primary is the primary again", async || {
        watched.is_primary(0).await && !watched.is_primary(1).await
    })
    .await;
    until("calls go there", async || queue.submit(&submission("last")).await.is_ok()).await;
    compute_all(&queue).await;
    for job in &jobs {
        assert_eq!(queue.get(*job, &tenant()).await.unwrap().state, JobState::Succeeded);
    }
}
