"""Studies in a PostgreSQL server that the tests start: several searches, and a server that dies."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from quire.errors import StudyError
from quire.explore import Study, Task, search, sensitivity, storage
from quire.explore.ledger import Seat
from quire.explore.storage import LOST
from quire.explore.watch import Watch

pytestmark = pytest.mark.nightly

FORMATS = ["mxint2", "mxint3", "mxint4", "mxint6", "mxint8"]
START = 120.0  # seconds in which a server starts, on a machine that is busy


def find(program: str) -> str | None:
    """The path of a program of the server, which distributions keep out of PATH."""
    places = [str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(places))


class Server:
    """A PostgreSQL server in a folder of its own. Of root it runs as the user `postgres`."""

    def __init__(self, folder: Path, initdb: str, postgres: str) -> None:
        self.folder, self._postgres = folder / "data", postgres
        self._user: dict[str, Any] = {}
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        options = ["--auth=trust", "--username=quire", "--no-sync", "--encoding=UTF8"]
        command = [initdb, f"--pgdata={self.folder}", *options]
        subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd="/", **self._user)
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://quire@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories="]
        settings += [f"port={self.port}", "max_connections=40"]
        command = [self._postgres, "-D", str(self.folder)]
        for setting in settings:
            command += ["-c", setting]
        with (self.folder.parent / "log").open("a") as log:
            self.process = subprocess.Popen(command, stderr=log, cwd="/", **self._user)
        deadline = time.monotonic() + START
        while not self._answers():
            assert self.process.poll() is None, (self.folder.parent / "log").read_text()
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL, as for want of memory; the processes of its sessions end by themselves."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        import psycopg

        try:
            with psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=1):
                return True
        except psycopg.OperationalError:
            return False


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server; the tests are skipped where there is none."""
    initdb, postgres = find("initdb"), find("postgres")
    if initdb is None or postgres is None:
        pytest.skip("needs PostgreSQL: apt-get install -y postgresql")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to other users
        server = Server(Path(folder), initdb, postgres)
        try:
            yield server
        finally:
            server.process.send_signal(signal.SIGINT)
            server.process.wait()


def make_task() -> Task:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 24), nn.GELU(), nn.Linear(24, 4)).eval()
    x = torch.randn(64, 32)
    y = model(x).detach()
    return Task(
        model, (x[:2],), lambda q: {"error": float((q(x) - y).square().mean())}, calibration=(x,)
    )


def run(url: str, name: str, **options: Any) -> Study:
    given: dict[str, Any] = {"trials": 20, "progress": False} | options
    goal = {"error": "min", "bits": "min"}
    return search(make_task(), FORMATS, goal, storage=url, name=name, **given)


def without_seconds(study: Study) -> list[Any]:
    return [(t.number, t.formats, t.metrics, t.state, t.label) for t in study.trials]


def test_a_study_is_the_same_as_in_a_journal(server: Server, tmp_path: Path) -> None:
    journal = str(tmp_path / "study.journal")
    study = run(server.url, "same", sampler="program")
    assert without_seconds(study) == without_seconds(run(journal, "same", sampler="program"))
    assert Study.load("same", server.url).trials == study.trials
    again = run(server.url, "same", sampler="program", trials=25)
    assert again.trials[:20] == study.trials
    task = make_task()
    values = [sensitivity(task, FORMATS, storage=s, progress=False) for s in (server.url, journal)]
    assert values[0].values == values[1].values


def test_who_watches_a_study_cannot_write(server: Server) -> None:
    with pytest.raises(StudyError, match=r"there is no study in|no study in .* is named"):
        Watch("none", server.url)
    study = run(server.url, "watched", trials=6)
    watch = Watch("watched", server.url)
    seen = watch.look()
    assert (seen.trials, seen.planned) == (study.trials, 6)
    with pytest.raises(LOST) as refused:
        watch._stored.set_user_attr("key", 1)
    assert "read-only transaction" in str(refused.value.__cause__)
    more = run(server.url, "watched", trials=9)
    assert watch.look().trials == more.trials


