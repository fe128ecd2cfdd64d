"""Items, users and their schema as an artefact of their own: they are read again only when their files change."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import Draft, Spec, create
from pipeline.event_parts import ROW_GROUP
from pipeline.rejects import Account, Rejects
from pipeline.storage import Location
from pipeline.tables import Schema

KIND, VERSION = "catalogue", 1


class CatalogueWriter:
    """Takes the catalogue of one source. Use `write_catalogue`.

    `account(name)` opens the account of one source file; `ignored_columns` names what an importer had to leave out.
    """

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._rejects = Rejects(draft.dir / "rejects.csv")
        self._accounts: list[Account] = []
        self.ignored_columns: list[str] = []

    def account(self, file: str) -> Account:
        account = Account(file, self._rejects)
        self._accounts.append(account)
        return account

    def write(self, schema: Schema, items: pa.Table | None, users: pa.Table | None) -> None:
        """Write items and users (None: the source has none), cast to the schema's types. Ids must be unique."""
        for name, table, arrow in (("items", items, schema.items()), ("users", users, schema.users())):
            table = arrow.empty_table() if table is None else table.select(arrow.names).cast(arrow)
            pq.write_table(table, self._draft.dir / f"{name}.parquet", row_group_size=ROW_GROUP)
            self._draft.counts[name] = table.num_rows
        text = json.dumps(schema.as_json(), indent=1)
        (self._draft.dir / "schema.json").write_text(text, encoding="utf-8")

    def finish(self) -> None:
        """Write the counts."""
        self._draft.counts["outcomes"] = {account.file: account.outcome.as_json() for account in self._accounts}
        self._draft.counts["ignored_columns"] = self.ignored_columns

    def __enter__(self) -> "CatalogueWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rejects.__exit__(kind, error, trace)


@contextmanager
def write_catalogue(path: Location, spec: Spec) -> Iterator[CatalogueWriter]:
    """Write the catalogue artefact; it becomes visible when the block ends well."""
    with create(path, spec) as draft, CatalogueWriter(draft) as writer:
        yield writer
        writer.finish()
