"""What is compared: our server in its variants, and the peers, each on a fresh copy of the data."""

import asyncio
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import storing
from benchmarks.processes import Process, await_listening, cores, cpu_seconds, free_port
from benchmarks.workloads import DRAGOMAN, PEERS, WORKLOADS, Spelling
from tests.support.databases import drop_orphans, new_name
from tests.support.server import POSTGRES, RunningServer

PEER_FILES = Path(__file__).with_name("peers")


def place() -> Path:
    """Where everything that is prepared belongs: ``BENCH_HOME``, else one of the user's cache."""
    given = os.environ.get("BENCH_HOME")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(given).resolve() if given else cache / "dragoman-benchmarks"


def home() -> Path:
    """The folder at :func:`place`, made if need be."""
    place().mkdir(parents=True, exist_ok=True)
    return place()


def prepare_node() -> None:
    """Install the Node peers' packages, unless these very ones are there."""
    wanted = PEER_FILES / "package.json"
    have = home() / "package.json"
    modules = home() / "node_modules"
    if modules.is_dir() and have.exists() and have.read_bytes() == wanted.read_bytes():
        return
    if shutil.which("npm") is None:
        raise SystemExit("the Node peers need Node.js 20 or newer; leave them out with --peers")
    print("installing the Node peers' packages")
    shutil.copyfile(wanted, have)
    options = ("--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")
    try:
        subprocess.run(["npm", "install", *options], cwd=home(), check=True)
    except subprocess.CalledProcessError:
        have.unlink()
        raise SystemExit("npm install failed") from None


def _template(name: str) -> Path:
    """A folder that is filled once for this data set and shape of the database."""
    return home() / f"{name}-{storing.fingerprint()}"


def our_template() -> tuple[Path, str]:
    """Our database, filled, and the site owner's token in it."""
    folder = _template("dragoman")
    token = folder / "token"
    if not token.exists():
        print("filling our tables")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        token.write_text(asyncio.run(storing.store_in_ours(folder / "data")))
    return folder / "data", token.read_text()


def peers_template() -> Path:
    """The peers' database, filled."""
    path = _template("peers") / "board.db"
    if not path.exists():
        print("filling the peers' tables")
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        storing.store_in_peers(partial)
        partial.rename(path)
    return path


