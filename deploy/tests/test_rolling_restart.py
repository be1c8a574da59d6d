"""Every process is restarted while clients go on."""
import time

from load import Load, check
from stack import Stack


def test_no_client_notices_that_everything_is_restarted(tmp_path):
    stack = Stack(tmp_path, apis=2, workers=2)
    try:
        with Load(stack, rate=100) as load:
            time.sleep(1)
            stack.restart_api(0)
            stack.restart_api(1)
            stack.restart_worker(0)
            stack.restart_redis()
            stack.replace_api(0)
            stack.restart_worker(1)
            time.sleep(1)
        print(load.table())
        check(stack, load)
    finally:
        stack.close()
