"""A driver that is killed leaves nothing behind; one that ends by itself is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from flowsearch.search import reaper

DRIVER = """
import os, subprocess, sys, time
from flowsearch.search import reaper
with reaper.reaped():
    program = [sys.executable, "-c", "import time; time.sleep(60)"]
    child = subprocess.Popen(program, start_new_session=True, stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_killed", [True, False])
def test_what_a_killed_driver_has_started_goes_too(is_killed: bool) -> None:
    program = [sys.executable, "-c", DRIVER]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        child = int(driver.stdout.readline())
        (process,) = {one for one in reaper.processes() if one[0] == child}
        mine = {one for one in reaper.descendants([driver.pid]) if one[0] != child}
        assert len(mine) == 1  # the reaper itself
        time.sleep(1.5)  # it has looked
        if is_killed:
            driver.send_signal(signal.SIGKILL)
        else:
            driver.communicate("\n")
        driver.wait()
        end = time.monotonic() + reaper.GRACE + 15
        while mine & reaper.processes().keys():
            assert time.monotonic() < end
            time.sleep(0.1)
        is_alive = process in reaper.processes()
    assert is_alive is not is_killed
    if is_alive:
        os.kill(child, signal.SIGKILL)
