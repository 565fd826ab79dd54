"""Programs that are killed come back; what is stopped stays stopped; nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ias_dev import orphans, programs
from ias_dev.programs import Program
from ias_dev.settings import DevError, Ports, Settings
from ias_dev.supervisor import Supervisor

SLEEPER = [sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(600)"]


@pytest.fixture(params=["short", "a folder's name with blanks and 'quotes' " + "x" * 80])
def settings(request, tmp_path) -> Settings:
    folder = tmp_path / request.param
    folder.mkdir()
    return Settings(tmp_path, folder, Ports(28180))


def sleeper(settings: Settings, **changes) -> Program:
    folder = programs.folder_of(settings, "sleeper")
    return Program(name="sleeper", title="sleeper", folder=folder, command=SLEEPER, **changes)


@pytest.fixture
def supervisor(settings):
    made = Supervisor(settings)
    programs.prepare(sleeper(settings))
    made.configure([sleeper(settings)])
    made.start()
    made.reload()
    yield made
    if made.alive():
        made.shutdown(["sleeper"])
    orphans.end([sleeper(settings)])


def until(check, seconds: float = 10) -> None:
    ends = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < ends, "not in time"
        time.sleep(0.02)


def running(supervisor: Supervisor) -> bool:
    return supervisor.state("sleeper").state == "RUNNING"


def exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_program_comes_back(supervisor):
    assert supervisor.run("sleeper")
    until(lambda: running(supervisor))
    killed = supervisor.state("sleeper").pid
    os.kill(killed, signal.SIGKILL)
    until(lambda: supervisor.state("sleeper").pid not in (0, killed))


def test_a_running_program_is_left_alone(supervisor):
    supervisor.run("sleeper")
    until(lambda: running(supervisor))
    pid = supervisor.state("sleeper").pid
    assert not supervisor.run("sleeper")
    supervisor.reload()
    assert supervisor.state("sleeper").pid == pid


def test_a_changed_program_is_stopped_to_be_started_anew(supervisor, settings):
    supervisor.run("sleeper")
    until(lambda: running(supervisor))
    changed = sleeper(settings, environment={"IAS_A": "it's 100 % new"})
    programs.prepare(changed)
    supervisor.configure([changed])
    supervisor.reload()
    assert supervisor.state("sleeper").pid == 0
    assert supervisor.run("sleeper")
    until(lambda: running(supervisor))
    environment = Path(f"/proc/{supervisor.state('sleeper').pid}/environ").read_bytes()
    assert b"IAS_A=it's 100 % new\0" in environment


def test_after_shutdown_nothing_runs(supervisor):
    supervisor.run("sleeper")
    until(lambda: running(supervisor))
    pids = supervisor.pid, supervisor.state("sleeper").pid
    supervisor.shutdown(["sleeper"])
    assert not supervisor.alive()
    assert not any(exists(pid) for pid in pids)


def test_what_a_killed_supervisord_leaves_is_found_and_ended(supervisor, settings):
    supervisor.run("sleeper")
    until(lambda: running(supervisor))
    orphan = supervisor.state("sleeper").pid
    daemon = supervisor.pid
    os.kill(daemon, signal.SIGKILL)
    until(lambda: not exists(daemon))
    assert exists(orphan)
    assert orphans.end([sleeper(settings)]) == ["sleeper"]
    assert not exists(orphan)
    supervisor.start()  # the stale socket and pid file are no obstacle
    assert supervisor.alive()


def test_a_pid_that_another_process_has_by_now_is_left_alone(settings):
    program = sleeper(settings)
    program.folder.mkdir()
    with subprocess.Popen(SLEEPER, stdout=subprocess.PIPE) as stranger:
        (program.folder / "pid").write_text(f"{stranger.pid}\n")
        assert orphans.end([program]) == []
        assert stranger.poll() is None
        stranger.kill()


def test_a_path_that_supervisor_cannot_take_is_a_clear_error(tmp_path):
    settings = Settings(tmp_path, tmp_path / "100 %", Ports(28180))
    with pytest.raises(DevError, match="may hold no %"):
        Supervisor(settings).configure([])


def test_an_unknown_program_is_a_clear_error(supervisor):
    with pytest.raises(DevError, match="no program 'nobody'"):
        supervisor.state("nobody")
