"""The recipe: everything that decides how a student is made, as one YAML file.

A recipe is validated as a whole: every mistake is reported at once, with its path. Relative paths under ``data`` start
at ``data.root``; ``teacher.path`` is a folder or a hub name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator

from compressor.data_config import DataConfig, Task
from compressor.errors import ConfigError
from compressor.method_config import MethodConfig
from compressor.mistakes import list_mistakes
from compressor.model_config import Conflict, Section, StudentConfig, TransformerConfig
from compressor.recipe_files import read_fields
from compressor.teacher_config import TeacherConfig

Options = TypeVar("Options", bound=BaseModel)
RANDOM, TEACHER_EMBEDDINGS, TEACHER_LAYERS = "random", "teacher_embeddings", "teacher_layers"
INITIALIZATIONS = (RANDOM, TEACHER_EMBEDDINGS, TEACHER_LAYERS)
"""Names that ``training.initialization`` may have; anything else there is the folder of a run."""


class TokenizerConfig(Section):
    """The student's tokenizer. With a teacher it is the teacher's own; otherwise a SentencePiece model is trained."""

    path: str | None = Field(None, description="Folder of an existing tokenizer; null: the teacher's, or trained.")
    vocab_size: int = Field(8000, ge=32, description="Pieces of a SentencePiece model trained on the corpus.")
    training_sentences: int = Field(
        200_000,
        ge=1,
        description="Sentences that it is trained on, sampled from both sides of the training data: a minute or two.",
    )
    byte_fallback: bool = Field(
        True,
        description="256 of the pieces are bytes, which spell characters that have no piece, so that none is lost.",
    )
    vocabulary: Literal["teacher", "corpus"] = Field(
        "teacher",
        description="Tokens of a student that has a teacher: all of the teacher's, or those that occur in the training "
        "data, with special tokens and what spells all other text (bytes, single characters). A given tokenizer, in "
        "`path` or in a run to start from, may then have some of the teacher's tokens.",
    )
    output_vocabulary: Literal["all", "targets"] = Field(
        "all",
        description="Tokens that the student may write: all, or those of the training targets and single characters. "
        "A joint vocabulary is half source language, and an output layer without that half costs half.",
    )


class TrainingConfig(Section):
    """Optimisation."""

    updates: int | None = Field(None, ge=1, description="Number of updates; give this or `epochs`.")
    epochs: float | None = Field(
        None, gt=0, description="Passes over the training data, fractions allowed; give this or `updates`."
    )
    batch_tokens: int = Field(2800, ge=16, description="Tokens of a batch, padding included, on its larger side.")
    accumulation: int = Field(
        1, ge=1, description="Batches of each process in an update; the loss is averaged over those of all processes."
    )
    learning_rate: float = Field(1e-3, gt=0, description="Peak of the schedule.")
    lr_schedule: Literal["linear", "inverse_sqrt", "cosine"] = Field("linear", description="Decay after the warm-up.")
    warmup_updates: int = Field(400, ge=0, description="Updates of linear warm-up.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decay.")
    adam_betas: tuple[float, float] = Field((0.9, 0.98), description="AdamW's β₁ and β₂.")
    clip_norm: float = Field(1.0, gt=0, description="Largest gradient norm.")
    seed: int = Field(1, ge=0, description="Seed of weights, order, dropout, β's draws and rollouts.")
    initialization: str = Field(
        RANDOM,
        description="What the student starts from. `random`: fresh weights. `teacher_embeddings`: the teacher's "
        "embeddings at the student's width. `teacher_layers`: its layers too, cut down to the student's depth and "
        "widths; for runs, Marian and BART teachers (BART's at their own `d_model`) whose norm, activation and "
        "positions are the student's, and whose heads are not smaller. Or the folder of a run of the same shape "
        "(with a slash: `runs/name`): its best weights, or those of one file in it "
        "(`runs/name/checkpoints/UPDATE.safetensors`), with its tokenizer; a Transformer's depth may differ, then "
        "layers are left out or repeated.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Arithmetic of training; auto: bf16 where the processor has it."
    )
    threads: int | None = Field(
        None, ge=1, description="Processor threads; null: as many as there are processors without other work."
    )
    eval_every: int | None = Field(None, ge=1, description="Updates between dev scores; null: a tenth of the run.")
    checkpoint_minutes: float = Field(5.0, gt=0, description="Time between resumable checkpoints.")
    wait_minutes: float = Field(
        10.0,
        gt=0,
        description="Of several processes: the run ends when one has not answered the others for that long.",
    )
    keep_checkpoints: int = Field(
        0, ge=0, description="Weights of the last dev scores that stay in the run: `checkpoints/UPDATE.safetensors`."
    )
    average_last: int | None = Field(
        None,
        ge=2,
        description="At the end, the weights of that many last dev scores are averaged, and taken if dev is better.",
    )

    patience: int | None = Field(
        None, ge=1, description="The run ends after that many dev scores without a gain; null: at its length."
    )
    tensorboard: bool = Field(
        False, description="The curves and sample outputs are written for TensorBoard, too: `tensorboard/` in the run."
    )

    @property
    def initial_run(self) -> Path | None:
        """The run whose weights training starts from; None if it starts from something else."""
        file = self.initial_weights
        if file is not None:
            return file.parent.parent
        return None if self.initialization in INITIALIZATIONS else Path(self.initialization)

    @property
    def initial_weights(self) -> Path | None:
        """The file of that run's weights, where the recipe names one; None: its best ones."""
        path = Path(self.initialization)
        return path if path.suffix == ".safetensors" else None

    @field_validator("initialization")
    @classmethod
    def _check_initialization(cls, value: str) -> str:
        if value not in INITIALIZATIONS and Path(value).name == value:  # a misspelt name is not taken for a folder
            raise ValueError(f"give {', '.join(INITIALIZATIONS)}, or the folder of a run with a slash (./{value})")
        return value

    def conflicts(self) -> Iterator[Conflict]:
        """See Section."""
        if (self.updates is None) == (self.epochs is None):
            yield Conflict("give exactly one of updates, epochs", ("updates", "epochs"))


