"""Files that describe a data set, and files that do not."""

import pytest

from jaxdet.data.images import yaml_sets
from jaxdet.errors import InputError


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "train: a",
        "train: a\nnames: 3",
        "train: a\nnames: [x, x]",
        "train: a\nnames: {1: x}",
        "train: a\nnames: {0: x, 2: y}",
        "train: a\nnames: [x]\nnc: 2",
        "train: 3\nnames: [x]",
        "train: [a, b]\nnames: [x]",
        "names: [x]",
        "path: [a]\ntrain: a\nnames: [x]",
        "a: &a [x, x]\nb: &b [*a, *a]\nnames: *b\ntrain: a",
        "train: !!python/object/apply:os.getcwd []\nnames: [x]",
        "? [a]\n: b",
        "[" * 3000,
    ],
)
def test_what_describes_no_set_is_one_line(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=r"data\.yaml: .*"):
        yaml_sets.read(tmp_path / "data.yaml")
