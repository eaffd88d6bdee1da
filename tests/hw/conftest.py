import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # hw_harness and hw_trips, whatever pytest's import mode

import pytest
from hw_harness import BUILDS, compile_library, missing


@pytest.fixture(params=sorted(BUILDS))
def build(request):
    """Each g++ build of the kernels in turn: exact (real ap_int headers) and native (our twin)."""
    reason = missing(request.param)
    if reason:
        pytest.skip(reason)
    return request.param


@pytest.fixture(scope="session", autouse=True)
def compiled(request):
    """Start every selected module's compilations at once, the slow exact ones first."""
    modules = {item.module for item in request.session.items if hasattr(item.module, "SOURCE")}
    for name in sorted(BUILDS):
        for module in sorted(modules, key=lambda m: len(m.SOURCE), reverse=True):
            if not missing(name):
                compile_library(module.SOURCE, name, getattr(module, "EXTRA", ()))


@pytest.fixture(autouse=True)
def ubsan_is_silent(capfd):
    """The native libraries carry UBSan, which reports each place once in the process, on stderr."""
    yield
    assert "runtime error" not in capfd.readouterr().err