def our_postgres_template() -> tuple[str, str]:
    """Our database on PostgreSQL, filled, by name; and the site owner's token in it."""
    folder = _template("dragoman-postgres")
    # Named after the folder too: who prepares elsewhere does not share it.
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    name, token = f"dragoman_bench_{digest}", folder / "token"
    asyncio.run(drop_orphans(POSTGRES))
    exists = postgres("SELECT 1 FROM pg_database WHERE datname = $1", name)
    if not token.exists() or not exists:
        print("filling our tables on PostgreSQL")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        postgres(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        postgres(f"CREATE DATABASE {name}")
        secret = asyncio.run(storing.store_in_ours(folder / "data", f"{POSTGRES}/{name}"))
        postgres("VACUUM ANALYZE", database=name)
        token.write_text(secret)
    return name, token.read_text()


def postgres(statement: str, *values: object, database: str = "postgres") -> list[tuple[int, ...]]:
    import asyncpg

    async def run() -> list[tuple[int, ...]]:
        connection = await asyncpg.connect(f"{POSTGRES}/{database}")
        try:
            return [tuple(row) for row in await connection.fetch(statement, *values)]
        finally:
            await connection.close()

    return asyncio.run(run())


class Candidate(ABC):
    """A server that answers the workloads, running between ``start`` and ``stop``."""

    about: str
    spelling: Spelling = PEERS
    workloads: Sequence[str] = WORKLOADS
    token: str | None = None
    url: str

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        folder.mkdir(parents=True)

    @abstractmethod
    def start(self) -> None:
        """Start on a fresh copy of the data; returns when it answers."""

    @abstractmethod
    def pids(self) -> list[int]:
        """The processes whose CPU time counts."""

    @abstractmethod
    def stop(self) -> None:
        """End it; nothing is left."""

    @abstractmethod
    def events(self) -> int:
        """How many events its database holds."""

    def cpu(self) -> float:
        """CPU seconds its processes have taken since they were started."""
        return cpu_seconds(self.pids())

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        authorization = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return {"Content-Type": "application/json", **authorization}


class Dragoman(Candidate):
    """Our server as an operator starts it; only the durability of writes may differ."""

    about = "Dragoman, synchronous=NORMAL"
    spelling = DRAGOMAN
    settings: Mapping[str, str] = {"SQLITE_SYNCHRONOUS": "NORMAL"}

    def start(self) -> None:
        template, self.token = our_template()
        shutil.copytree(template, self.folder / "data")
        self._serve(None)

    def _serve(self, database_url: str | None) -> None:
        self.server = RunningServer(
            self.folder, database_url=database_url, settings=self.settings, token=self.token or ""
        )
        self.server.start()
        assert self.server.process is not None
        for thread in Path(f"/proc/{self.server.process.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores()[0])
        self.url = f"{self.server.url}/graphql"

    def pids(self) -> list[int]:
        assert self.server.process is not None
        return [self.server.process.pid]

    def stop(self) -> None:
        self.server.end()

    def events(self) -> int:
        return _count_events(self.folder / "data" / "dragoman.db")


class DragomanFull(Dragoman):
    """With every write on the disk before it is acknowledged: the default."""

    about = "Dragoman, synchronous=FULL (default)"
    workloads = ("w3",)
    settings: Mapping[str, str] = {}


class DragomanPostgres(Dragoman):
    """Over PostgreSQL; the CPU of the database server counts."""

    about = "Dragoman, PostgreSQL"

    def start(self) -> None:
        template, self.token = our_postgres_template()
        self.database = new_name("bench")
        postgres(f"CREATE DATABASE {self.database} TEMPLATE {template}")
        self._serve(f"{POSTGRES}/{self.database}")

    def pids(self) -> list[int]:
        return [*super().pids(), *backends(self.database)]

    def stop(self) -> None:
        super().stop()
        postgres(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")

    def events(self) -> int:
        return postgres("SELECT count(*) FROM event", database=self.database)[0][0]


class Peer(Candidate):
    """Somebody else's way to build such a server."""

    script: str
    environment: Mapping[str, str] = {}

    def start(self) -> None:
        self._serve(self._copy())

    def _copy(self) -> str:
        self._database = self.folder / "board.db"
        shutil.copyfile(peers_template(), self._database)
        return str(self._database)

    def _serve(self, database: str) -> None:
        port = free_port()
        environment = {**self.environment, "DB": database, "PORT": str(port)}
        if self.script.endswith(".js"):
            prepare_node()
            program = "node"
            environment |= {"NODE_PATH": str(home() / "node_modules"), "NODE_ENV": "production"}
        else:
            program = sys.executable
        command = [program, str(PEER_FILES / self.script)]
        log = self.folder / "server.log"
        self.process = Process(command, environment, folder=self.folder, log=log)
        await_listening(self.process, port)
        self.url = f"http://127.0.0.1:{port}/graphql"

    def pids(self) -> list[int]:
        self.process.require_alive()
        return [self.process.pid]

    def stop(self) -> None:
        self.process.stop()

    def events(self) -> int:
        return _count_events(self._database)


class MercuriusDataLoader(Peer):
    about = "Fastify + Mercurius, graphql-jit, dataloader; lean tables, no authentication"
    script = "mercurius.js"


class MercuriusLoaders(MercuriusDataLoader):
    about = "the same with Mercurius' own loaders"
    environment: Mapping[str, str] = {"BATCH": "loaders"}


class MercuriusEqual(Peer):
    about = "Mercurius, graphql-jit, dataloader; our tables, our statements, a token checked"
    script = "equal.js"
    spelling = DRAGOMAN

    def _copy(self) -> str:
        template, self.token = our_template()
        self._database = self.folder / "dragoman.db"
        shutil.copyfile(template / "dragoman.db", self._database)
        return str(self._database)


class Naive(Peer):
    about = "Strawberry + SQLModel ORM + DataLoader + aiosqlite, as tutorials do; lean tables"
    script = "naive.py"


class AsyncpgFloor(Peer):
    about = "no GraphQL: asyncpg, two statements by hand, orjson; our tables on PostgreSQL"
    script = "asyncpg_floor.py"
    spelling = DRAGOMAN
    workloads = ("w1", "w2")

    def _copy(self) -> str:
        template, _token = our_postgres_template()
        self.database = new_name("floor")
        postgres(f"CREATE DATABASE {self.database} TEMPLATE {template}")
        return f"{POSTGRES}/{self.database}"

    def pids(self) -> list[int]:
        return [*super().pids(), *backends(self.database)]

    def stop(self) -> None:
        super().stop()
        postgres(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")


SQLITE: dict[str, type[Candidate]] = {
    "dragoman": Dragoman,
    "dragoman-full": DragomanFull,
    "mercurius-dl": MercuriusDataLoader,
    "mercurius-equal": MercuriusEqual,
    "mercurius-loaders": MercuriusLoaders,
    "strawberry-naive": Naive,
}
POSTGRESQL: dict[str, type[Candidate]] = {
    "dragoman": DragomanPostgres,
    "asyncpg-floor": AsyncpgFloor,
}


def make(kinds: dict[str, type[Candidate]], chosen: Sequence[str]) -> list[Candidate]:
    """The chosen candidates in a folder of their own; who stops them removes it."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=home()))
    return [kinds[name](name, folder / name) for name in chosen]


def _count_events(path: Path) -> int:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
    try:
        return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])
    finally:
        connection.close()


def backends(database: str) -> list[int]:
    """PostgreSQL's processes for one database, and those that work for all."""
    statement = """SELECT pid FROM pg_stat_activity
        WHERE (datname = $1 AND backend_type = 'client backend')
        OR backend_type IN ('walwriter', 'checkpointer', 'background writer')"""
    return [row[0] for row in postgres(statement, database)]
