import random

import pytest

from clamr_cli.train.mini.compose import UNRELATED, Composer, CompositionConfig
from clamr_cli.train.mini.data import (
    CaptionedImage,
    Entry,
    distinct,
    entries,
    held_out,
    misheard,
    photos,
    scenes,
    split_entries,
    split_photos,
)
from clamr_cli.types import Modality

PHOTOS = [
    CaptionedImage(f"p{n}", (f"caption {n} one", f"caption {n} two", f"scene {n} three"), (f"piece {n}",))
    for n in range(60)
]
EVERY = (Modality.SPEECH, Modality.OCR, Modality.METADATA)
ENTRIES = [Entry(f"text number {n} of many words", EVERY, (f"number {n}",)) for n in range(400)]


def composer(config: CompositionConfig = UNRELATED, seed: int = 0) -> Composer:
    return Composer(PHOTOS, list(range(60)), ENTRIES, list(range(400)), random.Random(seed), config)


def test_no_image_or_text_is_in_two_documents() -> None:
    unrelated = composer()
    documents = [unrelated.compose() for _ in range(25)]
    images = [index for document in documents for index, _ in document.images]
    entries_used = [text.entry for document in documents for texts in document.texts.values() for text in texts]
    assert len(images) == len(set(images)) > 25
    assert len(entries_used) == len(set(entries_used)) > 25


def test_the_same_seed_gives_the_same_documents() -> None:
    one, two = (
        [made.compose() for _ in range(5)]
        for made in (composer(CompositionConfig(), 3), composer(CompositionConfig(), 3))
    )
    assert one == two


def test_without_relations_every_query_aims_at_what_its_document_has() -> None:
    made = composer()
    for document in [made.compose() for _ in range(20)]:
        for _, aim in document.queries:
            assert document.images if aim is Modality.VIDEO else document.texts[aim]


def test_some_queries_ask_for_two_things() -> None:
    made = composer(CompositionConfig(related=0.0, channel=0.0, both=1.0))
    asked = [
        query for document in [made.compose() for _ in range(20)] for query, aim in document.queries if aim is None
    ]
    assert asked
    assert all(len(query.split()) >= 3 for query in asked)


def test_a_channel_is_a_line_of_several_documents() -> None:
    made = composer(CompositionConfig(related=0.0, channel=1.0, both=0.0))
    lines = [said.entry for _ in range(25) for said in made.compose().texts[Modality.METADATA]]
    assert len(set(lines)) < len(lines)


def test_speech_about_a_photo_is_not_its_query() -> None:
    made = composer(CompositionConfig(related=1.0, channel=0.0, both=0.0))
    for document in [made.compose(max_images=1) for _ in range(20)]:
        spoken = {said.caption for said in document.texts[Modality.SPEECH] if said.caption}
        assert spoken
        assert not spoken & {query for query, aim in document.queries if aim is Modality.VIDEO}


def test_misheard_text_has_no_marks_and_most_of_its_words() -> None:
    text = "Well, he SAID: nobody knows! Not even the mayor (of Springfield)."
    heard = misheard(random.Random(0), text)
    assert heard == heard.lower()
    assert not set(heard) & set(".,:!()")
    assert 7 <= len(heard.split()) <= 11


def test_no_two_chosen_pictures_answer_the_same_query() -> None:
    things = [
        CaptionedImage(f"{name}{n}", (name, f"{name} {n}"), (name,)) for name in ("chair", "crab") for n in range(4)
    ]
    again = [CaptionedImage("chair0", ("a drawn seat",), ("seat",)), CaptionedImage("lamp", ("lamp",), ("lamp",))]
    for seed in range(10):
        chosen = distinct([*things, *again], list(range(10)), 10, random.Random(seed))
        names = sorted([*things, *again][index].captions[0] for index in chosen)
        assert names in (["chair", "crab", "lamp"], ["a drawn seat", "chair", "crab", "lamp"])
    assert len(distinct(things, list(range(8)), 1, random.Random(0))) == 1


@pytest.mark.slow
def test_training_and_held_out_data_share_nothing(shared) -> None:
    if not (shared / "text/msvd_captions.json").exists():
        pytest.skip("the recipe's data are not here")
    pool = entries(shared)
    train, held = split_entries(pool)
    assert not {pool[index].text for index in train} & {pool[index].text for index in held}
    assert all(held_out(pool[index].text) for index in held)
    assert 0.1 < len(held) / len(pool) < 0.3
    shown, kept = split_photos(photos(shared))
    assert len(kept) == 200
    assert not {*shown} & {*kept}


@pytest.mark.slow
def test_scenes_are_of_clips_that_are_no_texts(shared) -> None:
    if not (shared / "text/msvd_captions.json").exists():
        pytest.skip("the recipe's data are not here")
    told = scenes(shared)
    texts = {entry.text for entry in entries(shared)}
    assert len(told) > 1000
    assert all(len(shown) == len(asked) == 5 and not {*shown} & {*asked} for shown, asked in told)
    shared_captions = sum(bool({*shown} & texts) for shown, _ in told)
    # Some captions are so plain that several clips have them.
    assert shared_captions < 0.05 * len(told)
