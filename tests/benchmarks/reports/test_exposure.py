"""Tables and plots of the exposure bench, from rows written by hand."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from benchmarks.reports import exposure
from benchmarks.reports.docs import SECTIONS


def row(model: str, method: str, **changes: Any) -> dict[str, Any]:
    means = dict.fromkeys(
        [f"{kind}_{name}" for kind in ("reference", "teacher", "own") for name in ("kl", "agreement")]
    )
    start = {"excess": None, "last_position": None, "positions": [], "signature": "BLEU|x"}
    scores = {"bleu": 40.04, "chrf": 60.0, "rouge1": None, "rouge2": None, "rouge_l": None}
    lengths = [
        {"tokens": name, "examples": 40, **scores, "bleu": bleu} for name, bleu in (("≤ 10", 44.0), ("> 10", 36.0))
    ]
    rates = {"repetition_rate": 0.0, "hallucination_rate": 0.01}
    student = "transformer" if method != "teacher" else None
    return {
        "model": model,
        "student": student,
        "method": method,
        **means,
        **start,
        **scores,
        **rates,
        "lengths": lengths,
        **changes,
    }


def position(number: int, reference: float, own: float) -> dict[str, Any]:
    kinds = {"reference": reference, "teacher": 0.0, "own": own}
    return {"position": number} | {name: {"examples": 40, "kl": kl, "agreement": 0.9} for name, kl in kinds.items()}


TABLE = {
    "provenance": {},
    "settings": {"test_set": "test.de", "examples": 1234, "least_examples": 30, "batch_tokens": 1000},
    "rows": [
        row("teacher", "teacher"),
        row(
            "first", "vanilla", bleu=37.9, reference_kl=0.5, teacher_kl=0.25, own_kl=0.75, excess=0.25,
            excess_share=0.5, excess_ci95=[0.125, 0.375], excess_over_teacher=0.5, excess_over_teacher_ci95=[-0.1, 1],
            reference_agreement=0.801, own_agreement=0.702, hallucination_rate=0.0512,
            repetition_rate=0.0015, last_position=2, positions=[position(1, 0.25, 0.25), position(2, 0.75, 1.25)],
        ),
    ],
}  # fmt: skip


def test_a_row_has_divergences_scores_and_rates() -> None:
    lines = exposure.markdown(TABLE).splitlines()
    assert "| teacher | – | teacher | – | – | – | – | – | – | – | 40.0 | 60.0 | 0.00% | 1.00% |" in lines
    excess = "+0.250 [+0.125, +0.375], +50% | +0.500 [-0.100, +1.000]"
    figures = f"0.500 | 0.250 | 0.750 | {excess} | 80.1% | 70.2% | 37.9 | 60.0 | 0.15% | 5.12%"
    assert f"| first | transformer | vanilla | {figures} |" in lines
    assert "| model | student | method | BLEU ≤ 10 | BLEU > 10 | chrF ≤ 10 | chrF > 10 |" in lines
    assert "| first | transformer | vanilla | 44.0 | 36.0 | 60.0 | 60.0 |" in lines
    assert "1,234 examples" in lines[-1] and "positions that at least 30 examples reach, 2 at most" in lines[-1]
    assert lines[-1].endswith("Signature: `BLEU|x`.")
    own = TABLE["rows"][1] | {"excess_share": None}  # no divergence at all on references
    assert "[+0.125, +0.375] |" in exposure.markdown({**TABLE, "rows": [own]})
    assert SECTIONS["exposure"] == ("exposure.json", exposure.markdown)


def test_the_plot_draws_each_position_and_length() -> None:
    divergence, excess, agreement, quality = exposure._figure(TABLE["rows"]).axes
    drawn = [line.get_xydata().tolist() for line in divergence.lines if len(line.get_xdata())]
    assert drawn == [[[1, 0.25], [2, 0.75]], [[1, 0.25], [2, 1.25]]]
    differences = [line.get_xydata().tolist() for line in excess.lines]
    assert [[1, 0.0], [2, 0.5]] in differences and [[1, 0.25], [2, 1.25]] in differences
    assert [[1, 0.9], [2, 0.9]] in [line.get_xydata().tolist() for line in agreement.lines]
    assert [line.get_ydata().tolist() for line in quality.lines] == [[44.0, 36.0]] * 2
    svg = exposure.plot_file(TABLE)
    assert ElementTree.fromstring(svg).tag.endswith("svg") and "first, vanilla" in svg
    assert svg == exposure.plot_file(TABLE)
