"""Data sets on the hub."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import pytest

from whinchat.data.hub_dataset import read_hub
from whinchat.errors import DataError
from whinchat.recipe.data_config import DataConfig

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def data(source: str = "hub:owner/name", **fields: Any) -> DataConfig:
    return DataConfig(source=source, **fields)


def dataset(texts: list[Any], labels: list[Any], names: list[str] | None = None) -> Any:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"text": texts, "label": labels})
    return table.cast_column("label", datasets.ClassLabel(names=names)) if names else table


class _Answer:
    sha = COMMIT


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A hub that answers; put splits into the returned dict, and find the calls under ``asked``."""
    datasets = pytest.importorskip("datasets")
    huggingface_hub = pytest.importorskip("huggingface_hub")
    splits: dict[str, Any] = {}
    asked: list[Any] = []

    def dataset_info(_api: Any, repo: str, *, revision: str | None, timeout: float) -> _Answer:
        asked.append((repo, revision, timeout))
        return _Answer()

    def load_dataset(repo: str, config: str | None, *, revision: str | None, trust_remote_code: bool) -> dict[str, Any]:
        asked.append((repo, config, revision))
        return splits

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return {"splits": splits, "asked": asked}


class TestHub:
    def test_names_pinned_commit_and_split_spellings(self, hub: dict[str, Any]) -> None:
        hub["splits"] |= {
            "train": dataset(["a", "b"], [0, 1], ["no", "yes"]),
            "dev": dataset(["c"], [1], ["no", "yes"]),
            "unsupervised": dataset(["d"], [0], ["no", "yes"]),
        }
        raw = read_hub(data(config="sentiment", revision="v1"))
        assert raw.revision == COMMIT
        assert hub["asked"] == [("owner/name", "v1", 10.0), ("owner/name", "sentiment", COMMIT)]
        assert {name: [row.label for row in rows] for name, rows in raw.splits.items()} == {
            "train": ["no", "yes"],
            "validation": ["yes"],
        }
        assert raw.splits["train"][1].where == "hub:owner/name train row 2"

    def test_secret_labels_are_no_split(self, hub: dict[str, Any]) -> None:
        hub["splits"] |= {"train": dataset(["a"], [0], ["no", "yes"]), "test": dataset(["c"], [-1], ["no", "yes"])}
        assert list(read_hub(data()).splits) == ["train"]

    def test_answers_to_questions_and_texts_of_columns(self, hub: dict[str, Any]) -> None:
        datasets = pytest.importorskip("datasets")
        names = datasets.ClassLabel(names=["joy", "fear"])
        features = {
            "title": datasets.Value("string"), "stars": datasets.Value("int64"), "mood": names,
            "moods": datasets.Sequence(names),
        }  # fmt: skip
        cells = {"title": ["a", None], "stars": [1, 5], "mood": [1, -1], "moods": [[0, 1], []]}
        hub["splits"] |= {
            "train": datasets.Dataset.from_dict(cells, datasets.Features(features)),
            "test": datasets.Dataset.from_dict(
                {"title": ["b"], "stars": [2], "mood": [-1], "moods": [[]]}, datasets.Features(features)
            ),
        }
        raw = read_hub(data(text="{title} {stars}", answers={"first": "mood", "all": "moods"}))
        assert [row.text for row in raw.splits["train"]] == ["a 1", "5"]
        assert [row.cells for row in raw.splits["train"]] == [("fear", ["joy", "fear"]), (-1, [])]
        # A split counts as unlabelled where no column has an answer.
        assert raw.splits["test"][0].cells == (-1, [])
        with pytest.raises(
            DataError, match=r"train: no column 'titel'.* with data\.text\n.*no column 'all'.*data\.answers"
        ):
            read_hub(data(text="{titel}", answers={"all": "all"}))

    def test_no_train(self, hub: dict[str, Any]) -> None:
        hub["splits"] |= {"test": dataset(["a"], ["x"])}
        with pytest.raises(DataError, match="hub:owner/name: no labelled train split; it has test"):
            read_hub(data())

    def test_missing_column(self, hub: dict[str, Any]) -> None:
        hub["splits"] |= {"train": dataset(["a"], ["x"])}
        with pytest.raises(DataError, match="hub:owner/name train: no column 'tweet'"):
            read_hub(data(text_column="tweet"))

    def test_load_error_is_one_line(self, hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        def load_dataset(*_args: Any, **_options: Any) -> None:
            raise ValueError("Config name is missing.\nPlease pick one")

        monkeypatch.setattr("datasets.load_dataset", load_dataset)
        with pytest.raises(
            DataError, match=r"cannot be loaded \(Config name is missing\. Please pick one\); check"
        ) as hit:
            read_hub(data())
        assert "\n" not in str(hit.value)

    def test_bad_name(self) -> None:
        with pytest.raises(DataError, match="hub:a/b/c: must read hub:OWNER/NAME"):
            read_hub(data("hub:a/b/c"))

    def test_unreachable_fails_fast(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("huggingface_hub")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        start = time.monotonic()
        with pytest.raises(DataError, match="hub:owner/name: the hub cannot be reached") as hit:
            read_hub(data())
        assert time.monotonic() - start < 10
        assert "--set data.source=FOLDER, or the demo recipe" in str(hit.value)
        assert "\n" not in str(hit.value)

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            ("GatedRepoError", "access is gated; ask for it"),
            ("RevisionNotFoundError", r"has no revision 'v1'; check data\.revision"),
            ("RepositoryNotFoundError", "no such data set on the hub, or a private one"),
            ("HfHubHTTPError", r"the hub answered with an error \(it broke\); try later; to stay offline"),
            ("OfflineModeIsEnabled", r"the hub cannot be reached \(it broke\)"),
        ],
    )
    def test_hub_answers(self, hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch, fault: str, message: str) -> None:
        from huggingface_hub import HfApi, errors

        kind = getattr(errors, fault)
        raised = kind.__new__(kind, "it broke")  # their constructors want a whole HTTP response
        Exception.__init__(raised, "it broke")

        def dataset_info(*_args: Any, **_options: Any) -> None:
            raise raised

        monkeypatch.setattr(HfApi, "dataset_info", dataset_info)
        with pytest.raises(DataError, match=message):
            read_hub(data(revision="v1"))

    def test_offline_copy(self, hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        class Cached:
            features: ClassVar[dict[str, Any]] = {}
            column_names = ("text", "label")
            cache_files = ({"filename": f"/cache/owner___name/default/0.0.0/{COMMIT}/name-train.arrow"},)

            def __getitem__(self, column: str) -> list[str]:
                return ["x"]

            def __len__(self) -> int:
                return 1

        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        hub["splits"] |= {"train": Cached()}
        assert read_hub(data(revision=COMMIT[:8])).revision == COMMIT
        with pytest.raises(DataError, match=f"the offline copy is commit {COMMIT}, data.revision asks for v1"):
            read_hub(data(revision="v1"))
