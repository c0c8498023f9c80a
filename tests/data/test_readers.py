"""Reading files: what comes out, and one clear line for what cannot be read."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from compressor.data import readers
from compressor.data.corpus import read_pairs
from compressor.data.examples import Example
from compressor.data.lines import BadRows, file_fingerprint
from compressor.data_config import DataSource
from compressor.errors import DataError, DependencyError


def read_lines(path: Path) -> list[str]:
    return [example.source for example in readers.read_text(path, None)]


def read_text(source: Path, target: Path | None) -> list[Example]:
    return list(readers.read_text(source, target))


def read_table(path: Path, source: str, target: str | None, bad: BadRows | None = None) -> list[Example]:
    return list(readers.read_table(path, source, target, bad))


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("eins\nzwei\n", ["eins", "zwei"]),
        ("eins\nzwei", ["eins", "zwei"]),
        ("eins\r\nzwei\r\n", ["eins", "zwei"]),
        ("\ufeffeins\n\nzwei\n\n", ["eins", "", "zwei", ""]),
        ("a\u2028b\x0bc\x0cd\x85e\n f \n", ["a\u2028b\x0bc\x0cd\x85e", "f"]),  # separators that are no line ends
    ],
)
def test_text_files_are_read_by_line(tmp_path: Path, name: str, content: str, lines: list[str]) -> None:
    assert read_lines(write(tmp_path, name, content.encode())) == lines


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "the file is empty"),
        ("latin.txt", "gut\nschön\n".encode("latin-1"), r"latin.txt: line 2, byte 4 \(0xf6\) is not UTF-8"),
        ("late.txt", b"a" * 70_000 + b"\nab\xff", r"line 2, byte 3 \(0xff\) is not UTF-8"),
    ],
)
def test_non_text_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_lines(write(tmp_path, name, content))


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_lines(tmp_path / "absent.de")
    with pytest.raises(DataError, match="cannot be read"):
        read_lines(tmp_path)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"some text\n" * 50)[:-12])
    (tmp_path / "plain.gz").write_bytes(b"no gzip at all")
    for name in ("cut.gz", "plain.gz"):
        with pytest.raises(DataError, match=f"{name}: damaged gzip file"):
            read_lines(tmp_path / name)


def test_misaligned_files_are_refused_with_both_counts(tmp_path: Path) -> None:
    source, target = write(tmp_path, "x.de", b"a\nb\nc\n"), write(tmp_path, "x.en", b"a\nb\n")
    with pytest.raises(DataError, match=r"x.de has 3 lines but .*x.en has 2"):
        read_text(source, target)
    assert read_text(target, None) == [Example("a", None), Example("b", None)]


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_json_lines_are_read_by_column(tmp_path: Path, name: str) -> None:
    records = [{"source": "ä\u2028b", "target": "c\nd"}, {"source": " e ", "target": "f", "more": 1}]
    path = write(tmp_path, name, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode())
    assert read_table(path, "source", "target") == [Example("ä\u2028b", "c\nd"), Example("e", "f")]
    assert read_table(path, "source", None)[1] == Example("e", None)


def test_dotted_columns_read_nested_records(tmp_path: Path) -> None:
    path = write(tmp_path, "x.jsonl", b'{"translation": {"de": "ja", "en": "yes"}}\n')
    assert read_table(path, "translation.de", "translation.en") == [Example("ja", "yes")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"source": "a"', "line 2: not valid JSON"),
        ('{"source": "a"}', r"line 2: no column 'target' \(found: source\)"),
        ('{"source": "a", "target": 3}', "line 2: column 'target' is int, not text"),
        ("[1]", "line 2: no column 'source'"),
        ("", "line 2: not valid JSON"),
    ],
)
def test_bad_records_are_reported_with_their_line(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, "x.jsonl", f'{{"source": "a", "target": "b"}}\n{line}\n'.encode())
    with pytest.raises(DataError, match=message):
        read_table(path, "source", "target")


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"use \.jsonl, \.ndjson, \.json, \.csv, \.tsv, \.parquet"):
        read_table(write(tmp_path, "x.xlsx", b"a,b\n"), "a", "b")


TSV = 'id\tde\ten\n1\t"Hallo", sagte er\tNA\n2\t007\t12.50\n3\ta\u2028b\tc\n'


@pytest.mark.parametrize("name", ["x.tsv", "x.tsv.gz"])
def test_tsv_is_read_without_quoting(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, TSV.encode())
    assert read_table(path, "de", "en") == [
        Example('"Hallo", sagte er', "NA"),
        Example("007", "12.50"),
        Example("a\u2028b", "c"),
    ]
    with pytest.raises(DataError, match="line 2: no column 'fr'"):
        read_table(path, "de", "fr")


def test_tsv_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.tsv: line 2, byte 4 \(0xf6\)"):
        read_table(write(tmp_path, "x.tsv", "source\ttarget\nschön\tb\n".encode("latin-1")), "source", "target")


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("1\tJa.\t2\tYes.\n77\tNein.\t3\tNo.\n", ("2", "4")),  # Tatoeba's sentence pairs
        ("Ja.\tYes.\r\nNein.\tNo.\r\n", ("1", "2")),  # Moses
        ("\ufeffYes.\tJa.\textra\n\nNo.\tNein.\n", ("2", "1")),  # a blank line, a column too many
    ],
)
def test_columns_of_a_file_without_names_are_numbers(tmp_path: Path, text: str, columns: tuple[str, str]) -> None:
    path = write(tmp_path, "x.tsv", text.encode())
    assert read_table(path, *columns) == [Example("Ja.", "Yes."), Example("Nein.", "No.")]
    source = DataSource(path="x.tsv", source_column=int(columns[0]), target_column=int(columns[1]))  # as in YAML
    assert list(read_pairs(source, tmp_path)) == read_table(path, *columns)
    with pytest.raises(DataError, match=r"line 1: no column '9' \(found: 1, 2"):
        read_table(path, columns[0], "9")


def test_csv_is_read_as_the_standard_librarys_writer_quotes_it(tmp_path: Path) -> None:
    rows = [("de", "n", "en"), ('Er sagte: "Ja, ja."', "1", 'He said:\n"Yes, yes."'), ("a\u2028b", "", "x" * 200_000)]
    with (tmp_path / "x.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    assert read_table(tmp_path / "x.csv", "de", "en") == [Example(row[0], row[2]) for row in rows[1:]]
    assert read_table(tmp_path / "x.csv", "3", "1")[1] == Example('He said:\n"Yes, yes."', 'Er sagte: "Ja, ja."')


SO = ("Ach, so", "Oh, so")


@pytest.mark.parametrize(
    ("content", "columns", "rows"),
    [
        (
            'de;en\r\n"Ja; nein";"Yes; no"\r\nAch, so;Oh, so\r\n',
            ("de", "en"),
            [("Ja; nein", "Yes; no"), SO],
        ),
        (
            'Ach, so;Oh, so\nJa;Yes\n"Er, ""so"" ";x\n',
            ("1", "2"),
            [SO, ("Ja", "Yes"), ('Er, "so"', "x")],
        ),
        ("de,en\na;b,c;d\n", ("de", "en"), [("a;b", "c;d")]),
        ("a;b,c;d\ne,f\n", ("2", "1"), [("c;d", "a;b"), ("f", "e")]),
    ],
)
def test_csv_may_have_semicolons_as_spreadsheets_in_german_write_it(
    tmp_path: Path, content: str, columns: tuple[str, str], rows: list[tuple[str, str]]
) -> None:
    path = write(tmp_path, "x.csv", f"\ufeff{content}".encode())
    assert read_table(path, *columns) == [Example(*row) for row in rows]


def test_a_missing_column_is_named_with_those_of_a_file_with_semicolons(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'fr' \(found: de, en\)"):
        read_table(write(tmp_path, "x.csv", b"de;en\na;b\n"), "de", "fr")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"c\n", "line 4: 1 columns where the first line names 2"),
        (b"c,d,e\n", "line 4: 3 columns"),
        (b'"c" x,d\n', "line 4: not CSV"),
        (b'c,"d \xff\nd"\n', r"line 4, byte 6 \(0xff\) is not UTF-8"),
        (b'c,"d\nd', "line 4: not CSV"),
    ],
)
def test_broken_csv_rows_are_named_by_line_or_skipped(tmp_path: Path, row: bytes, message: str) -> None:
    path = write(tmp_path, "x.csv", b'source,target\na,"b\nb"\n' + row + b"e,f\n")
    with pytest.raises(DataError, match=message):
        read_table(path, "source", "target")
    bad = BadRows(skip=True)
    rows = read_table(path, "source", "target", bad)
    assert rows[0] == Example("a", "b\nb") and bad.count == 1
    assert rows[1:] == ([] if row.endswith(b"d") else [Example("e", "f")])  # an open quote takes the rest of the file


@pytest.mark.parametrize("wrap", ["{}", '{{"version": 1, "data": {}}}'])
def test_a_json_file_is_a_list_of_records(tmp_path: Path, wrap: str) -> None:
    records = [{"source": "a", "target": "b"}, {"translation": {"de": "x"}}]
    path = write(tmp_path, "x.json", wrap.format(json.dumps(records, indent=1)).encode())
    with pytest.raises(DataError, match="record 2: no column 'source'"):
        read_table(path, "source", "target")
    assert read_table(path, "source", "target", BadRows(skip=True)) == [Example("a", "b")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"source": "a"}\n{"source": "b"}\n', r"line 2, column 1: not valid JSON .*\.jsonl"),
        (b'{"rows": []}', "not a list of records"),
        (b"[]", "no rows"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, "x.json", content), "source", "target")


def test_parquet_is_read_by_column(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    table = pytest.importorskip("pyarrow").table({"source": ["a", "b"], "target": ["c", "d"]})
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "x.parquet")
    assert read_table(tmp_path / "x.parquet", "source", "target") == [Example("a", "c"), Example("b", "d")]
    with pytest.raises(DataError, match=r"bad\.parquet: cannot be read as parquet"):
        read_table(write(tmp_path, "bad.parquet", b"no parquet"), "source", "target")


def test_a_hub_data_set_is_read_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of JSON lines stands for the hub: `datasets` loads it by the same call."""
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "hub").mkdir()
    records = [{"translation": {"de": f"Satz {n}", "en": f"sentence {n}"}} for n in range(5)]
    (tmp_path / "hub/train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    columns = {"source_column": "translation.de", "target_column": "translation.en"}
    whole = [Example(f"Satz {n}", f"sentence {n}") for n in range(5)]
    for size, expected in ((None, whole), (2, whole[:2])):
        rows = read_pairs(DataSource(hub=str(tmp_path / "hub"), size=size, **columns), tmp_path)
        assert not isinstance(rows, list) and list(rows) == expected
    with pytest.raises(DataError, match=r"row 1: no column 'de' \(found: translation\)"):
        list(read_pairs(DataSource(hub=str(tmp_path / "hub"), source_column="de"), tmp_path))
    with pytest.raises(DataError, match=r"\(dev\): cannot be read"):
        list(read_pairs(DataSource(hub=str(tmp_path / "hub"), split="dev", **columns), tmp_path))


@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz", "x.csv", "x.jsonl", "x.parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    """48 MB of text in rows of 16,000 characters are read within 12 MB."""
    rows, text = 3000, "wort " * 3200
    if name == "x.parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({"source": [text] * rows}), tmp_path / name, row_group_size=100)
    else:
        line = json.dumps({"source": text}) if name == "x.jsonl" else text
        write(tmp_path, name, ("source\n" * (name == "x.csv") + f"{line}\n" * rows).encode())
    is_text = name.startswith("x.txt")
    spec = DataSource(source=name) if is_text else DataSource(path=name, target_column=None)
    tracemalloc.start()
    count = sum(1 for _ in read_pairs(spec, tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == rows
    assert peak < 12e6


def test_without_pyarrow_parquet_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DependencyError, match=r"pyarrow.*extra `train`"):
        read_table(write(tmp_path, "x.parquet", b"PAR1"), "source", "target")


def test_reading_text_needs_neither_torch_nor_datasets() -> None:
    code = "import sys, compressor.data.readers, compressor.text.metrics, compressor.provenance; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "datasets", "onnxruntime", "transformers"} & set(loaded)


def test_fingerprint_is_of_the_file_on_disk(tmp_path: Path) -> None:
    path = write(tmp_path, "x.gz", b"some text")
    assert file_fingerprint(path) == hashlib.sha256(path.read_bytes()).hexdigest()
