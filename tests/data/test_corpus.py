"""The data section of a recipe: what is kept, what is dropped and why, and what is recorded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from compressor.data.corpus import Cleaner, load_corpus, read_pairs
from compressor.data.drop_report import DropReport
from compressor.data.encoding import encode
from compressor.data.examples import Example, source_key
from compressor.data_config import DataConfig, DataSource
from compressor.errors import DataError
from compressor.text.tokenizer import cut


class Words:
    """A tokenizer whose counts can be told by eye: one token a word, then EOS."""

    eos_id = 1

    def encode_source(self, text: str) -> list[int]:
        return [2] * len(text.split()) + [1]

    encode_target = encode_source


def config(**values: object) -> DataConfig:
    return DataConfig.model_validate({"train": [{"source": "x"}], "dev": [{"source": "x"}], **values})


def test_clean_drops_by_reason() -> None:
    examples = [
        Example("a b", "c d"),
        Example("", "c"),
        Example("a", ""),
        Example("a b", "c d"),
        Example("a b", "another translation"),
        Example("In  DEV!", "x"),
        Example("mono"),
        Example("mono"),
    ]
    cleaner = Cleaner(["in dev."])
    remaining, report = list(cleaner.clean(examples)), cleaner.report
    assert remaining == [Example("a b", "c d"), Example("a b", "another translation"), Example("mono")]
    assert report.dropped == {"with an empty side": 2, "repeated": 2, "with a held-out source": 1}
    assert (report.read, report.remaining) == (8, 3)
    assert len(list(Cleaner(deduplicate=False).clean(examples))) == 6


def test_encode_drops_by_token_counts() -> None:
    examples = [
        Example("a b c", "a b c"),  # 4 tokens each, EOS included
        Example("a b c d", "a b"),  # source has 5
        Example("a b", "a b c d"),  # target has 5
        Example("", "a b c"),  # 1 to 4
        Example("a b c"),
    ]
    limits = config(max_source_tokens=4, max_target_tokens=4, max_length_ratio=3.5)
    encoded = encode(examples, Words(), limits)
    assert (list(encoded.source_lengths), list(encoded.target_lengths)) == ([4, 4], [4, 0])
    assert (list(encoded.sources), list(encoded.targets)) == ([2, 2, 2, 1] * 2, [2, 2, 2, 1])
    assert encoded.report.shown["with a length ratio over 3.5"] == [" ||| a b c"]
    assert encoded.report.dropped == {
        "with a source over 4 tokens": 1,
        "with a target over 4 tokens": 1,
        "with a length ratio over 3.5": 1,
    }


def test_truncate_cuts_instead_of_dropping() -> None:
    limits = config(max_source_tokens=3, max_target_tokens=2, max_length_ratio=None, truncate=True)
    encoded = encode([Example("a b c d e", "a b c")], Words(), limits)
    assert (list(encoded.sources), list(encoded.targets)) == ([2, 2, 1], [2, 1])


def test_first_ids_stand_before_every_target_and_count_for_no_limit() -> None:
    limits = config(max_source_tokens=3, max_target_tokens=3, max_length_ratio=1.0001)
    encoded = encode([Example("a b", "a b"), Example("a b")], Words(), limits, first_ids=(7,))
    assert (list(encoded.targets), list(encoded.target_lengths)) == ([7, 2, 2, 1], [4, 0])


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([5, 6, 7, 2], [5, 6, 7, 2]),
        ([5, 6, 7, 8, 9, 2], [5, 6, 7, 2]),
        ([5, 6, 7, 8, 9, 2, 99], [5, 6, 2, 99]),  # mBART: the language follows EOS
        ([2, 6, 7, 8, 9, 2], [2, 6, 7, 2]),  # EOS as start token
        ([5, 6, 7, 8, 9], [5, 6, 7, 8]),
    ],
)
def test_cut_preserves_the_end_token(ids: list[int], expected: list[int]) -> None:
    assert cut(ids, 4, eos_id=2) == expected


def test_report_has_text_and_record() -> None:
    report = DropReport(read=1200)
    for i in range(5):
        report.drop("repeated", Example(f"s{i}", "t" * 300))
    assert report.text().startswith("Kept 1,195 of 1,200 examples; dropped 5 repeated (such as 's0 ||| ttt")
    stored = json.loads(json.dumps(report.record().model_dump()))
    assert (stored["read"], stored["kept"], stored["dropped"]) == (1200, 1195, {"repeated": 5})
    assert len(stored["examples"]["repeated"]) == 3
    assert DropReport(read=2).text() == "Kept all 2 examples."


def test_reports_add_up() -> None:
    one, two = DropReport(read=10), DropReport(read=5)
    for report, reason in ((one, "repeated"), (two, "repeated"), (two, "with an empty side")):
        report.drop(reason, Example("x"))
    one.add(two)
    assert (one.read, one.remaining) == (15, 12)
    assert one.dropped == {"repeated": 2, "with an empty side": 1}


def test_empty_corpus_is_an_error(tmp_path: Path) -> None:
    data = config(train=[{"path": "a.tsv", "source_column": 1, "target_column": 2}], root=str(tmp_path))
    (tmp_path / "a.tsv").write_text("\ta\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"no examples are left.*1 with an empty side"):
        load_corpus(data, "train")


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("Hallo, Welt!", "hallo welt", True),
        ("Grüße", "grüsse", True),
        ("Welt, hallo", "Hallo Welt", False),
        ("?", "!", False),
    ],
)
def test_sources_are_compared_without_case_and_punctuation(one: str, two: str, same: bool) -> None:
    assert (source_key(one) == source_key(two)) is same


def test_load_corpus_reads_and_reports(tmp_path: Path) -> None:
    files = {
        "a.de": "eins\nzwei\n\n",
        "a.en": "one\ntwo\nx\n",
        "b.jsonl": '{"source": "drei", "target": "three"}\n',
        "dev.de": "Zwei.\n",
        "dev.en": "Two.\n",
        "m.de": "eins\nvier\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    data = DataConfig.model_validate({
        "root": str(tmp_path), "train": [{"source": "a.de", "target": "a.en"}, {"path": "b.jsonl"}],
        "dev": [{"source": "dev.de", "target": "dev.en"}], "mono": [{"source": "m.de"}],
    })  # fmt: skip
    dev = load_corpus(data, "dev")
    train = load_corpus(data, "train", [example.source for example in dev.examples])
    assert dev.examples == [Example("Zwei.", "Two.")]
    assert train.examples == [Example("eins", "one"), Example("drei", "three")]
    assert load_corpus(data, "mono").examples == [Example("eins"), Example("vier")]
    assert [(fingerprint.name, fingerprint.rows) for fingerprint in train.fingerprints] == [
        ("a.de", 3), ("a.en", 3), ("b.jsonl", 1),
    ]  # fmt: skip
    assert train.fingerprints[0].sha256 == hashlib.sha256(b"eins\nzwei\n\n").hexdigest()


def test_fingerprints_contain_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.de").write_text("eins\n", encoding="utf-8")
    for root, name in ((tmp_path, str(tmp_path / "a.de")), (tmp_path / "x", "../a.de")):
        (tmp_path / "x").mkdir(exist_ok=True)
        data = config(root=str(root), dev=[{"source": name}])
        assert [item.name for item in load_corpus(data, "dev").fingerprints] == ["a.de"]


def test_size_limits_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.de").write_text("a\nb\nc\n", encoding="utf-8")
    assert [example.source for example in read_pairs(DataSource(source="a.de", size=2), tmp_path)] == ["a", "b"]


def test_rows_that_cannot_be_read_are_skipped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.de").write_bytes(b"eins\nzwei\ndr\xffei\nvier\n")
    (tmp_path / "a.en").write_bytes(b"one\nt\xffwo\nth\xffree\nfour\n")
    (tmp_path / "b.jsonl").write_text('{"source": "ja", "target": "yes"}\n{"source": \n[]\n', encoding="utf-8")
    data = config(train=[{"source": "a.de", "target": "a.en"}, {"path": "b.jsonl"}], root=str(tmp_path))
    with pytest.raises(DataError, match=r"a\.en: line 2, byte 2 \(0xff\) is not UTF-8"):
        load_corpus(data, "train")
    corpus = load_corpus(data.model_copy(update={"on_error": "skip"}), "train")
    assert corpus.examples == [Example("eins", "one"), Example("vier", "four"), Example("ja", "yes")]
    assert (corpus.report.read, corpus.report.remaining, corpus.report.dropped) == (7, 3, {"that cannot be read": 4})
    shown = corpus.report.shown["that cannot be read"]
    assert [text.split(" is not")[0].split(": not")[0] for text in shown] == [
        "a.en: line 2, byte 2 (0xff)", "a.de: line 3, byte 3 (0xff)", "b.jsonl: line 2",
    ]  # fmt: skip
    dev = data.model_copy(update={"on_error": "skip", "dev": data.train})
    with pytest.raises(DataError, match="line 2"):
        load_corpus(dev, "dev")


def test_the_embedded_corpus_is_a_source() -> None:
    data = config(train=[{"synthetic": "translation", "size": 7}])
    corpus = load_corpus(data, "train")
    assert len(corpus.examples) == 7
    assert corpus.fingerprints[0].name == "synthetic:translation:train"
    assert corpus.fingerprints == load_corpus(data, "train").fingerprints


@pytest.mark.shared
def test_the_real_corpora_are_aligned(shared: Path) -> None:
    data = config(
        root=str(shared / "data"),
        train=[{"source": "multi30k/train.de", "target": "multi30k/train.en"}],
        dev=[{"source": "multi30k/val.de", "target": "multi30k/val.en"}, {"path": "acl_titles/valid.jsonl.gz"}],
    )
    dev = load_corpus(data, "dev")
    assert len(dev.examples) == 1014 + 800
    train = load_corpus(data, "train", [example.source for example in dev.examples])
    assert train.report.read == 29_000
    assert train.report.remaining > 28_900
