"""Ids looked up in sorted hashes, against a dict; hashes that are shared included."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from serving.ids import Ids, digest

names = st.text(max_size=6) | st.sampled_from(["\ud800", "plumless", "buckeroo"])
"""The last two have the same CRC-32."""
known = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), unique=True, min_size=1, max_size=40)


@given(values=known, asked=st.lists(names, max_size=30))
def test_index_and_encode_are_those_of_a_dict(values: list[str], asked: list[str]) -> None:
    ids, expected = Ids.of(pa.array(values, pa.large_string())), {value: i + 1 for i, value in enumerate(values)}
    wanted = [*asked, *values]
    assert [ids.index(value) for value in wanted] == [expected.get(value, 0) for value in wanted]
    assert ids.encode(wanted).tolist() == [expected.get(value, 0) for value in wanted]
    assert ids.decode(np.arange(1, len(ids) + 1)) == values


def test_ids_of_one_hash_are_told_apart() -> None:
    assert digest("plumless") == digest("buckeroo")
    ids = Ids.of(pa.array(["x", "buckeroo", "y", "plumless"]))
    assert ids.encode(["plumless", "buckeroo", *"abcdefgh"]).tolist() == [4, 2, *[0] * 8]
    assert Ids.of(pa.array(["x", "buckeroo"])).encode(["plumless"] * 9).tolist() == [0] * 9


def test_the_hash_is_the_one_bundles_were_written_with() -> None:
    assert digest("item-42") == 0xC80739B8