class Recipe(Section):
    """A whole run."""

    task: Task = Field("translation", description="What the model does.")
    source_language: str | None = Field(
        None, description="ISO code of the source language; a translation recipe needs it."
    )
    target_language: str | None = Field(
        None, description="ISO code of the target language; a translation recipe needs it."
    )
    licence: str | None = Field(None, description="Terms of the weights that come out, for the model card.")
    data: DataConfig = Field(description="Corpora.")
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig, description="The student's tokenizer.")
    teacher: TeacherConfig | None = Field(None, description="The model to learn from; null: `compress train` only.")
    student: StudentConfig = Field(default_factory=TransformerConfig, description="Size of the model to make.")
    method: MethodConfig = Field(default_factory=MethodConfig, description="How the student learns.")
    training: TrainingConfig = Field(description="Length of the run, batches and optimiser.")

    def conflicts(self) -> Iterator[Conflict]:
        """See Section."""
        name, start, data = self.method.name, self.training.initialization, self.data
        row = self.method.row
        languages = ("source_language", "target_language")
        if self.task == "translation" and not (self.source_language and self.target_language):
            yield Conflict(f"{' and '.join(languages)}: needed for translation", ("task", *languages))
        if self.teacher is None and row.reads_teacher:
            message = f"method.name: {name} needs a teacher: give teacher.path, or train without one (`compress train`)"
            yield Conflict(message, ("teacher", "method.name"))
        if self.teacher is None and start in (TEACHER_EMBEDDINGS, TEACHER_LAYERS):
            message = f"training.initialization: {start} needs a teacher"
            yield Conflict(message, ("teacher", "training.initialization"))
        if self.teacher is None and self.tokenizer.vocabulary == "corpus":
            message = "tokenizer.vocabulary: corpus cuts a teacher's; without one it is trained on the corpus"
            yield Conflict(message, ("teacher", "tokenizer.vocabulary"))
        yield from self._label_conflicts()
        if start == TEACHER_LAYERS and not self.student.copies_layers:
            message = (
                f"training.initialization: {start} is for students with a Transformer encoder, not for "
                f"{self.student.architecture}; give {TEACHER_EMBEDDINGS}"
            )
            yield Conflict(message, ("training.initialization", "student.architecture"))
        if self.training.initial_run is not None and self.tokenizer.path:
            message = "tokenizer.path: leave it out, the run in training.initialization has the tokenizer"
            yield Conflict(message, ("tokenizer.path", "training.initialization"))
        for split in ("train", "dev"):
            for index, source in enumerate(getattr(data, split)):
                place = f"data.{split}.{index}"
                if not source.has_target:
                    yield Conflict(f"{place}: has no target; sources without one belong into data.mono", (place,))
        if self.teacher is not None and row.compares_hypotheses:
            beams, taken = self.teacher.num_beams, self.method.mbr_hypotheses
            if beams < max(2, taken):
                message = f"teacher.num_beams: {name} chooses {taken} of {beams} hypotheses; give more beams"
                yield Conflict(message, ("teacher.num_beams", "method.name", "method.mbr_hypotheses"))
        if data.mono and not row.uses_rollouts:
            message = f"data.mono: {name} cannot learn from sources without a reference"
            yield Conflict(message, ("data.mono", "method.name"))
        if data.augmentation.shares() and self.method.rollout.replay:
            message = "method.rollout.replay: needs sources that stay as they are: leave out data.augmentation"
            yield Conflict(message, ("method.rollout.replay", "data.augmentation"))
        limits = {"source": data.max_source_tokens, "target": data.max_target_tokens, "output": data.max_output_tokens}
        longest = max(limit or 0 for limit in limits.values())
        if longest > self.student.max_length:
            message = f"student.max_length: {self.student.max_length} is less than the data's {longest} tokens"
            yield Conflict(message, ("student.max_length", *(f"data.max_{name}_tokens" for name in limits)))

    def _label_conflicts(self) -> Iterator[Conflict]:
        """Yields what contradicts ``teacher.labels``, or a teacher that is not in memory."""
        name, start, teacher = self.method.name, self.training.initialization, self.teacher
        if teacher is None or not teacher.labels:
            return
        if not self.method.reads_labels:
            message = f"teacher.labels: {name} with contexts: {self.method.contexts} reads none; leave it out"
            yield Conflict(message, ("teacher.labels", "method.name", "method.contexts"))
        elif not teacher.path and not self.method.row.can_do_with_labels:
            message = f"method.name: {name} asks the teacher for more than labels have: give teacher.path, too"
            yield Conflict(message, ("teacher.path", "method.name"))
        elif not teacher.path and self.method.row.learns_distribution and not self.method.is_of_best_tokens:
            message = (
                f"method.teacher_top_k: labels have the most probable tokens alone, at temperature 1: give {name} a "
                "teacher_top_k of at most theirs and no temperature, or give teacher.path, too"
            )
            fields = ("method.name", "method.teacher_top_k", "method.temperature")
            yield Conflict(message, ("teacher.path", *fields))
        if not teacher.path and start in (TEACHER_EMBEDDINGS, TEACHER_LAYERS):
            message = f"training.initialization: {start} needs the teacher's weights: give teacher.path, too"
            yield Conflict(message, ("teacher.path", "training.initialization"))


