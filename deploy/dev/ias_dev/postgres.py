"""PostgreSQL: a cluster of the stack's own, as an unprivileged user, on 127.0.0.1 alone."""

import hashlib
import os
import pwd
import re
import shutil
from pathlib import Path

import asyncpg

from ias_dev import commands, dotenv, programs, urls, waiting
from ias_dev.keys import Keys
from ias_dev.programs import Program
from ias_dev.settings import HOST, DevError, Settings

NAME = "postgres"
_OLDEST = 15
_ELSEWHERE = Path("/var/lib/ias-dev")

# Tuned for a developer's machine. fsync stays on: the exactness of the ledger is the point.
_CONFIGURATION = """\
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
max_connections = 200
shared_buffers = 128MB
max_wal_size = 1GB
checkpoint_timeout = 15min
wal_level = minimal
max_wal_senders = 0
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %a '
"""


def program(settings: Settings) -> Program:
    """The server. It stops fast (SIGINT): transactions are rolled back, data are flushed."""
    # Where a link leads to: the server's user may be unable to follow it.
    folder = programs.folder_of(settings, NAME).resolve()
    return Program(
        name=NAME,
        title="PostgreSQL",
        folder=folder,
        command=[str(_binaries() / "postgres"), "-D", str(_data(folder))],
        ports=[settings.ports.postgres],
        user=_user(),
        stop_signal="INT",
        stop_as_group=False,
        digest_of=[folder / "data" / "ias.conf"],
    )


def prepare(settings: Settings, keys: Keys) -> None:
    """Makes the cluster when there is none, and its configuration."""
    folder = programs.folder_of(settings, NAME)
    _make_folder(folder)
    data = _data(folder)
    if not (data / "PG_VERSION").exists():
        _initdb(folder, data, keys)
    text = _CONFIGURATION.format(host=HOST, port=settings.ports.postgres)
    dotenv.write_private(data / "ias.conf", text)
    if _user():
        shutil.chown(data / "ias.conf", _user())


def wait(settings: Settings, keys: Keys) -> None:
    """Returns once the database exists and answers."""
    waiting.until(
        lambda: waiting.run(_ensure_database(settings, keys)),
        "PostgreSQL",
        log=settings.logs / f"{NAME}.log",
    )


def remove(settings: Settings) -> None:
    """Removes data that had to live outside the stack's folder."""
    folder = programs.folder_of(settings, NAME)
    if folder.is_symlink():
        shutil.rmtree(folder.resolve(), ignore_errors=True)


def _user() -> str:
    """PostgreSQL refuses to run as root; Debian's package has a user for it."""
    if os.geteuid() != 0:
        return ""
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise DevError("There is no user `postgres`; install the package postgresql-15.") from None


def _data(folder: Path) -> Path:
    return folder.resolve() / "data"


def _binaries() -> Path:
    """Where the newest suitable PostgreSQL is installed."""
    found = [p for p in Path("/usr/lib/postgresql").glob("*/bin/initdb") if _version(p) >= _OLDEST]
    if found:
        return max(found, key=_version).parent
    return Path(programs.find("initdb")).resolve().parent


def _version(initdb: Path) -> int:
    match = re.match(r"\d+", initdb.parent.parent.name)
    return int(match.group()) if match else 0


def _make_folder(folder: Path) -> None:
    """The cluster's folder, or a link to one elsewhere when its user can't get to this one.

    Root's clones often lie below a home that nobody else may enter.
    """
    user = _user()
    if (
        not folder.exists()
        and user
        and not commands.succeeds(["/usr/bin/test", "-x", str(folder.parent)], user=user)
    ):
        key = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        real = _ELSEWHERE / key
        real.mkdir(parents=True, exist_ok=True)
        _ELSEWHERE.chmod(0o755)
        folder.unlink(missing_ok=True)
        folder.symlink_to(real)
    folder.mkdir(mode=0o700, exist_ok=True)
    if user:
        shutil.chown(folder, user, pwd.getpwnam(user).pw_gid)


def _initdb(folder: Path, data: Path, keys: Keys) -> None:
    user = _user()
    # An interrupted initdb leaves a partial cluster; only a whole one gets the final name.
    partial = folder.resolve() / "data.partial"
    shutil.rmtree(partial, ignore_errors=True)
    password = folder.resolve() / "password"
    dotenv.write_private(password, keys.postgres_password + "\n")
    if user:
        shutil.chown(password, user)
    try:
        commands.run(
            [
                str(_binaries() / "initdb"),
                *("--pgdata", str(partial), "--username", "postgres", "--pwfile", str(password)),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8"),
            ],
            folder=folder.resolve(),
            user=user,
        )
    finally:
        password.unlink()
    with (partial / "postgresql.conf").open("a") as file:
        file.write("include 'ias.conf'\n")
    partial.rename(data)


async def _ensure_database(settings: Settings, keys: Keys) -> None:
    connection = await asyncpg.connect(urls.superuser(settings, keys), timeout=5)
    try:
        if not await connection.fetchval("select true from pg_roles where rolname = 'ias'"):
            # CREATE ROLE takes no parameters; the password is of our own making, without quotes.
            await connection.execute(f"create role ias login password '{keys.database_password}'")
        if not await connection.fetchval("select true from pg_database where datname = 'ias'"):
            await connection.execute("create database ias owner ias")
    finally:
        await connection.close()
