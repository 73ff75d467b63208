"""Recipes: those shipped with whinchat, error messages that list every fault, and overrides."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from tests.helpers.tables import TWEETEVAL
from whinchat.data.sources import load_corpus
from whinchat.errors import RecipeError
from whinchat.recipe.loader import RECIPES, conflicting_keys, differences, load_recipe, recipe_to_yaml
from whinchat.recipe.published import Departure, departures, without_claim
from whinchat.recipe.schema import Recipe, SliceName, StressEditName

SHIPPED = (
    "demo",
    "lite-oute-dora",
    "lite-oute-dora-as-published",
    "lite-oute-lora",
    "lite-oute-lora-as-published",
    "smollm2-best-tweeteval",
    "smollm2-dora-tweeteval",
    "smollm2-emotion",
    "smollm2-irony",
    "smollm2-lora-tweeteval",
    "smollm2-qlora-tweeteval",
    "smollm2-ratings",
    "tinyllama-qlora",
    "tinyllama-qlora-as-published",
)
SYSTEM_PROMPT = (
    "You are a tweet sentiment classifier. For each tweet input, analyze its sentiment and output exactly one word: "
    '"negative", "neutral", or "positive". Do not include any extra text.'
)
SMALL = """
name: small
task: {name: small, labels: [a, b], instruction: Say which.}
data: {source: folder}
backbone: {model: folder}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def faults(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path), overrides)
    return str(caught.value).splitlines()


def test_the_shipped_recipes_are_listed() -> None:
    assert RECIPES.names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_load_and_round_trip(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert RECIPES.text(name).startswith("#")
    written = tmp_path / "recipe.yaml"
    written.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    assert load_recipe(str(written)) == recipe
    assert load_recipe(str(tmp_path)) == recipe, "a run folder holds its recipe"
    assert recipe_to_yaml(load_recipe(str(written))) == written.read_text(encoding="utf-8")
    # The written recipe holds every default.
    assert set(yaml.safe_load(written.read_text(encoding="utf-8"))["train"]) == set(type(recipe.train).model_fields)


@pytest.mark.parametrize("name", sorted(set(SHIPPED) - {"smollm2-emotion", "smollm2-irony"}))
def test_shipped_tasks(name: str) -> None:
    task = load_recipe(name).task
    assert task.labels == ("negative", "neutral", "positive")
    assert task.instruction == SYSTEM_PROMPT


LITE_OUTE = ("OuteAI/Lite-Oute-1-300M-Instruct", "float32", "auto")
TINYLLAMA = ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "nf4", "float16")


@pytest.mark.parametrize(
    ("name", "backbone", "adapter_fields", "targets"),
    [
        ("tinyllama-qlora-as-published", TINYLLAMA, ("lora", 16, 32, 0.1), ("q_proj", "k_proj", "v_proj", "o_proj")),
        ("lite-oute-dora-as-published", LITE_OUTE, ("dora", 8, 16, 0.0), ("k_proj", "v_proj")),
        ("lite-oute-lora-as-published", LITE_OUTE, ("lora", 8, 16, 0.0), ("k_proj", "v_proj")),
    ],
)
def test_published_models_and_adapters(
    name: str, backbone: tuple[str, ...], adapter_fields: tuple[object, ...], targets: tuple[str, ...]
) -> None:
    recipe = load_recipe(name)
    assert (recipe.backbone.model, recipe.backbone.load_in, recipe.backbone.compute_dtype) == backbone
    adapter = recipe.adapter
    assert (adapter.method, adapter.r, adapter.lora_alpha, adapter.lora_dropout) == adapter_fields
    assert adapter.target_modules == targets
    assert adapter.init == "default"
    assert (recipe.data.source, recipe.data.config) == ("hub:cardiffnlp/tweet_eval", "sentiment")


