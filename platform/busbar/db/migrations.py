"""What a module declares of its schema."""

from collections.abc import Sequence

from piccolo.table import Table


class SchemaApp:
    """The tables of one module, and the package whose `.sql` files bring them about.

    `name` is the PostgreSQL schema and the first word of every migration file's name, as in `pm_0001_tables.sql`
    (LESSONS D12). `depends_on` names the modules whose migrations run before.
    """

    def __init__(
        self, *, name: str, tables: Sequence[type[Table]], migrations: str, depends_on: Sequence[str] = ("core",)
    ) -> None:
        self.name = name
        self.tables = tuple(tables)
        self.migrations = migrations
        self.depends_on = tuple(depends_on)
