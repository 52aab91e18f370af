"""The notebook `docs/tour.py` runs and every cell has an output."""

import importlib.util
import sys
from pathlib import Path

import pytest

from genebench.settings import get_settings

TOUR = Path(__file__).parents[2] / "docs" / "tour.py"


@pytest.mark.slow
def test_every_cell_of_the_tour_runs_and_shows_something(synthetic_root, monkeypatch):
    pytest.importorskip("marimo", reason="marimo is not installed")
    monkeypatch.setenv("GENEBENCH_LAKE", str(synthetic_root))
    get_settings.cache_clear()
    spec = importlib.util.spec_from_file_location("tour", TOUR)
    tour = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tour)
    try:
        outputs, found = tour.app.run()
    finally:
        get_settings.cache_clear()
        # transformers takes a process with marimo in it for a notebook, and then needs IPython.
        for name in [name for name in sys.modules if name.partition(".")[0] == "marimo"]:
            del sys.modules[name]
    assert all(output is not None for output in outputs)
    assert found["board"]["encoder_id"][0] == "oracle"
    assert found["best"].height == 10
    assert found["compared"].height > 0
    assert set(found["by_sql"]["metric"]) == {"roc_auc", "r2"}
    assert found["then"] == found["lake"].counts()["gold.scores"]
    assert found["figure"].id == "family_means_roc_auc"
