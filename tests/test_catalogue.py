"""pipeline/catalogue.py against plain Python on small tables."""

import numpy as np
import pyarrow as pa
import pytest
from beam_fixtures import SCHEMA, random_catalogue, random_log, run_through, small_config, write_log
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalogue import (
    EncodedField,
    FieldTable,
    Vocabularies,
    encode_multi,
    encode_numeric,
    item_table,
    titles,
    user_table,
)
from pipeline.errors import ArtifactError
from pipeline.tables import Tables
from pipeline.vocabulary import Vocabulary

LISTS = st.lists(st.none() | st.lists(st.none() | st.sampled_from(["", "a", "b", "c", "unknown"]), max_size=5))
KNOWN = Vocabulary(pa.array(["b", "", "a", "c"]), np.ones(4, np.int64))


@given(LISTS)
def test_a_list_is_a_set_of_its_known_values(lists):
    encoded = encode_multi(pa.chunked_array([lists], pa.list_(pa.string())), KNOWN)
    assert encoded.dtype == np.int32
    for values, row in zip(lists, encoded.tolist(), strict=True):
        named = [v for v in dict.fromkeys(values or []) if v]
        expected = [{"b": 1, "a": 3, "c": 4}[v] for v in named if v != "unknown"] if named else [2]
        assert [code for code in row if code] == expected
        assert row == expected + [0] * (len(row) - len(expected))  # padding comes last
    assert encoded.shape[1] == max([1, *(np.count_nonzero(row) for row in encoded)])


@given(st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True)), st.sets(st.floats(-9, 9)))
def test_a_bucket_counts_the_boundaries_at_or_below(numbers, boundaries):
    ascending = np.array(sorted(boundaries))
    column = pa.chunked_array([numbers], pa.float64())
    for number, bucket in zip(numbers, encode_numeric(column, ascending).tolist(), strict=True):
        missing = number is None or number != number
        assert bucket == (len(boundaries) + 2 if missing else 1 + sum(b <= number for b in boundaries))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    config = small_config(tmp_path_factory.mktemp("catalogue"), split={"min_events": 1})
    items, users = random_catalogue(seed=1)
    write_log(config, random_log(seed=1), SCHEMA, items, users)
    run_through(config, "vocabularies")
    return items, users, Tables.read(config.tables_dir), Vocabularies.read(config.prepared_dir("vocabularies"))


def values_of(table: FieldTable, vocabulary: dict[str, Vocabulary], name: str, row: int) -> list[str]:
    return [vocabulary[name].value(code) for code in np.atleast_1d(table.columns[name][row]).tolist() if code]


def test_the_item_table_holds_each_items_values(prepared):
    items, _, tables, known = prepared
    table = item_table(tables, known)
    for row in range(len(items["item_id"])):
        index = known.items.index(items["item_id"][row])
        assert table.columns["item_id"][index] == index
        assert values_of(table, known.item_fields, "genre", index) == [items["genre"][row] or ""]
        expected = list(dict.fromkeys(items["tags"][row])) or [""]
        assert values_of(table, known.item_fields, "tags", index) == expected
        assert titles(tables, known)[index] == items["title"][row]


def test_row_0_is_all_zeros_and_an_item_outside_the_catalogue_misses_every_value(prepared):
    items, _, tables, known = prepared
    table = item_table(tables, known)
    assert all(not column[0].any() for column in table.columns.values())
    outside = known.items.index("i20")
    assert "i20" not in items["item_id"]
    assert outside > 0
    assert values_of(table, known.item_fields, "genre", outside) == [""]
    assert values_of(table, known.item_fields, "tags", outside) == [""]
    assert table.columns["year"][outside] == len(known.boundaries["item.year"]) + 2
    assert [titles(tables, known)[i] for i in (0, outside)] == ["", ""]


def test_fields_come_in_the_order_of_the_schema_with_their_sizes(prepared):
    _, _, tables, known = prepared
    assert item_table(tables, known).fields == (
        EncodedField("item_id", "categorical", known.items.size),
        EncodedField("genre", "categorical", known.item_fields["genre"].size, known.item_fields["genre"].index("")),
        EncodedField("tags", "multi", known.item_fields["tags"].size, known.item_fields["tags"].index("")),
        EncodedField("year", "numeric", len(known.boundaries["item.year"]) + 3, len(known.boundaries["item.year"]) + 2),
    )
    assert [field.name for field in user_table(tables, known).fields] == ["country", "age"]


def test_the_user_table_holds_each_users_values(prepared):
    _, users, tables, known = prepared
    table = user_table(tables, known)
    for row, user in enumerate(users["user_id"]):
        if index := known.users.index(user):
            assert values_of(table, known.user_fields, "country", index) == [users["country"][row] or ""]
    assert all(len(column) == known.users.size for column in table.columns.values())


def test_every_index_stays_below_the_size_of_its_field(prepared):
    _, _, tables, known = prepared
    for table in (item_table(tables, known), user_table(tables, known)):
        for field in table.fields:
            assert 0 <= table.columns[field.name].min() <= table.columns[field.name].max() < field.size


def test_missing_vocabularies_are_a_named_error(tmp_path):
    with pytest.raises(ArtifactError, match="no vocabularies artefact"):
        Vocabularies.read(tmp_path)