@pytest.mark.parametrize(
    ("name", "rate", "batch", "accumulated", "epochs", "rows", "before", "after_"),
    [
        ("tinyllama-qlora-as-published", 2e-4, 8, 4, 3, None, 0.14, 0.51),
        ("lite-oute-dora-as-published", 3e-5, 16, 1, 1, 10_000, 0.06, 0.46),
        ("lite-oute-lora-as-published", 5e-6, 16, 1, 1, None, 0.06, 0.51),
    ],
)
def test_published_training_and_figures(
    name: str, rate: float, batch: int, accumulated: int, epochs: float, rows: int | None, before: float, after_: float
) -> None:
    recipe = load_recipe(name)
    train = recipe.train
    assert train.learning_rate == rate
    assert (train.per_device_train_batch_size, train.gradient_accumulation_steps) == (batch, accumulated)
    assert train.num_train_epochs == epochs
    assert train.loss == "full"
    assert recipe.data.train_rows == rows
    assert recipe.reference is not None
    assert (recipe.reference.before_macro_f1, recipe.reference.after_macro_f1) == (before, after_)
    assert recipe.reference.answered_by == recipe.evaluate.parse == "first_word"
    assert train.lr_scheduler_type == ("constant_with_warmup" if name.startswith("tinyllama") else "constant")


PAIRS = ("lite-oute-dora", "lite-oute-lora", "tinyllama-qlora")


@pytest.mark.parametrize("name", PAIRS)
def test_recipes_of_published_models_come_in_pairs(name: str) -> None:
    published, ours = load_recipe(f"{name}-as-published"), load_recipe(name)
    for section in ("task.instruction", "task.labels", "data.source", "data.train_rows", "backbone.model"):
        part, key = section.split(".")
        assert getattr(getattr(ours, part), key) == getattr(getattr(published, part), key)
    assert ours.adapter.method == published.adapter.method
    assert ours.reference is not None
    assert published.reference is not None
    # The same figures stand beside both, but only one of the two claims to repeat the publication.
    assert ours.reference == published.reference.model_copy(update={"settings": {}})
    assert published.reference.url is not None
    assert published.reference.url.startswith("https://huggingface.co/")
    assert not re.search("as.published", ours.description)


@pytest.mark.parametrize("name", PAIRS)
def test_what_was_published_is_known_by_the_recipe(name: str) -> None:
    published = load_recipe(f"{name}-as-published")
    assert published.reference is not None
    assert departures(published) == ()
    # Everything that decides the result of a run, as far as it is known.
    keys = set(published.reference.settings)
    assert {f"adapter.{key}" for key in ("method", "r", "lora_alpha", "target_modules")} <= keys
    assert {"backbone.model", "train.learning_rate", "data.train_rows", "evaluate.rows", "task.instruction"} <= keys


@pytest.mark.parametrize(
    ("override", "published", "value"),
    [
        ("backbone.model=some/model", "OuteAI/Lite-Oute-1-300M-Instruct", "some/model"),
        ("train.learning_rate=1e-4", 3e-5, 1e-4),
        ("data.train_rows=20000", 10_000, 20_000),
        ("data.train_rows=null", 10_000, None),
        ("evaluate.rows=50", None, 50),
        ("adapter.target_modules=all-linear", ("k_proj", "v_proj"), "all-linear"),
        ("train.loss=choice", "full", "choice"),
    ],
)
def test_an_override_of_a_published_setting_is_a_departure(override: str, published: object, value: object) -> None:
    recipe = load_recipe("lite-oute-dora-as-published", [override])
    assert departures(recipe) == (Departure(override.partition("=")[0], published, value),)
    assert without_claim(recipe).name == "lite-oute-dora"
    # The same value, written in another way, departs from nothing; neither does a setting that was not published.
    assert departures(load_recipe("lite-oute-dora-as-published", ["train.learning_rate=0.00003"])) == ()
    assert departures(load_recipe("lite-oute-dora-as-published", ["train.seed=1", "evaluate.parse=exact"])) == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{train.learning_rat: 1}", "train.learning_rat: not a key of a recipe; did you mean train.learning_rate?"),
        ("{name: x}", "name: not a key of a recipe"),
        ("{train.learning_rate: 7}", "train.learning_rate: input should be less than or equal to 1; found 7"),
        ("{adapter.r: many}", "adapter.r: input should be a valid integer"),
    ],
)
def test_published_settings_are_checked_as_a_recipe_is(small: Path, settings: str, message: str) -> None:
    (fault,) = faults(small, "reference.title=A card", f"reference.settings={settings}")
    assert fault.startswith(f"{small}: reference.settings.{message}")


