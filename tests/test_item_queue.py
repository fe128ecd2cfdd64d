"""The queue of past items against a list."""

from collections import deque

import numpy as np
import pytest

from towers.item_queue import ItemQueue
from towers.keras import tf


def pushed(queue: ItemQueue, items: list[int]) -> None:
    column = np.float32(items)
    queue.push(np.tile(column[:, None], (1, 2)), tf.constant(items, tf.int32), tf.constant(column / 100))


@pytest.mark.parametrize("sizes", [[3, 3, 3], [2, 5, 1, 4], [9], [7, 12]])
def test_it_holds_the_last_items(sizes):
    queue, expected, item = ItemQueue(7, 2, warmup=0), deque(maxlen=7), 0
    for size in sizes:
        items = list(range(item + 1, item + 1 + size))
        item += size
        pushed(queue, items)
        expected.extend(items)
        vectors, held, frequency = (part.numpy() for part in queue.read())
        assert sorted(held[held > 0].tolist()) == sorted(expected)
        # Whatever belongs to an item stays together.
        assert np.array_equal(vectors[held > 0], np.tile(held[held > 0, None], (1, 2)))
        assert frequency[held > 0] == pytest.approx(held[held > 0] / 100)


def test_it_gives_nothing_out_before_it_is_warm():
    queue = ItemQueue(4, 2, warmup=2)
    counts = []
    for _ in range(3):
        counts.append(int(tf.math.count_nonzero(queue.read()[1])))
        pushed(queue, [1, 2, 3])
    assert counts == [0, 0, 4]


def test_no_gradient_flows_into_it():
    queue, vectors = ItemQueue(4, 2, warmup=0), tf.Variable(tf.ones((3, 2)))
    with tf.GradientTape() as tape:
        queue.push(vectors * 2.0, tf.constant([1, 2, 3]), tf.ones(3))
        total = tf.reduce_sum(queue.read()[0])
    assert float(total) == 12.0
    assert tape.gradient(total, vectors) is None


def test_a_checkpoint_holds_it(tmp_path):
    queue, restored = ItemQueue(4, 2, warmup=0), ItemQueue(4, 2, warmup=0)
    pushed(queue, [5, 6, 7])
    tf.train.Checkpoint(queue=queue).write(str(tmp_path / "queue"))
    tf.train.Checkpoint(queue=restored).read(str(tmp_path / "queue")).assert_consumed()
    for each in (queue, restored):
        pushed(each, [8, 9])
    assert all(np.array_equal(a, b) for a, b in zip(queue.read(), restored.read(), strict=True))
