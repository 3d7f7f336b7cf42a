import pytest

from clamr_cli.errors import StoreError
from clamr_cli.store.tables import store_errors


@pytest.mark.parametrize("before", ["", "lance error: ", "lance error: LanceError(IO): "])
def test_an_interruption_inside_the_library_is_an_interruption(before: str) -> None:
    with pytest.raises(KeyboardInterrupt), store_errors("read", "/tmp/index"):
        raise OSError(f"{before}External error: KeyboardInterrupt:")


def test_a_file_of_that_name_is_none() -> None:
    with pytest.raises(StoreError), store_errors("read", "/tmp/index"):
        raise OSError("Not found: /tmp/External error: KeyboardInterrupt")
