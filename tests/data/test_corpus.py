import os
import resource

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bit_transformer.data import corpus as corpus_module
from bit_transformer.data.corpus import MAX_OPEN_FILES, Corpus
from bit_transformer.errors import SourceError

GIB = 2**30


def write(folder, *contents):
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{index:03}.bin" for index in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=8).filter(any), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reads_equal_the_files_laid_end_to_end(tmp_path, contents, draw):
    whole = b"".join(contents)
    corpus = Corpus(write(tmp_path / "files", *contents))
    assert corpus.size == len(whole)
    start = draw.draw(st.integers(0, len(whole)))
    count = draw.draw(st.integers(0, len(whole) - start))
    assert corpus.read(start, count).tobytes() == whole[start : start + count]


def test_reads_are_copies(tmp_path):
    corpus = Corpus(write(tmp_path, b"abc"))
    corpus.read(0, 3)[:] = 0
    assert corpus.read(0, 3).tobytes() == b"abc"


def test_empty_files_are_skipped_and_no_data_is_an_error(tmp_path):
    paths = write(tmp_path, b"", b"ab", b"")
    assert Corpus(paths).paths == (paths[1],)
    for nothing in ([], [paths[0]]):
        with pytest.raises(SourceError, match="no data"):
            Corpus(nothing)
    with pytest.raises(SourceError, match=r"cannot read .*missing"):
        Corpus([tmp_path / "missing"])


@pytest.mark.parametrize(("start", "count"), [(-1, 1), (0, 6), (5, 1), (6, 0), (2, -1)])
def test_reads_outside_are_refused(tmp_path, start, count):
    with pytest.raises(SourceError, match="outside the corpus of 5 bytes"):
        Corpus(write(tmp_path, b"abc", b"de")).read(start, count)


@pytest.mark.parametrize("content", [b"", b"ab", b"abcd"])
def test_a_file_that_changes_size_is_noticed_before_the_map_is_touched(tmp_path, content):
    paths = write(tmp_path, b"abc", b"de")
    corpus = Corpus(paths)
    corpus.read(0, 5)
    paths[0].write_bytes(content)
    with pytest.raises(SourceError, match=rf"changed from 3 to {len(content)} bytes"):
        corpus.read(0, 1)
    assert corpus.read(3, 2).tobytes() == b"de"


def test_a_file_that_vanishes_is_a_source_error(tmp_path):
    paths = write(tmp_path, b"abc")
    corpus = Corpus(paths)
    paths[0].unlink()
    with pytest.raises(SourceError, match="cannot read"):
        corpus.read(0, 1)


def test_few_files_are_open_and_the_latest_stay_open(tmp_path, monkeypatch):
    opened = []
    real = corpus_module._open_map
    monkeypatch.setattr(corpus_module, "_open_map", lambda path: opened.append(path) or real(path))
    paths = write(tmp_path, *[bytes([i]) for i in range(MAX_OPEN_FILES + 36)])
    corpus = Corpus(paths)
    assert corpus.read(0, corpus.size).tolist() == list(range(corpus.size))
    assert len(corpus._maps) == MAX_OPEN_FILES
    corpus.read(corpus.size - MAX_OPEN_FILES, MAX_OPEN_FILES)
    assert opened == paths
    corpus.read(0, 1)
    assert opened[-1] == paths[0]
    # File 37 is now the oldest. Using it again makes 38 the next one to be closed.
    corpus.read(37, 1)
    corpus.read(1, 1)
    corpus.read(37, 1)
    assert opened[len(paths) :] == [paths[0], paths[1]]


def test_the_fingerprint_follows_content_name_size_and_order_but_not_the_folder(tmp_path):
    contents = [bytes(range(256)) * 64, b"tail"]
    paths = write(tmp_path / "one", *contents)
    moved = write(tmp_path / "two", *contents)
    print_of = Corpus(paths).fingerprint()
    assert Corpus(paths).fingerprint() == print_of
    assert Corpus(moved).fingerprint() == print_of
    renamed = moved[1].rename(moved[1].with_name("other.bin"))
    others = [
        Corpus([moved[0], renamed]),
        Corpus(paths[::-1]),
        Corpus(paths[:1]),
        Corpus(write(tmp_path / "first", b"\1" + contents[0][1:], contents[1])),
        Corpus(write(tmp_path / "last", contents[0], b"taiL")),
        Corpus(write(tmp_path / "longer", contents[0], b"tail ")),
    ]
    prints = {print_of, *(other.fingerprint() for other in others)}
    assert len(prints) == 1 + len(others)


def test_reading_all_of_a_file_keeps_none_of_it_resident(tmp_path):
    path = tmp_path / "dense.bin"
    path.write_bytes(bytes(64 * 2**20))
    corpus = Corpus([path])
    before = psutil.Process().memory_info().rss
    for start in range(0, corpus.size, 2**20):
        corpus.read(start, 2**20)
    assert psutil.Process().memory_info().rss - before < 16 * 2**20


def _faults():
    """Return how many page faults this process has had. The size of a page may vary."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt + usage.ru_majflt


def test_ten_gigabytes_cost_neither_memory_nor_time(tmp_path):
    path = tmp_path / "sparse.bin"
    path.touch()
    os.truncate(path, 10 * GIB)
    with path.open("r+b") as file:
        file.seek(7 * GIB)
        file.write(b"needle")
    before, faults = psutil.Process().memory_info().rss, _faults()
    corpus = Corpus([path])
    assert corpus.size == 10 * GIB
    for start in np.linspace(0, 10 * GIB - 1024, 40).astype(int):
        corpus.read(int(start), 1024)
    assert corpus.read(7 * GIB - 1, 8).tobytes() == b"\0needle\0"
    corpus.fingerprint()
    assert psutil.Process().memory_info().rss - before < GIB // 10
    # Reading the whole file would take at least one fault per 2 MiB.
    assert _faults() - faults < 10 * GIB // 2**22
