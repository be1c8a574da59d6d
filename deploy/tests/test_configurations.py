"""Every file that is shipped is held against the program that reads it. What a program that is missing would check is skipped, and said."""
import http.client
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from stack import DEPLOY, ROOT, Stack, analysis, get, post, until

MOST_EXPOSED = 3.5


def needs(program):
    if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
        pytest.skip(f"{program} is not there: `scripts/setup tests` gets it on Debian")
    return program


def run(*command, **more):
    environment = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin") | more.pop("env", {})
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, env=environment, **more)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secrets") / "d"
    run(DEPLOY / "secrets", folder)
    return folder


def test_secrets_are_made_once_and_hidden(secrets):
    before = {file.name: file.read_text() for file in secrets.iterdir()}
    run(DEPLOY / "secrets", secrets)
    assert {file.name: file.read_text() for file in secrets.iterdir()} == before
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert len(before["admin_key"]) == 64 and len({before[name] for name in before if name.endswith("password")}) == 4


@pytest.mark.parametrize("instances", [1, 8])
def test_haproxy_accepts_its_configuration(secrets, instances):
    own = {f"API_{number}": f"127.0.0.1:{8100 + number}" for number in range(1, instances + 1)}
    own |= {"CERTIFICATE": str(secrets / "certificate.pem"), "ADMIN_SOCKET": str(secrets / "admin.sock")}
    said = run(needs("haproxy"), "-c", "-f", DEPLOY / "haproxy/haproxy.cfg", env=own)
    assert "warning" not in said.lower(), said


def test_nginx_accepts_its_configuration(secrets, tmp_path):
    text = (DEPLOY / "nginx/jesse-jobs.conf").read_text().replace("/etc/nginx/jesse-jobs/", f"{secrets}/")
    (tmp_path / "site.conf").write_text(text)
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{ access_log off; include {tmp_path}/site.conf; }}\n")
    assert "[warn]" not in run(needs("nginx"), "-t", "-c", tmp_path / "nginx.conf")


def test_compose_accepts_its_file(secrets, tmp_path):
    for name in ("docker-compose.yml", ".env.example", "deploy"):
        os.symlink(ROOT / name, tmp_path / name)
    # Without standard settings of the machine, and with those of the example.
    (tmp_path / "empty").touch()
    for file in ("empty", ".env.example"):
        run(needs("docker-compose"), "--env-file", file, "config", "-q", cwd=tmp_path)
    run("docker-compose", "-f", "docker-compose.yml", "-f", "deploy/docker-compose.sandbox.yml", "config", "-q", cwd=tmp_path)


def test_compose_shuts_services_in_and_explains_every_setting():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for name, service in compose["services"].items():
        assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys(), name
        assert all(str(port).startswith(("127.0.0.1:", "${HTTP")) for port in service.get("ports", [])), name
        if name == "jesse":
            continue
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"], name
        assert "healthcheck" in service, name
        built = "build" in service  # whose Dockerfile names the user
        assert built or not service["user"].startswith("0"), name
    # A setting that the example names and nothing reads, or the other way round, misleads.
    used = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    shown = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M))
    assert shown <= used | {"PUBLIC_HOST"}
    assert {name for name in used - shown if not name.endswith("_IMAGE")} <= {"JESSE_HOME", "JESSE_WEB_PORT"}


def test_dockerfile_copies_what_is_there_and_ends_as_nobody():
    text = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    for stage in re.split(r"^FROM ", text, flags=re.M)[-2:]:
        assert "USER 10001:10001" in stage
    assert "python" not in text.split("AS api")[1].split("FROM")[0].lower()


