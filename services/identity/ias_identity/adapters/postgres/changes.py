"""The note of each change for other processes' caches, and the reading of it."""

from ias_runtime.postgres import Connection, Pool

_OVERLAP_S = 15
"""How far back each reading goes: numbers are given before commits, so they can appear late."""
_KEEP_S = 600


async def note(connection: Connection, kind: str, identifier: str) -> None:
    """Notes a change, inside its own transaction."""
    await connection.execute(
        "insert into identity.changes (kind, id) values ($1, $2)", kind, identifier
    )


class PostgresChanges:
    """Reads what has changed since the last reading."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._seen: set[int] = set()

    async def unseen(self) -> list[str]:
        """The ids of what has changed since the last call, up to 15 s ago."""
        rows = await self._pool.fetch(
            "select sequence, id::text as id from identity.changes"
            " where occurred_at > clock_timestamp() - make_interval(secs => $1)",
            float(_OVERLAP_S),
        )
        new = [row["id"] for row in rows if row["sequence"] not in self._seen]
        self._seen = {row["sequence"] for row in rows}
        return new

    async def purge(self) -> None:
        """Deletes notes that nobody reads any more."""
        await self._pool.execute(
            "delete from identity.changes"
            " where occurred_at < clock_timestamp() - make_interval(secs => $1)",
            float(_KEEP_S),
        )
