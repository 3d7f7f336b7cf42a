from pathlib import Path

from clamr_cli.index.documents import Recipe
from clamr_cli.index.pipeline import IndexOptions


def test_equal_options_give_equal_recipes_and_any_difference_shows():
    base = IndexOptions(cache=Path("a")).recipe
    assert base.dump() == IndexOptions(cache=Path("b"), encoder="hashed", jobs=9).recipe.dump()
    for other in (
        IndexOptions(cache=Path(), window=30),
        IndexOptions(cache=Path(), language="fr"),
        IndexOptions(cache=Path(), speech=False),
        IndexOptions(cache=Path(), text=False),
    ):
        assert other.recipe.dump() != base.dump()


def test_a_recipe_survives_being_kept_and_a_strange_one_is_no_recipe():
    recipe = IndexOptions(cache=Path(), language="de").recipe
    assert Recipe.parse(recipe.dump()) == recipe
    assert Recipe.parse("") is None
    assert Recipe.parse('{"media": 3}') is None


def test_kept_results_are_named_by_content_stage_and_version():
    recipe = IndexOptions(cache=Path()).recipe
    keys = {recipe.key("c0ffee", stage) for stage in ("media", "speech", "text")}
    assert len(keys) == 3
    assert all(key.startswith("c0ffee/") for key in keys)
    assert recipe.key("c0ffee", "speech") != IndexOptions(cache=Path(), language="de").recipe.key("c0ffee", "speech")
