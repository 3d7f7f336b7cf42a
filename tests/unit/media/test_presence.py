"""Files on disks that are away."""

import pytest

from clamr_cli.media.walk import Folders


@pytest.mark.parametrize("root", ["/mnt", "/media"])
def test_a_disk_that_vanished_from_where_disks_appear_is_away(root: str) -> None:
    absence = Folders().absence(f"{root}/no such disk/films/a.mp4", root)
    assert absence is not None
    assert (absence.gone, absence.missing) == (False, True)
