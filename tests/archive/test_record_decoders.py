"""Records are read by many threads, also the first of their type."""

import subprocess
import sys

PROGRAM = """
import sys, threading
sys.setswitchinterval(1e-6)
from archiver.archive import records
from archiver.errors import DamageError
barrier = threading.Barrier(4)
def read():
    barrier.wait()
    try:
        records.parse_record(b'{"kind":"seal","manifest":{"blake3":"0"}}', records.Seal, "it")
    except DamageError:
        pass
threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_threads_that_are_first_to_read_a_type_do_not_crash():
    for _ in range(8):
        assert subprocess.run([sys.executable, "-c", PROGRAM], check=False).returncode == 0
