"""The video of the index that a name means."""

import pytest

from clamr_cli.evaluate import data
from clamr_cli.queries import LabelledQuery
from clamr_cli.types import FileRecord, FileState


def file(path: str, video_id: str) -> FileRecord:
    return FileRecord(path, "/videos", video_id, 1, 1, FileState.INDEXED)


FILES = [
    file("/videos/a/clip.mp4", "id1"),
    file("/videos/b/clip.mp4", "id2"),
    file("/videos/copy of one.mkv", "id1"),
    file("/videos/Protest [PPQVve-Jeb4].webm", "id3"),
    file("/videos/id1.mp4", "id4"),
    file("/videos/v.2.mp4", "id5"),
]


@pytest.mark.parametrize(
    ("name", "video"),
    [
        ("id2", "id2"),
        ("/videos/a/clip.mp4", "id1"),
        ("b/clip.mp4", "id2"),
        ("b/clip", "id2"),
        ("copy of one.mkv", "id1"),
        ("copy of one", "id1"),
        ("PPQVve-Jeb4", "id3"),
        ("id1", "id1"),
        ("id1.mp4", "id4"),
        ("v.2", "id5"),
    ],
)
def test_a_video_goes_by_id_path_name_and_stem(name: str, video: str) -> None:
    assert data.resolve([name], FILES) == ({name: video}, [])


@pytest.mark.parametrize("name", ["./b/clip.mp4", "b//clip", "/videos/./b/clip.mp4"])
def test_paths_may_be_written_otherwise(name: str) -> None:
    assert data.resolve([name], FILES)[0] == {name: "id2"}


def test_accents_may_be_written_apart() -> None:
    together, apart = "caf\u00e9.mp4", "cafe\u0301.mp4"
    for stored, asked in ((together, apart), (apart, together)):
        assert data.resolve([asked], [file(f"/v/{stored}", "id1")])[0] == {asked: "id1"}
    # Where both are there, each is itself.
    both = [file(f"/v/{together}", "id1"), file(f"/v/{apart}", "id2")]
    assert data.resolve([together, apart], both)[0] == {together: "id1", apart: "id2"}


def test_what_means_none_or_several_is_told() -> None:
    assert data.resolve(["clip.mp4", "id2", "lip.mp4", "clip.mp4", ""], FILES)[1] == ["clip.mp4", "lip.mp4", ""]


def test_answers_outside_the_index_stay_unless_only_judged_ones_count() -> None:
    queries = [
        LabelledQuery("a", "x", None, {"one": 1, "gone": 2, "uno": 3}),
        LabelledQuery("b", "y", None, {"gone": 1}),
        LabelledQuery("c", "z"),
    ]
    documents = {"one": "one", "uno": "one"}
    kept = data.renamed(queries, documents, judged_only=False)
    assert [query.relevant for query in kept] == [{"one": 3, "gone": 2}, {"gone": 1}, {}]
    judged = data.renamed(queries, documents, judged_only=True)
    assert [(query.id, query.relevant) for query in judged] == [("a", {"one": 3}), ("c", {})]
