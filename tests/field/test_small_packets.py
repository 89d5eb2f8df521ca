"""Networks that carry small packets alone: tunnels, VPNs and mobile networks that drop fragments."""

import pytest
from networks import connect, drop_fragments, hosts, play

pytestmark = pytest.mark.field


@pytest.mark.parametrize("codec", ["vp8", "h264"])
def test_a_picture_of_720_lines_comes_through_where_fragments_are_dropped(codec: str) -> None:
    with hosts(2) as (one, other):
        connect(one, "10.77.0.1/24", other, "10.77.0.2/24", mtu=1280)
        drop_fragments(one)
        drop_fragments(other)
        summary = play(one, other, "10.77.0.1", "--source", "test", "--codec", codec)
    assert summary["frames"] == 30
    assert (summary["width"], summary["height"]) == (1280, 720)
