"""The frames of a film: at rest at snapshots, on straight lines between them, as GIF."""

import shutil
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from nclens.figures.film import AT_REST, AT_THE_END, MOVING, between, moments, write_frames
from tests.figures.films import film, regressed


def test_frames_rest_at_snapshots_and_move_between_them_and_the_end_is_held():
    made = moments(4)
    assert len(made) == 3 * (AT_REST + MOVING) + AT_THE_END
    assert made == sorted(made)
    assert [made.count(float(frame)) for frame in range(4)] == [AT_REST, AT_REST, AT_REST, AT_THE_END]
    values = np.array([[0, 10], [4, -10]], dtype=np.int16)
    assert between(values, 0.25).tolist() == [1, 5]
    assert between(values, 1).tolist() == [4, -10]


@pytest.mark.lengthy
@pytest.mark.parametrize(("made", "plane"), [(film(snapshots=2), "templates"), (regressed(2), "principal")])
def test_a_gif_has_moving_frames_of_one_size(made, plane, tmp_path):
    path = tmp_path / "film.gif"
    write_frames(made, plane, path)
    with Image.open(path) as picture:
        frames = [np.asarray((picture.seek(number), picture.convert("L"))[1]) for number in range(picture.n_frames)]
    assert len(frames) == MOVING + 2  # equal frames are one that lasts longer
    changed = [(one != other).mean() for one, other in pairwise(frames)]
    assert min(changed) > 0.001


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg here")
def test_an_mp4_is_written_where_ffmpeg_is(tmp_path):
    write_frames(film(snapshots=2), "templates", tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes()[4:8] == b"ftyp"