def test_published_settings_and_figures_do_not_prevent_resuming() -> None:
    recipe = load_recipe("lite-oute-dora-as-published")
    assert conflicting_keys(recipe, recipe.model_copy(update={"reference": None, "description": ""})) == []


@pytest.mark.parametrize(
    ("name", "method", "load_in"),
    [
        ("smollm2-lora-tweeteval", "lora", "auto"),
        ("smollm2-dora-tweeteval", "dora", "auto"),
        ("smollm2-qlora-tweeteval", "lora", "nf4"),
    ],
)
def test_smollm2_recipes(name: str, method: str, load_in: str) -> None:
    recipe = load_recipe(name)
    assert recipe.backbone.model == load_recipe("demo").backbone.model == "package:smollm2-135m-instruct"
    assert (recipe.adapter.method, recipe.backbone.load_in) == (method, load_in)
    assert recipe.adapter.target_modules == "all-linear"


def test_the_demo_recipe() -> None:
    demo = load_recipe("demo")
    assert demo.data.source == "package:vader-tweets"
    assert (demo.data.train_rows, demo.data.test_rows, demo.evaluate.split) == (3000, 800, "test")
    assert demo.train.num_train_epochs == 1


def test_every_fault_at_once_with_path_and_hint(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(
        """
name: bad
task: {name: t, labels: [a], instruction: Say., anwsers: {}}
data: {train_rows: 0}
backbone: {model: m, load_in: int8, colour: red}
adapter: {r: many, lora_dropout: 1.5, use_dora: true}
train: {learning_rat: 1e-3, num_train_epochs: -1}
evaluat: {}
""",
        encoding="utf-8",
    )
    messages = faults(path)
    patterns = [
        r"task\.labels: .*at least 2 items",
        r"task\.anwsers: unknown key; did you mean answers\?$",
        r"data\.source: missing; every recipe must set it$",
        r"data\.train_rows: input should be a number of rows from 1 on, or a share of them below 1; found 0$",
        r"backbone\.load_in: .*'nf4'.*; found 'int8'$",
        r"backbone\.colour: unknown key",
        r"adapter\.r: .*valid integer.*; found 'many'$",
        r"adapter\.lora_dropout: .*less than 1; found 1\.5$",
        r"adapter\.use_dora: unknown key",
        r"train\.learning_rat: unknown key; did you mean learning_rate\?$",
        r"train\.num_train_epochs: .*greater than 0; found -1$",
        r"evaluat: unknown key; did you mean evaluate\?$",
    ]
    assert len(messages) == len(patterns)
    for pattern in patterns:
        hits = [line for line in messages if re.search(pattern, line)]
        assert len(hits) == 1, (pattern, messages)
        assert hits[0].startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.labels=[a, b, a]", "task.labels: a listed more than once; list each label once"),
        ("task.answers={c: x}", "task.answers: c not in labels; labels are a, b"),
        ("task.answers={a: B}", "task.answers: two labels share an answer word"),
        ("task.user_template=no slot", "task.user_template: must contain {text} exactly once, found 'no slot'"),
        ("task.user_template='{text} {text}'", "task.user_template: must contain {text} exactly once"),
        ("adapter.target_modules=[]", "adapter.target_modules: the list is empty, so nothing would train"),
        ("train.keep=best", "train.eval_steps: keep: best need it; set eval_steps"),
        ("train.early_stopping_patience=2", "train.eval_steps: early_stopping_patience need it"),
        ("train.logit_adjustment=1", "train.logit_adjustment: only loss: choice compares labels"),
        ("train.class_weights={a: 1, b: -1}", "train.class_weights: a weight is below zero"),
        (
            "train.class_weights={a: 1, c: 2}",
            "train.class_weights: must name each label once; missing: b, unknown: c; labels are a, b",
        ),
        ("data.label_map={x: c}", "data.label_map: c not in task.labels; labels are a, b"),
    ],
)
def test_faults_between_fields(small: Path, override: str, message: str) -> None:
    messages = faults(small, override)
    assert len(messages) == 1
    assert messages[0].startswith(f"{small}: {message}")


