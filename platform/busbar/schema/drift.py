"""Tells where the migrated database and the Piccolo tables, the one definition of the schema, disagree."""

import re
from collections.abc import Sequence

from piccolo.table import Table

from busbar.db import execute, fetch, transaction
from busbar.db.migrations import SchemaApp

_COLUMNS = """
select c.table_name, c.column_name, c.data_type, c.is_nullable
from information_schema.columns c where c.table_schema = $1 and c.is_generated = 'NEVER'
"""
"""A generated column says nothing that the others do not; like an index it is for searching, and Piccolo has none."""
_CONSTRAINTS = """
select t.relname, k.contype::text, pg_get_constraintdef(k.oid) as definition
from pg_constraint k join pg_class t on t.oid = k.conrelid join pg_namespace n on n.oid = t.relnamespace
where n.nspname = $1 and k.contype in ('p', 'u', 'c', 'f')
"""


class _Undone(Exception):
    """Rolls the scratch schema back."""


def create_table_sql(table: type[Table]) -> list[str]:
    """The statements that Piccolo would create the table with, constraints included."""
    return [sql.replace('"', "").replace("DEFAULT null", "") for sql in table.create_table().ddl]


async def drift(app: SchemaApp) -> list[str]:
    """One sentence for each column or constraint that only the tables, or only the database, have."""
    migrated = await _shape(app.name)
    defined: set[tuple[str, ...]] = set()
    try:
        async with transaction():
            await execute(f"drop schema {app.name} cascade")
            for table in app.tables:
                for statement in create_table_sql(table):
                    await execute(statement)
            defined = await _shape(app.name)
            raise _Undone
    except _Undone:
        pass
    ours = {table._meta.tablename for table in app.tables}
    missing = [f"not migrated: {' '.join(item)}" for item in sorted(defined - migrated)]
    unknown = [f"not in the tables: {' '.join(item)}" for item in sorted(migrated - defined) if item[0] in ours]
    return missing + unknown


async def _shape(schema: str) -> set[tuple[str, ...]]:
    columns = {
        (r["table_name"], r["column_name"], r["data_type"], r["is_nullable"]) for r in await fetch(_COLUMNS, schema)
    }
    constraints = {(r["relname"], r["contype"], _plain(r["definition"])) for r in await fetch(_CONSTRAINTS, schema)}
    return columns | constraints


def _plain(definition: str) -> str:
    return re.sub(r"\s+", " ", definition)


def tables_sql(tables: Sequence[type[Table]]) -> str:
    """A first migration for the tables, one column a line; a developer starts from it."""
    text = []
    for table in tables:
        for statement in create_table_sql(table):
            if statement.startswith("CREATE SCHEMA"):
                continue
            statement = re.sub(r" +", " ", statement).replace("( ", "(").replace(" ,", ",").replace(" )", ")")
            statement = re.sub(r"\((?=\w+ [A-Z]+)", "(\n    ", statement, count=1)
            statement = re.sub(r", (?=\w+ [A-Z]{3,})", ",\n    ", statement)
            text.append(statement.strip() + ";")
    return "\n".join(text) + "\n"
