"""Regions lie where they should, whichever way they are turned."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.faces.box import Box
from synopticon_rtc.faces.litert.region import Region, joined

sizes = st.floats(1, 4000)
regions = st.builds(Region, st.floats(-500, 4500), st.floats(-500, 4500), sizes, sizes, st.floats(-math.pi, math.pi))


@given(regions)
def test_corners_and_middle_are_placed_as_its_sides_say(region: Region) -> None:
    corner, right, bottom, middle = region.placed(np.array([[0, 0], [1, 0], [0, 1], [0.5, 0.5]]))
    assert middle == pytest.approx((region.x, region.y), abs=1e-6)
    across = np.array([math.cos(region.angle), math.sin(region.angle)]) * region.width
    down = np.array([-math.sin(region.angle), math.cos(region.angle)]) * region.height
    assert right - corner == pytest.approx(across, abs=1e-6)
    assert bottom - corner == pytest.approx(down, abs=1e-6)


@given(regions, regions)
def test_overlap_is_a_share_and_the_same_both_ways(one: Region, other: Region) -> None:
    assert 0 <= one.overlap(other) <= 1 + 1e-9
    assert one.overlap(other) == pytest.approx(other.overlap(one))
    assert one.overlap(one) == pytest.approx(1)


@given(regions, st.floats(0.1, 10), st.floats(0.1, 10))
def test_scaling_there_and_back_changes_nothing(region: Region, across: float, down: float) -> None:
    assert region.scaled(across, down).scaled(1 / across, 1 / down) == pytest.approx(region)


@given(st.lists(regions), st.lists(regions))
def test_what_is_joined_is_each_face_once_with_the_newest_kept(followed: list[Region], detected: list[Region]) -> None:
    regions = joined(followed, detected)
    assert all(one.overlap(other) <= 0.5 for one in regions for other in regions if one is not other)
    assert set(regions) <= {*followed, *detected}
    assert detected[-1:] == regions[-1:] or not detected


def test_a_face_seen_again_takes_the_place_of_the_one_that_was_followed() -> None:
    left, right = Region(100, 100, 80, 80), Region(300, 100, 80, 80)
    moved = left._replace(x=105)
    assert joined([left, right], [moved]) == [right, moved]


def test_the_region_of_a_face_is_half_as_large_again_and_turned_as_its_eyes_are() -> None:
    region = Region.around(Box(100, 200, 300, 300), (150, 240), (250, 340))
    assert region == pytest.approx((200, 250, 300, 150, math.pi / 4))
    assert region.squared() == pytest.approx((200, 250, 300, 300, math.pi / 4))


@pytest.mark.parametrize(("width", "height"), [(640, 360), (360, 640), (1, 1)])
def test_a_whole_picture_lies_in_the_middle_of_a_square(width: int, height: int) -> None:
    corners = Region.whole(width, height).placed(np.array([[0, 0], [1, 1]]))
    assert corners.sum(axis=0).tolist() == [width, height]
    assert np.ptp(corners, axis=0).tolist() == [max(width, height)] * 2


@pytest.mark.parametrize(
    "region", [Region(1, 1, 0, 1), Region(1, 1, 1, -1), Region(math.nan, 1, 1, 1), Region(1, 1, math.inf, 1)]
)
def test_what_is_no_rectangle_is_not_sound(region: Region) -> None:
    assert not region.sound
    assert Region(1, 1, 1, 1).sound