def load_recipe(path: Path, overrides: list[str] | None = None, *, without_teacher: bool = False) -> Recipe:
    """Reads a recipe and applies ``key.path=value`` overrides (values are YAML).

    Args:
        path: The YAML file; ``base`` in it names another one, whose fields it takes over.
        overrides: Fields to replace, in the end.
        without_teacher: Leave out the teacher and what needs one, see ``references_only``.

    Raises:
        ConfigError: a file is missing or not YAML, or fields are wrong; every mistake is listed.
    """
    values = read_fields(path)
    problems = []
    for override in overrides or []:
        try:
            _override(values, override)
        except ConfigError as error:
            problems.append(error.message)
    if problems:
        message, *more = problems if len(problems) == 1 else ["{overrides}: several are wrong", *problems]
        raise ConfigError(message, more, options=["overrides"])
    return parse_recipe(_without_teacher(values) if without_teacher else values, str(path))


def parse_recipe(values: dict[str, Any], where: str = "recipe") -> Recipe:
    """Validates the fields of a recipe; ``where`` names it in the error. Raises ConfigError with every mistake."""
    try:
        return Recipe.model_validate(values)
    except ValidationError:
        problems = list_mistakes(Recipe, values)
        raise ConfigError(f"{where}: {len(problems)} mistake{'s' * (len(problems) > 1)}", problems) from None


def validate_options(model: type[Options], values: dict[str, Any]) -> Options:
    """Returns options as their pydantic model.

    Args:
        model: Such as ``ExportConfig``. Messages of its validators may have names of fields in braces.
        values: By field.

    Raises:
        ConfigError: listing every mistake, with options in braces (see ``compressor.errors``).
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_describe_option(item) for item in error.errors()]
        message, more = (problems[0], []) if len(problems) == 1 else (f"{len(problems)} options are wrong", problems)
        wrong = [str(item["loc"][0]) for item in error.errors() if item["loc"]]
        raise ConfigError(message, more, options=[*model.model_fields, *values, *wrong]) from None


def references_only(recipe: Recipe) -> Recipe:
    """The recipe of the same model trained from references alone: no teacher, and nothing that needs one."""
    values = _without_teacher(recipe.model_dump())
    values["method"] = {"name": "vanilla", "label_smoothing": recipe.method.label_smoothing}
    return Recipe.model_validate(values)


def _without_teacher(values: dict[str, Any]) -> dict[str, Any]:
    """Returns fields of a recipe, which need not be right, without the teacher and what needs one."""
    changed = {**values, "teacher": None}
    sections = {
        name: dict(values[name])
        for name in ("method", "data", "training", "tokenizer")
        if isinstance(values.get(name), dict)
    }
    sections.get("tokenizer", {}).pop("vocabulary", None)
    method = sections.get("method", {})
    ignored = MethodConfig.model_fields.keys() - {"label_smoothing"}
    sections["method"] = {name: value for name, value in method.items() if name not in ignored} | {"name": "vanilla"}
    sections.get("data", {}).pop("mono", None)
    training = sections.get("training", {})
    if training.get("initialization") in (TEACHER_EMBEDDINGS, TEACHER_LAYERS):
        training["initialization"] = RANDOM
    return changed | sections


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, defaults included."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"{{overrides}} {override}: write key.path=value", options=["overrides"])
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{{overrides}} {override}: the value is not valid YAML", options=["overrides"]) from None
    node: Any = values
    *parents, leaf = key.split(".")
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = {}
        node = node[parent]
        if not isinstance(node, dict):
            raise ConfigError(f"{{overrides}} {override}: {parent} is not a section", options=["overrides"])
    node[leaf] = value


def _describe_option(item: Any) -> str:
    name = f"{{{item['loc'][0]}}}: " if item["loc"] else ""
    return name + str(item["msg"]).removeprefix("Value error, ")
