"""Every kind of data gives the same sample, and what does not fit is said in one sentence."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bnfold.data import InputSpec, Sample, SampleOptions, open_sample
from bnfold.data import arrays as arrays_module
from bnfold.errors import DataError, UsageError

X = np.random.default_rng(0).normal(size=(10, 2, 3)).astype(np.float32)
Y = np.arange(10, dtype=np.int64)[:, None]
ONE = [InputSpec("x", np.dtype(np.float32), (None, 2, 3))]
TWO = [*ONE, InputSpec("y", np.dtype(np.int64), (None, 1))]


def whole(sample: Sample) -> dict[str, NDArray[Any]]:
    return sample.read(0, sample.count)


def save_npz(folder: Path) -> Path:
    np.savez(folder / "d.npz", x=X, y=Y, label=np.zeros(10))
    return folder / "d.npz"


def save_safetensors(folder: Path) -> Path:
    from safetensors.numpy import save_file

    save_file({"x": X, "y": Y, "label": np.zeros(10)}, folder / "d.safetensors")
    return folder / "d.safetensors"


def save_pt(folder: Path) -> Path:
    torch = pytest.importorskip("torch")
    torch.save({"x": torch.from_numpy(X), "y": torch.from_numpy(Y), "name": "n"}, folder / "d.pt")
    return folder / "d.pt"


def save_pt_tuple(folder: Path) -> Path:
    torch = pytest.importorskip("torch")
    torch.save((torch.from_numpy(X), torch.from_numpy(Y)), folder / "t.pt")
    return folder / "t.pt"


def save_folder(folder: Path) -> Path:
    parts = folder / "parts"
    parts.mkdir()
    for i, rows in enumerate((slice(0, 3), slice(3, 4), slice(4, 10))):
        np.savez(parts / f"{i}.npz", x=X[rows], y=Y[rows])
    return parts


def save_glob(folder: Path) -> str:
    return str(save_folder(folder) / "*.npz")


def save_callable(folder: Path) -> str:
    code = (
        "import numpy as np\n"
        "def batches():\n"
        f"    x = np.load({str(folder / 'x.npy')!r})\n"
        "    for start in (0, 4, 8):\n"
        "        rows = slice(start, start + 4)\n"
        "        yield {'x': x[rows], 'y': np.arange(10)[rows, None], 'label': 'text'}\n"
        "def tuples():\n"
        "    for d in batches():\n"
        "        yield d['x'], d['y'], 'label'\n"
        "def single():\n"
        "    for d in batches():\n"
        "        for x in d['x']:\n"
        "            yield x\n"
        "def endless():\n"
        "    while True:\n"
        "        yield from single()\n"
        "def array():\n"
        "    return np.load(" + repr(str(folder / "x.npy")) + ")\n"
        "def broken():\n"
        "    yield from single()\n"
        "    raise KeyError('lost')\n"
        "def text():\n"
        "    yield 'words'\n"
        "constant = 3\n"
    )
    np.save(folder / "x.npy", X)
    (folder / "made.py").write_text(code)
    return f"{folder / 'made.py'}:batches"


SAVERS = [
    save_npz, save_safetensors, save_pt, save_pt_tuple, save_folder, save_glob, save_callable,
    lambda folder: save_callable(folder).replace("batches", "tuples"),
]  # fmt: skip


@pytest.mark.parametrize("save", SAVERS)
def test_two_inputs_from_any_source(save: Any, tmp_path: Path) -> None:
    sample = open_sample(save(tmp_path), TWO)
    assert sample.count == 10
    found = whole(sample)
    assert list(found) == ["x", "y"]
    np.testing.assert_array_equal(found["x"], X)
    np.testing.assert_array_equal(found["y"], Y)
    assert found["x"].dtype == np.float32 and found["y"].dtype == np.int64
    assert len(sample.read(4, 8)["x"]) == 4


@pytest.mark.parametrize("name", ["single", "array"])
def test_a_callable_with_one_array(name: str, tmp_path: Path) -> None:
    source = save_callable(tmp_path).replace("batches", name)
    np.testing.assert_array_equal(whole(open_sample(source, ONE))["x"], X)


def test_an_endless_callable_is_stopped(tmp_path: Path) -> None:
    source = save_callable(tmp_path).replace("batches", "endless")
    sample = open_sample(source, ONE, SampleOptions(samples=25))
    np.testing.assert_array_equal(whole(sample)["x"], np.concatenate([X, X, X[:5]]))


def test_a_data_loader(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "loader.py").write_text(
        "import numpy as np, torch\n"
        "from torch.utils.data import DataLoader, TensorDataset\n"
        f"x = torch.from_numpy(np.load({str(tmp_path / 'x.npy')!r}))\n"
        "def loader():\n"
        "    return DataLoader(TensorDataset(x, torch.zeros(10)), batch_size=3)\n"
    )
    sample = open_sample(f"{tmp_path / 'loader.py'}:loader", ONE)
    np.testing.assert_array_equal(whole(sample)["x"], X)


def test_single_samples_in_files_of_their_own(tmp_path: Path) -> None:
    for i, x in enumerate(X):
        np.save(tmp_path / f"{i}.npy", x)
    np.testing.assert_array_equal(whole(open_sample(tmp_path, ONE))["x"], X)


def test_large_archives_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays_module, "_IN_MEMORY", 16)
    np.savez_compressed(tmp_path / "d.npz", x=X, y=Y)
    found = arrays_module.open_npz(tmp_path / "d.npz", TWO, SampleOptions())
    assert isinstance(found._arrays["x"], np.memmap)
    np.testing.assert_array_equal(found.read(np.array([7, 2]))["x"], X[[7, 2]])


def test_which_rows_are_taken(tmp_path: Path) -> None:
    path = save_npz(tmp_path)
    spread = open_sample(path, TWO, SampleOptions(samples=5))
    assert whole(spread)["y"].ravel().tolist() == [0, 2, 4, 6, 8]
    drawn = [
        whole(open_sample(path, TWO, SampleOptions(samples=5, shuffle=True, seed=s)))["y"].ravel()
        for s in (0, 0, 1)
    ]
    assert drawn[0].tolist() == drawn[1].tolist() != drawn[2].tolist()
    assert len(set(drawn[0].tolist())) == 5
    assert open_sample(path, TWO, SampleOptions(samples=99)).count == 10


def test_rows_out_of_order_from_several_files(tmp_path: Path) -> None:
    sample = open_sample(save_folder(tmp_path), TWO, SampleOptions(shuffle=True, seed=3))
    found = whole(sample)
    order = found["y"].ravel()
    assert sorted(order.tolist()) == list(range(10)) and order.tolist() != sorted(order.tolist())
    np.testing.assert_array_equal(found["x"], X[order])


def test_csv(tmp_path: Path) -> None:
    features = [InputSpec("f", np.dtype(np.float32), (None, 3))]
    rows = "\n".join(f"id{i},{i},{i}.5,-{i},{i % 2}" for i in range(5))
    (tmp_path / "t.csv").write_text("name,a,b,c,label\n" + rows)
    found = whole(open_sample(tmp_path / "t.csv", features))["f"]
    np.testing.assert_array_equal(found, [[i, i + 0.5, -i] for i in range(5)])
    (tmp_path / "plain.csv").write_text("1,2,3\n4,5,6\n")
    plain = whole(open_sample(tmp_path / "plain.csv", features))["f"]
    np.testing.assert_array_equal(plain, [[1, 2, 3], [4, 5, 6]])
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(
        DataError, match=r"2 columns \(a, b\), but the model wants f float32 \[\?, 3\]"
    ):
        open_sample(tmp_path / "t.csv", features)
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,x\n1,2,3\n")
    with pytest.raises(DataError, match="no numbers"):
        open_sample(tmp_path / "t.csv", features)


def test_parquet(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    features = [InputSpec("f", np.dtype(np.float32), (None, 2))]
    pq.write_table(
        pa.table({"a": [1.0, 2.0], "b": [3, 4], "label": [0, 1]}), tmp_path / "t.parquet"
    )
    found = whole(open_sample(tmp_path / "t.parquet", features))["f"]
    np.testing.assert_array_equal(found, [[1, 3], [2, 4]])


class TestImages:
    """Colours in [0, 1], normalised, in the layout that the model wants."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        image = pytest.importorskip("PIL.Image")
        pixels = np.zeros((4, 6, 3), np.uint8)
        pixels[..., 0], pixels[..., 1], pixels[..., 2] = 255, 51, 0
        for i in range(3):
            image.fromarray(pixels).save(tmp_path / f"{i}.png")
        return tmp_path

    def test_channels_first(self, folder: Path) -> None:
        spec = [InputSpec("i", np.dtype(np.float32), (None, 3, 4, 6))]
        options = SampleOptions(mean=(0.5, 0.2, 0), std=(0.5, 1, 1))
        found = whole(open_sample(folder, spec, options))["i"]
        assert found.shape == (3, 3, 4, 6)
        np.testing.assert_allclose(found[0, :, 0, 0], [1, 0, 0], atol=1e-6)

    def test_channels_last_bgr_integers(self, folder: Path) -> None:
        spec = [InputSpec("i", np.dtype(np.uint8), (None, None, None, 3))]
        options = SampleOptions(image_size=(2, 2), color="bgr")
        found = whole(open_sample(folder, spec, options))["i"]
        assert found.shape == (3, 2, 2, 3) and found[0, 0, 0].tolist() == [0, 51, 255]

    def test_gray(self, folder: Path) -> None:
        spec = [InputSpec("i", np.dtype(np.float32), (None, 1, 4, 6))]
        assert whole(open_sample(folder, spec))["i"].shape == (3, 1, 4, 6)

    def test_size_unknown(self, folder: Path) -> None:
        spec = [InputSpec("i", np.dtype(np.float32), (None, 3, None, None))]
        with pytest.raises(DataError, match="--image-size"):
            open_sample(folder, spec)

    def test_what_makes_no_sense(self, folder: Path) -> None:
        spec = [InputSpec("i", np.dtype(np.float32), (None, 3, 4, 6))]
        for options in (
            SampleOptions(color="cmyk"),
            SampleOptions(layout="CHW"),
            SampleOptions(mean=(1, 2)),
        ):
            with pytest.raises(UsageError):
                open_sample(folder, spec, options)
        (folder / "3.png").write_bytes(b"no image")
        with pytest.raises(DataError, match=r"3\.png is no readable image"):
            whole(open_sample(folder, spec))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, r"holds x, but the model wants x float32 \[\?, 2, 3\]; y int64 \[\?, 1\]"),
        (
            {"x": X[:, :1], "y": Y},
            r"gives float32 \[samples, 1, 3\], but the model wants x float32",
        ),
        ({"x": X, "y": Y.astype(np.float32)}, "float32 .* but the model wants y int64"),
        ({"x": X, "y": Y[:4]}, "10 of x, 4 of y"),
        ({"x": X[:0], "y": Y[:0]}, "no samples"),
        ({"x": X.astype(str), "y": Y}, "wants x float32"),
    ],
)
def test_what_does_not_fit(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=message) as error:
        open_sample(tmp_path / "d.npz", TWO)
    assert "\n" not in str(error.value)