FINITE = "input should be a finite number; found "
MOST = "input should be at most 4,294,967,295; found "


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("adapter.lora_alpha=.inf", f"adapter.lora_alpha: {FINITE}.inf"),
        ("train.learning_rate=.nan", f"train.learning_rate: {FINITE}.nan"),
        ("train.weight_decay=-.inf", f"train.weight_decay: {FINITE}-.inf"),
        ("train.warmup_steps=1e400", f"train.warmup_steps: {FINITE}'1e400'"),
        ("train.warmup_steps=inf", f"train.warmup_steps: {FINITE}'inf'"),
        ("train.num_train_epochs=.inf", f"train.num_train_epochs: {FINITE}.inf"),
        ("train.num_train_epochs=1e6", "train.num_train_epochs: input should be less than or equal to 100000"),
        ("train.max_steps=.inf", f"train.max_steps: {FINITE}.inf"),
        ("train.max_steps=1" + "0" * 30, f"train.max_steps: {MOST}1" + "0" * 30),
        ("train.seed=18446744073709551616", f"train.seed: {MOST}18446744073709551616"),
        ("train.seed=" + "9" * 5000, f"train.seed: {FINITE}'999"),
        ("evaluate.seed=-1", "evaluate.seed: input should be greater than or equal to 0; found -1"),
        ("evaluate.bootstrap_resamples=1000000", "evaluate.bootstrap_resamples: input should be less than or equal to"),
        ("evaluate.rows=true", "evaluate.rows: input should be a number; found true"),
        ("train.class_weights={a: .inf, b: 1}", f"train.class_weights.a: {FINITE}.inf"),
        ("train.class_weights={a: .nan, b: 1}", f"train.class_weights.a: {FINITE}.nan"),
        ("train.class_weights={a: yes, b: 1}", "train.class_weights.a: input should be a number; found yes"),
        ("train.class_weights={a: 0, b: 0}", "train.class_weights: no weight is above 1e-06, so nothing would train"),
        ("train.class_weights={a: 1e-50, b: 0}", "train.class_weights: no weight is above 1e-06"),
        ("train.class_weights={}", "train.class_weights: must name each label once"),
        ("reference={title: x, settings: {adapter.lora_alpha: .inf}}", "reference.settings.adapter.lora_alpha: input"),
        ("adapter.target_modules=['(a+)+$']", "adapter.target_modules.0: string should match pattern"),
    ],
)
def test_numbers_that_no_run_can_use(small: Path, override: str, message: str) -> None:
    (fault,) = faults(small, override)
    assert fault.startswith(f"{small}: {message}")
    assert len(fault) < 500


@pytest.mark.parametrize(
    ("label", "fault"),
    [
        (r"a\nb", "task.labels.0: holds U+000A (a control character) at position 1, which cannot be seen; remove it"),
        (r"\e[1m", "task.labels.0: holds U+001B (a control character) at position 0"),
        (r"a\u200f", "task.labels.0: holds U+200F (RIGHT-TO-LEFT MARK) at position 1"),
        (r"\u202eab", "task.labels.0: holds U+202E (RIGHT-TO-LEFT OVERRIDE) at position 0"),
        (r"a\ufeff", "task.labels.0: holds U+FEFF (ZERO WIDTH NO-BREAK SPACE) at position 1"),
        (r"a\u2028b", "task.labels.0: holds U+2028 (LINE SEPARATOR) at position 1"),
        (r"\ud83d", "task.labels.0: input holds half a character, often an emoji cut in two"),
        ("x" * 201, "task.labels.0: has 201 characters; a name has 200 at most"),
        ("  ", "task.labels.0: string should have at least 1 character"),
        (" other ", "task.labels: other listed more than once"),
        (r"othe\u0301r", r"task.labels: othér listed more than once"),
        ("ｏther", "task.answers: two labels share an answer word"),
    ],
)
def test_labels_that_could_not_be_told_apart_or_seen(small: Path, label: str, fault: str) -> None:
    other = "othér" if "u0301" in label else "other"
    (found,) = faults(small, f'task.labels=["{label}", {other}]')
    assert found.startswith(f"{small}: {fault}")