def test_dockerfile_copies_all_that_the_build_reads():
    stage = (DEPLOY / "Dockerfile").read_text().split(" AS build")[1].split("FROM ")[0]
    copied = [ROOT / source for line in re.findall(r"^COPY (.+)$", stage, re.M) for source in line.split()[:-1]]

    def is_there(path):
        return path.exists() and any(path == source or source in path.parents for source in copied)

    members = re.findall(r'"([^"]+)"', re.search(r"^members = \[(.*?)\]", (ROOT / "Cargo.toml").read_text(), re.M | re.S)[1])
    for member in members:
        assert is_there(ROOT / member / "Cargo.toml"), f"a member of the workspace: {member}"
    included = 0
    for folder in ["src", *(member for member in members if not member.startswith("bench/"))]:
        for file in (ROOT / folder).rglob("*.rs"):
            if "tests" not in file.relative_to(ROOT).parts:
                for name in re.findall(r"include_(?:str|bytes)!\(\s*\"([^\"]+)\"", file.read_text()):
                    assert is_there((file.parent / name).resolve()), f"{file} includes {name}"
                    included += 1
    assert included > 10


def test_entrypoint_reads_secrets_from_files(tmp_path):
    (tmp_path / "jesse-jobs").write_text("#!/bin/sh\nprintf '%s|%s' \"$REDIS_URL\" \"$*\"\n")
    (tmp_path / "jesse-jobs").chmod(0o755)
    (tmp_path / "url").write_text("redis://u:p@h:1/0\n")
    path = f"{tmp_path}:{os.environ['PATH']}"
    said = run(DEPLOY / "entrypoint", "serve", env={"PATH": path, "REDIS_URL": "", "REDIS_URL_FILE": str(tmp_path / "url")})
    assert said == "redis://u:p@h:1/0|serve"
    refused = subprocess.run([DEPLOY / "entrypoint"], env={"PATH": path, "REDIS_URL_FILE": str(tmp_path / "none")}, capture_output=True)
    assert refused.returncode == 66


def units(folder: Path):
    """The units with what is around them on a machine where they are installed."""
    folder.mkdir(exist_ok=True)
    program = shutil.which("true")
    for unit, number in (("jesse-jobs-api@", "8101"), ("jesse-jobs-worker@", "1")):
        text = (DEPLOY / f"systemd/{unit}.service").read_text().replace("/usr/local/bin/jesse-jobs", program)
        (folder / f"{unit}{number}.service").write_text(text)
    # Debian's unit as far as it matters, with the drop-in as it would be merged.
    own = "[Unit]\nDescription=Redis\n[Service]\nType=notify\nUser=redis\nGroup=redis\nExecStart=/usr/bin/redis-server\n"
    drop_in = (DEPLOY / "systemd/redis-server.service.d/jesse-jobs.conf").read_text().replace("/usr/bin/redis-server", program)
    (folder / "redis-jobs.service").write_text(own.replace("/usr/bin/redis-server", program) + drop_in)
    for name in ("jesse-jobs-backup.service", "jesse-jobs-backup.timer"):
        text = (DEPLOY / f"backup/{name}").read_text().replace("/usr/local/lib/jesse-jobs/backup", program)
        (folder / name).write_text(text)
    return folder


def test_systemd_accepts_the_units_and_finds_them_shut_in(tmp_path):
    needs("systemd-analyze")
    folder = units(tmp_path / "units")
    for unit in sorted(folder.iterdir()):
        said = run("systemd-analyze", "verify", "--man=no", unit)
        # Nothing to say about ours; other units of this machine are not our business.
        assert not [line for line in said.splitlines() if str(unit.name) in line], said
    for name in ("jesse-jobs-api@8101", "jesse-jobs-worker@1", "redis-jobs"):
        said = run("systemd-analyze", "security", "--offline=true", folder / f"{name}.service")
        exposure = float(re.search(r"exposure level for .*: ([0-9.]+)", said)[1])
        assert exposure <= MOST_EXPOSED, (name, exposure)


def test_prometheus_accepts_its_files(tmp_path):
    needs("promtool")
    for name in ("prometheus.yml", "rules.yml", "alerts.yml"):
        text = (DEPLOY / "prometheus" / name).read_text().replace("/run/secrets/admin_key", str(tmp_path / "key"))
        (tmp_path / name).write_text(text)
    (tmp_path / "key").write_text("key")
    run("promtool", "check", "config", tmp_path / "prometheus.yml")
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yml", tmp_path / "alerts.yml")
    run("promtool", "test", "rules", DEPLOY / "prometheus/alerts_test.yml")