def test_unreadable(tmp_path: Path) -> None:
    for name, content in (
        ("d.npz", b"PK"),
        ("d.npy", b""),
        ("d.safetensors", b"\xff" * 20),
        ("d.txt", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError):
            open_sample(tmp_path / name, ONE)
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "o.npz", "w") as archive:
        archive.write(tmp_path / "o.npy", "x.npy")
    for name in ("o.npy", "o.npz", "missing.npz", "nowhere", "*.npz.none"):
        with pytest.raises(DataError):
            open_sample(tmp_path / name, ONE)


def test_callables_that_fail(tmp_path: Path) -> None:
    source = save_callable(tmp_path)
    for name, error, message in (
        ("broken", DataError, "KeyError: 'lost'"),
        ("text", DataError, "no numbers"),
        ("constant", UsageError, "no function"),
        ("zzzz", UsageError, "has no zzzz; name a function of it"),
        ("batchse", UsageError, r"has no batchse; did you mean batches\?"),
    ):
        with pytest.raises(error, match=message):
            open_sample(source.replace("batches", name), ONE)
    with pytest.raises(UsageError, match="does not exist"):
        open_sample(f"{tmp_path / 'gone.py'}:f", ONE)
    with pytest.raises(UsageError, match="importing no_such_module"):
        open_sample("no_such_module:f", ONE)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_data_that_is_not_finite_is_refused(bad: float, tmp_path: Path) -> None:
    """Whatever is compared or measured on NaN agrees with everything."""
    spoilt = X.copy()
    spoilt[7, 1, 2] = bad
    np.save(tmp_path / "d.npy", spoilt)
    sample = open_sample(str(tmp_path / "d.npy"), ONE)
    assert sample.read(0, 7)["x"].shape == (7, 2, 3)
    with pytest.raises(DataError, match=r"sample 7 of .*d\.npy .* holds NaN .* in input x"):
        sample.read(5, 10)


def test_data_that_the_type_of_the_input_cannot_hold_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", X * 1e6)
    half = [InputSpec("x", np.dtype(np.float16), (None, 2, 3))]
    with pytest.raises(DataError, match="infinite values in input x as float16"):
        open_sample(str(tmp_path / "d.npy"), half).read(0, 2)
