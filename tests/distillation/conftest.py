"""A tiny native teacher and a recipe that distils from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from compressor.config import Recipe, parse_recipe


@pytest.fixture(scope="session")
def make_recipe(tiny_recipe: Path, tiny_run: Path) -> Callable[..., Recipe]:
    """``make_recipe("imitkd", updates=6, training={...})``: the tiny recipe with the tiny run as its teacher."""
    text = tiny_recipe.read_text(encoding="utf-8")
    (tiny_recipe.parent / "mono.de").write_text("Den Baum malt der Hund.\nDen Arzt ruft der Mann.\n", encoding="utf-8")

    def make(method: str, updates: int = 4, *, mono: bool = False, **sections: Any) -> Recipe:
        values = yaml.safe_load(text)
        values["teacher"] = {"path": str(tiny_run), "num_beams": 3}
        values["method"] = {"name": method, **sections.pop("method_section", {})}
        values["student"] |= {"d_model": 16, "encoder_ffn": 16, "decoder_ffn": 16}
        values["data"] |= sections.pop("data", {})
        values["training"] |= {"updates": updates, "batch_tokens": 120, **sections.pop("training", {})}
        if mono:
            values["data"]["mono"] = [{"source": "mono.de"}]
        assert not sections, sections
        return parse_recipe(values)

    return make