def queries():
    """Every expression of rules, alerts and dashboards, and the names that rules make."""
    made, asked = set(), []
    for name in ("rules.yml", "alerts.yml"):
        for group in yaml.safe_load((DEPLOY / "prometheus" / name).read_text())["groups"]:
            made |= {rule["record"] for rule in group["rules"] if "record" in rule}
            asked += [rule["expr"] for rule in group["rules"]]
    for file in (DEPLOY / "grafana/dashboards").glob("*.json"):
        asked += [target["expr"] for panel in json.loads(file.read_text())["panels"] for target in panel["targets"]]
    return made, asked


def test_queries_name_only_metrics_that_exist(tmp_path):
    stack = Stack(tmp_path, apis=1, workers=1, haproxy=False, worker_metrics=True)
    try:
        # Prometheus's metrics with labels are there from their first value on.
        connection = http.client.HTTPConnection("localhost", stack.ports[0], timeout=60)
        answer, body = post(connection, "/v1/jobs?wait=30", analysis(1))
        assert answer.status == 200, body
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "strategy_list", "arguments": {}}}
        mcp = {"Accept": "application/json, text/event-stream"}
        answer, body = post(connection, "/mcp", call, mcp)
        assert answer.status == 200, body
        # What waits is told only while something does.
        post(connection, "/v1/queue/pause", {})
        post(connection, "/v1/jobs", analysis(2))
        answer, _ = post(connection, "/mcp", call | {"params": {"name": "backtest", "arguments": {"strategy": "None"}}}, mcp)
        texts = stack.exposition(stack.ports[0]) + until("the worker has counted", lambda: "run_duration" in (
            text := stack.exposition(stack.worker_ports[0])) and text)
        exist = set(re.findall(r"^([a-z_]+)(?=[{ ])", texts, re.M))
        made, asked = queries()
        named = set(re.findall(r"\b(jesse_[a-z_:0-9]+)", " ".join(asked)))
        assert named and named <= exist | made, named - exist - made
    finally:
        stack.close()


def test_kubernetes_files_fit_together():
    folder = DEPLOY / "kubernetes"
    named = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert sorted(named) == sorted(file.name for file in folder.glob("*.yaml") if file.name != "kustomization.yaml")
    things = [thing for name in named for thing in yaml.safe_load_all((folder / name).read_text())]
    by_kind = {(thing["kind"], thing["metadata"]["name"]): thing for thing in things}
    assert len(by_kind) == len(things)
    for (kind, name), thing in by_kind.items():
        assert thing["apiVersion"], name
        if kind not in ("Deployment", "StatefulSet"):
            continue
        pod = thing["spec"]["template"]
        assert thing["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items(), name
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True, name
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in thing["spec"].get("volumeClaimTemplates", [])}
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] and container["resources"]["limits"]["memory"], name
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes, name
    scaled = by_kind["ScaledObject", "worker"]["spec"]
    assert ("Deployment", scaled["scaleTargetRef"]["name"]) in by_kind
    _, asked = queries()
    assert re.findall(r"jesse_[a-z_]+", scaled["triggers"][0]["metadata"]["query"])[0] in " ".join(asked)


def test_the_handbook_knows_every_alert_and_every_file_it_names_is_there():
    text = (ROOT / "docs/operations.md").read_text()
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    told = set(re.findall(r"^\| (JesseJobs\w+) \|", text, re.M))
    assert told == {rule["alert"] for rule in rules}
    for path in re.findall(r"`((?:deploy|bench|docs)/[\w./-]+)`", text):
        # What deploy/secrets makes is made on the machine.
        assert path.startswith("deploy/secrets.d") or (ROOT / path).exists(), path
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.M)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors
