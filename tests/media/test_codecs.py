from fractions import Fraction

import pytest

from synopticon_rtc.media.codecs import codec_of, why_not


@pytest.mark.parametrize(("encoder", "codec"), [("libx264", "h264"), ("libvpx", "vp8"), ("h264_nvenc", "h264")])
def test_the_codec_of_an_encoder_is_what_ffmpeg_says(encoder: str, codec: str) -> None:
    assert codec_of(encoder, ("vp8", "h264")) == codec


@pytest.mark.parametrize("encoder", ["nonsense", "aac", "libvpx-vp9", ""])
def test_an_encoder_of_no_codec_that_is_offered_is_refused_with_those_that_there_are(encoder: str) -> None:
    with pytest.raises(ValueError, match=r"no such encoder of h264: .*this FFmpeg has .*libx264"):
        codec_of(encoder, ("h264",))


@pytest.mark.parametrize(("encoder", "codec"), [("libx264", "h264"), ("libvpx", "vp8"), ("vp8", "vp8")])
def test_an_encoder_that_works_is_found_to_work(encoder: str, codec: str) -> None:
    assert why_not(encoder, codec_of(encoder, ("vp8", "h264")), 320, 180, bitrate=500_000, fps=Fraction(30)) == ""
    assert codec_of(encoder, ("vp8", "h264")) == codec


@pytest.mark.parametrize(
    ("encoder", "reason"),
    [
        ("libx264rgb", "Invalid argument"),  # it takes no pictures of ours
        ("h264", "it keeps more than 8 pictures back"),  # x264, without what keeps it from looking ahead
    ],
)
def test_why_an_encoder_cannot_be_used_is_told(encoder: str, reason: str) -> None:
    assert why_not(encoder, "h264", 320, 180, bitrate=500_000, fps=Fraction(30)) == reason
