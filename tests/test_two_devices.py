"""Several devices compute what one does, in a process of its own that trains on one and on two (two_devices.py).

`make test-distribute` runs these; they take longer than any other test, so the default run leaves them out.
"""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = [pytest.mark.distribute, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    """What tests/two_devices.py has found out."""
    command = [sys.executable, str(ROOT / "tests" / "two_devices.py"), str(tmp_path_factory.mktemp("two"))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_every_task_has_the_losses_of_one_device(found):
    one, two = found["tasks"]
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert two["means"] == pytest.approx(one["means"], rel=1e-5)


def test_every_task_leads_to_the_weights_of_one_device(found):
    assert found["apart"] < 1e-5


@pytest.mark.parametrize("devices", ["two-one", "one-two"])
def test_a_run_resumed_on_more_or_fewer_devices_is_that_of_one_device(found, devices):
    """With all kinds of negatives; weights, optimiser, queue and estimated frequencies, in float32."""
    resumed = found["resumed"][devices]
    assert resumed["epochs"][0] == pytest.approx(resumed["epochs"][1], rel=1e-5)
    assert resumed["variables"] > 50
    assert resumed["difference"] < 1e-4


def test_a_run_on_two_devices_in_mixed_precision_is_watched_as_any_other(found):
    assert {"learning_rate", "loss/retrieval", "loss/total", "norm/gradients", "norm/item_id"} <= set(found["watched"])
    assert "norm/user.gender" in found["watched"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_gradient_of_a_gathered_row_goes_back_to_where_it_came_from(found, precision):
    """Rows 2 and 3, 3: the loss of replica r is (r + 1) times the sum of squares of all of them."""
    assert found["gathering"][precision] == [[[12.0, 12.0]], [[18.0, 18.0], [18.0, 18.0]]]


def test_only_draws_for_own_rows_differ_between_devices(found):
    first, second = found["draws"]["common"]
    assert first == second
    first, second = found["draws"]["own"]
    assert not set(first) & set(second)