def test_a_seat_is_free_again_when_its_holder_is_killed(server: Server, tmp_path: Path) -> None:
    code = (
        "import sys, time; from quire.explore.ledger import Seat; "
        f"seat = Seat('seats', {server.url!r}, False); print('sits', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"sits\n"
    with pytest.raises(StudyError, match=f"is being searched by process {process.pid} on"):
        run(server.url, "seats")
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while True:  # the server notices
        try:
            seat = Seat("seats", server.url, shared=True)
            break
        except StudyError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    other = Seat("seats", server.url, shared=True)
    assert other.lives(seat.identity)
    seat.close()
    while other.lives(seat.identity):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    other.close()


SEARCH = """
import json, os, sys, time
import torch
from torch import nn
from quire.explore import Task, search

name, url, trials = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(32, 24), nn.GELU(), nn.Linear(24, 4)).eval()
x = torch.randn(64, 32)
y = model(x).detach()
log = os.open("log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

def evaluate(q):
    time.sleep(0.02)
    error = float((q(x) - y).square().mean())
    os.write(log, (json.dumps(error) + "\\n").encode())
    return {"error": error}

study = search(
    Task(model, (x[:2],), evaluate), ["mxint2", "mxint3", "mxint4", "mxint6", "mxint8"],
    {"error": "min", "bits": "min"}, trials=trials, join=True, name=name, storage=url,
    sampler="random", progress=False,
)
assert len(study.trials) == trials
"""


def start(folder: Path, url: str, name: str, trials: int) -> "subprocess.Popen[bytes]":
    (folder / "script.py").write_text(SEARCH)
    command = [sys.executable, "script.py", name, url, str(trials)]
    return subprocess.Popen(command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"})


def evaluated(folder: Path) -> int:
    log = folder / "log"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def test_processes_that_join_share_the_trials(server: Server, tmp_path: Path) -> None:
    searches = [start(tmp_path, server.url, "joined", 80) for _ in range(3)]
    while evaluated(tmp_path) < 30:
        time.sleep(0.01)
    searches[0].kill()
    assert [search.wait() for search in searches] == [-signal.SIGKILL, 0, 0]
    study = Study.load("joined", server.url)
    plans = Counter(json.dumps(trial.formats) for trial in study.trials)
    assert len(study.trials) == len(plans) == 80
    assert evaluated(tmp_path) <= 80 + 1  # what the killed one was at


def test_a_server_that_is_killed_and_comes_back(server: Server, tmp_path: Path) -> None:
    process = start(tmp_path, server.url, "outage", 100)
    for trials in (20, 40, 60):
        while evaluated(tmp_path) < trials:
            assert process.poll() is None
            time.sleep(0.003)
        server.kill()
        time.sleep(1.0)
        server.start()
    assert process.wait() == 0
    study = Study.load("outage", server.url)
    plans = Counter(json.dumps(trial.formats) for trial in study.trials)
    assert len(study.trials) == len(plans) == 100
    assert evaluated(tmp_path) == 100


def test_a_server_that_stays_away_is_an_error(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(storage, "PATIENCE", 2.0)
    told: list[int] = []

    def kill(trial: Any) -> None:
        told.append(trial.number)
        if len(told) == 5:
            server.kill()

    with pytest.raises(StudyError, match=r"postgresql.* fails: .*; what is in it is kept: "):
        run(server.url, "away", on_trial=kill)
    assert f"127.0.0.1:{server.port}/postgres is gone: waiting 2 s" in capsys.readouterr().err
    server.start()
    assert len(Study.load("away", server.url).trials) >= 6
    assert len(run(server.url, "away").trials) == 20


def test_a_place_that_another_search_took_meanwhile_is_an_error(server: Server) -> None:
    taken: list[Seat] = []

    def usurp(trial: Any) -> None:
        if trial.number == 5:
            server.kill()
            server.start()
            taken.append(Seat("usurped", server.url, shared=False))

    with pytest.raises(StudyError, match=f"is being searched by process {os.getpid()} on"):
        run(server.url, "usurped", on_trial=usurp)
    taken[0].close()
    assert len(Study.load("usurped", server.url).trials) == 6


def test_searches_that_find_a_new_database_at_once_make_one_study(
    server: Server, tmp_path: Path
) -> None:
    import psycopg

    with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("create database fresh")
    url = server.url.replace("/postgres", "/fresh")
    searches = [start(tmp_path, url, "new", 30) for _ in range(3)]
    assert [search.wait() for search in searches] == [0, 0, 0]
    assert evaluated(tmp_path) == 30