def test_labels_of_many_scripts(small: Path) -> None:
    labels = ("family 👨‍👩‍👧", "می‌خواهم", "好", "good", "good news", "= 1", "-", "1/2")
    recipe = load_recipe(str(small), [f"task.labels={json.dumps(labels)}"])
    assert recipe.task.labels == labels


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "task.language=english",
            "task.language: is no language code, so the hub would refuse the model card; write an ISO 639 code in "
            "small letters, such as en or de, or multilingual; found 'english'",
        ),
        (
            "publish.license=apache2",
            "publish.license: is no license id of the hub; did you mean apache-2.0? for another license set other, and "
            "publish.license_name; found 'apache2'",
        ),
        ("publish.license=other", "publish.license_name: the hub wants a name with license: other; name the license"),
        (
            "publish.license_link=x",
            "publish.license_link: the hub reads it with license: other only; set license: other, or remove it",
        ),
        (
            "publish.datasets=[https://x]",
            "publish.datasets.0: is no name of a data set on the hub; write OWNER/NAME; found 'https://x'",
        ),
    ],
)
def test_the_hub_takes_the_metadata_of_the_card(small: Path, override: str, message: str) -> None:
    assert faults(small, override) == [f"{small}: {message}"]


@pytest.mark.parametrize("language", ["de", "gsw", "multilingual"])
def test_languages_that_the_hub_knows(small: Path, language: str) -> None:
    assert load_recipe(str(small), [f"task.language={language}"]).task.language == language


def test_clean_samples_need_a_list_of_the_language(small: Path) -> None:
    (message,) = faults(small, "publish.samples=clean", "task.language=sw")
    assert message.startswith(f"{small}: publish.samples: clean has no list of profanity for task.language sw; lists:")
    assert load_recipe(str(small), ["publish.samples=clean", "task.language=de"]).publish.samples == "clean"


def test_pissa_does_not_decay(small: Path) -> None:
    messages = faults(small, "adapter.init=pissa", "train.weight_decay=0.1")
    assert messages == [
        f"{small}: train.weight_decay: must be 0 with adapter.init: pissa, because weight decay would pull the "
        "adapter away from its first weights"
    ]


