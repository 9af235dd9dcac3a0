"""The graphs that torch.compile makes of the kernels for a GPU, checked without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.cases import OPS

pytestmark = [pytest.mark.slow, pytest.mark.compiled]
TESTS = Path(__file__).resolve().parents[1]


def graphs(program: str) -> dict[str, dict[str, list[str]]]:
    """Return what a Python program prints in a process that does not interpret kernels."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    folders = (TESTS.parent, TESTS.parent / "bench", TESTS / "support")
    environment["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def of_all() -> dict[str, dict[str, list[str]]]:
    return graphs(
        "import kernel_graphs as k, bad_kernels as b\n"
        "k.print_graphs(k.OPS | {'in_place': b.OPS['in_place']})"
    )


@pytest.mark.parametrize("name", OPS)
def test_one_graph_holds_the_kernels_or_the_opaque_operation(name, of_all):
    """torch.compile is called with fullgraph=True, so that a break would be an error."""
    assert len(of_all[name]) >= 2
    for of, nodes in of_all[name].items():
        assert any("triton_kernel_wrapper" in n or n.startswith("fastlm.") for n in nodes), (
            of,
            nodes,
        )


def test_an_opaque_operation_that_changes_a_list_stays_one_node(of_all):
    found = of_all["in_place"]
    assert set(found) == {"all", "bad_in_place"}
    for nodes in found.values():
        assert "fastlm.bad_in_place.default" in nodes
        assert not any("triton" in node for node in nodes)
