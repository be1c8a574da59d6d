"""A backup that is taken while clients go on, brought back on an empty folder."""
import json
import os
import subprocess

from load import Load
from stack import DEPLOY, Redis, Stack, get, stop, until


def test_every_job_acknowledged_before_the_backup_is_in_it(tmp_path):
    stack = Stack(tmp_path, apis=1, workers=1)
    try:
        with Load(stack, rate=100) as load:
            until("some jobs are there", lambda: len(load.acknowledged) >= 100)
            # None of these has ended when Redis is saved, and they must go on afterwards.
            stop(stack.workers[0])
            waiting = len(load.acknowledged)
            until("some jobs wait", lambda: len(load.acknowledged) >= waiting + 20)
            before = list(load.acknowledged)
            settings = tmp_path / "jesse-jobs.env"
            settings.write_text("LOG_LEVEL=warn\n")
            own = {"REDIS_PORT": str(stack.redis.port), "REDIS_USER": "backup", "BLOBS": str(stack.data / "blobs"),
                   "REDISCLI_AUTH": (stack.secrets / "backup_password").read_text()}
            taken = subprocess.run([DEPLOY / "backup/backup", tmp_path / "backups", settings], env=dict(os.environ, **own),
                                   capture_output=True, text=True, timeout=120)
            assert taken.returncode == 0, taken.stderr
            after = len(load.acknowledged)
        assert not load.noticed, load.noticed[:3]
        archive = taken.stdout.strip()

        # Another Redis, other folders: what the first ones hold counts for nothing any more.
        stop(stack.redis.process)
        restored = tmp_path / "restored"
        subprocess.run([DEPLOY / "backup/restore", archive, restored / "redis", restored / "data/blobs", restored / "settings"],
                       check=True, timeout=120)
        assert (restored / "settings" / settings.relative_to("/")).read_text() == settings.read_text()
        stop(stack.apis[0])
        stack.data, stack.redis = restored / "data", Redis(restored, stack.secrets)
        stack.apis[0], stack.workers[0] = stack.start_api(stack.ports[0]), stack.start_worker()
        until("the restored deployment is ready", lambda: stack.is_ready(stack.ports[0]))
        for job in before:
            status, body = get(stack.ports[0], f"/v1/jobs/{job}?wait=60", timeout=90)
            assert status == 200 and json.loads(body)["state"] == "succeeded", (status, body)
        assert after >= len(before) > waiting
    finally:
        stack.close()


def test_a_damaged_archive_and_a_folder_in_use_are_refused(tmp_path):
    restore = DEPLOY / "backup/restore"
    used = tmp_path / "used"
    used.mkdir()
    (used / "a").write_text("data")
    refused = subprocess.run([restore, "any.tar.gz", used, tmp_path / "blobs"], capture_output=True, text=True)
    assert refused.returncode == 1 and "is not empty" in refused.stderr

    content = tmp_path / "content"
    content.mkdir()
    (content / "dump.rdb").write_bytes(b"REDIS0011 cut off")
    (content / "SHA256SUMS").write_text("0" * 64 + "  ./dump.rdb\n")
    subprocess.run(["tar", "czf", tmp_path / "bad.tar.gz", "-C", content, "."], check=True)
    refused = subprocess.run([restore, tmp_path / "bad.tar.gz", tmp_path / "r", tmp_path / "b"], capture_output=True, text=True)
    assert refused.returncode == 1 and "damaged" in refused.stderr
    assert not list((tmp_path / "r").iterdir())