def test_overrides(small: Path) -> None:
    recipe = load_recipe(
        str(small),
        [
            "train.learning_rate=3e-4",
            "adapter.target_modules=[q_proj, v_proj]",
            "data.train_rows=null",
            "task.instruction=Say a = b",
            "evaluate.generate=false",
            "train.class_weights={a: 1, b: 2.5}",
            "train.seed=1",
            "train.seed=7",
        ],
    )
    assert recipe.train.learning_rate == 3e-4
    assert recipe.adapter.target_modules == ("q_proj", "v_proj")
    assert recipe.data.train_rows is None
    assert recipe.task.instruction == "Say a = b"
    assert recipe.evaluate.generate is False
    assert recipe.train.class_weights == {"a": 1.0, "b": 2.5}
    assert recipe.train.seed == 7, "the last one counts"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rate", r"--set train\.learning_rate: must read KEY=VALUE"),
        ("=3", r"--set =3: must read KEY=VALUE"),
        ("train..seed=3", r"must read KEY=VALUE"),
        ("name.x=3", r"--set name\.x=3: name is a value, not a section"),
        ("train.seed=[1", r"--set train\.seed=\[1: '\[1' is not a YAML value; quote it if it is text"),
    ],
)
def test_bad_overrides(small: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(str(small), [override])


def test_an_override_with_a_mistyped_key(small: Path) -> None:
    assert faults(small, "train.learning_rat=3e-4") == [
        f"{small}: train.learning_rat: unknown key; did you mean learning_rate?"
    ]


def test_slices_and_edits_are_chosen_by_name(small: Path) -> None:
    defaults = load_recipe(str(small)).evaluate
    assert defaults.slices == ("length", "negation", "capitals", "question_mark")
    assert defaults.stress_edits == ("typo", "lower_case", "full_stop", "doubled_spaces")
    chosen = load_recipe(str(small), ["evaluate.slices=[mention]", "evaluate.stress_edits=[]"]).evaluate
    assert (chosen.slices, chosen.stress_edits) == (("mention",), ())
    (fault,) = faults(small, "evaluate.slices=[length, hashtags]")
    assert fault.startswith(f"{small}: evaluate.slices.1: input should be 'length', 'negation'")
    assert fault.endswith("found 'hashtags'; did you mean hashtag?")
    (fault,) = faults(small, "evaluate.stress_edits=[lowercase]")
    assert fault.endswith("found 'lowercase'; did you mean lower_case?")


@pytest.mark.parametrize("name", SHIPPED)
def test_recipes_for_tweets_use_every_slice_and_stress_edit(name: str) -> None:
    settings = load_recipe(name).evaluate
    assert set(settings.slices) == set(get_args(SliceName))
    assert set(settings.stress_edits) == set(get_args(StressEditName))


def test_reporting_keys_do_not_prevent_resuming(small: Path) -> None:
    old, new = load_recipe(str(small)), load_recipe(str(small), ["evaluate.slices=[mention]", "train.seed=1"])
    assert differences(old, new) == ["evaluate.slices", "train.seed"]
    assert conflicting_keys(old, new) == ["train.seed"]


def test_files_that_are_not_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="neither a recipe file nor a shipped recipe; did you mean demo"):
        load_recipe("dmeo")
    with pytest.raises(RecipeError, match=r"gone\.yaml: no such file; `whinchat recipes list` lists the shipped ones"):
        load_recipe(str(tmp_path / "gone.yaml"))
    bad = tmp_path / "bad.yaml"
    for content, message in (
        (b"\xff\xfe", "not UTF-8 at byte 0; save the file as UTF-8"),
        (b"a: [", "not valid YAML: "),
        (b"", "holds nothing; a recipe is a mapping"),
        (b"- a\n", "holds a list; a recipe is a mapping"),
    ):
        bad.write_bytes(content)
        with pytest.raises(RecipeError, match=re.escape(message)) as caught:
            load_recipe(str(bad))
        assert "\n" not in str(caught.value)


def test_defaults_are_checked_and_records_are_frozen(small: Path) -> None:
    recipe = load_recipe(str(small))
    with pytest.raises(Exception, match="frozen"):
        recipe.train.seed = 3  # type: ignore[misc]
    assert Recipe.model_validate(recipe.model_dump()) == recipe


def test_answer_words_follow_the_labels(small: Path) -> None:
    task = load_recipe(str(small), ["task.labels=[x, y, z]", "task.answers={y: why}"]).task
    assert task.answer_words == ("x", "why", "z")


@pytest.mark.skipif(not TWEETEVAL.is_dir(), reason="../shared/data/tweeteval is not on this machine")
@pytest.mark.parametrize(("name", "rows"), [("emotion", (3257, 374, 1421)), ("irony", (2862, 955, 784))])
def test_tweeteval_recipes_read_tweeteval(name: str, rows: tuple[int, ...]) -> None:
    recipe = load_recipe(f"smollm2-{name}", [f"data.source={TWEETEVAL / name}"])
    corpus = load_corpus(recipe)
    assert corpus.split("test").name == recipe.evaluate.split
    assert (len(corpus.split("validation")), len(corpus.split("test"))) == rows[1:]
    leaked = rows[0] - len(corpus.train)
    assert 0 <= leaked < 0.02 * rows[0]


def test_a_start_for_few_labels_reads_texts_as_tweeteval_does() -> None:
    start, task = load_recipe("smollm2-ratings").task, load_recipe("smollm2-best-tweeteval").task
    assert (start.labels, start.instruction) == (task.labels, task.instruction)
    # TweetEval's names and links are already @user and http, whether or not the start has learned others.
    assert (*start.clean, "mentions", "links") == task.clean
