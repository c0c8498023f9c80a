"""What a run starts from: corpora as token ids, the teacher, and a new student with the teacher's vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console

from compressor.config import Recipe
from compressor.data.augmentation import Augmentation
from compressor.data.augmented_pass import AugmentedPass
from compressor.data.corpus import Corpus, load_corpus
from compressor.data.examples import Example
from compressor.data.first_pass import first_pass
from compressor.data.token_cache import tokenized_corpus
from compressor.data.token_files import CorpusRecord, TokenizedCorpus
from compressor.data.token_rows import TokenRows
from compressor.data.tokenized import Ingredients
from compressor.distillation.initialization import initialize, initialize_from_run
from compressor.distillation.label_identity import check_labels, check_tokens
from compressor.distillation.label_store import LabelStore
from compressor.errors import ConfigError, DataError, ModelError
from compressor.generation_config import GenerationConfig
from compressor.model_config import ModelConfig, complete_config
from compressor.models.base import Seq2SeqModel
from compressor.models.registry import build_model
from compressor.progress import Bar
from compressor.run_folder import MODEL_FILE, TOKENIZER_FOLDER, DataRecord, is_run
from compressor.teachers.base import Teacher, TeacherFacts, check_lengths, check_vocabularies
from compressor.teachers.registry import load_teacher
from compressor.teachers.vocabulary_subset import SubsetTeacher, restrict_to
from compressor.text.fallback import fallback_ids
from compressor.text.tokenizer import Tokenizer, load_tokenizer


class Encoded(NamedTuple):
    """A corpus as token ids; row n of both belongs to example n, targets end with EOS, no target is an empty row."""

    sources: TokenRows
    targets: TokenRows


@dataclass
class Setup:
    """Inputs of training."""

    recipe: Recipe
    teacher: Teacher | None
    """The model; None where none is read: without a teacher, or where the labels have all that the method reads."""
    teacher_facts: TeacherFacts | None
    """Of the teacher, in memory or not; None without one."""
    label_store: LabelStore | None
    """The labels that the recipe names."""
    tokenizer: Tokenizer
    generation: GenerationConfig
    student: Seq2SeqModel
    train: Encoded
    augmentation: AugmentedPass | None
    """Changes the training examples of each pass; None: they stay as they are."""
    dev: list[Example]
    data: DataRecord
    """Fingerprints and drop reports, for the records."""
    examples: int
    """Training examples after cleaning; ``train`` has fewer where only a sample was encoded."""


def set_up(
    recipe: Recipe, bar: Bar | None = None, sample: int | None = None, *, cache: Path | None = None, label: bool = False
) -> Setup:
    """Loads data and teacher, builds the student, and returns them.

    Args:
        recipe: What to set up.
        bar: Shows the step at work; None: nothing is shown.
        sample: Number of training examples to encode, and to train a tokenizer on; None: all.
        cache: Folder of tokenized corpora; None: nothing is stored.
        label: The teacher labels the training data, whatever the method reads.

    Raises:
        ConfigError, DataError, ModelError, VocabularyError, StorageError: see ``tokenized_corpus``,
            ``compressor.teachers`` and ``label_identity.check_labels``.
    """
    bar = bar or Bar(Console(quiet=True), shown=False)
    dev = load_corpus(recipe.data, "dev", bar=bar)
    teacher, store = _teacher(recipe)
    facts = store.teacher() if store is not None and teacher is None else teacher
    if facts is not None:
        check_lengths(facts, recipe)

    def read(tokenizer: Tokenizer | None, facts: TeacherFacts | None) -> TokenizedCorpus:
        first_id = facts.generation.forced_bos_id if facts else None
        made_of = Ingredients(recipe, dev, tokenizer, () if first_id is None else (first_id,))
        return tokenized_corpus(made_of, bar, cache=cache, sample=sample)

    if teacher is not None and recipe.tokenizer.vocabulary == "corpus":
        facts = teacher = _with_smaller_vocabulary(recipe, teacher, store, read, bar)
    given = _tokenizer(recipe, facts)
    corpus = read(given, facts)
    encoded = Encoded(corpus.sources, corpus.targets)
    tokenizer = given or corpus.tokenizer
    assert tokenizer is not None  # one that was not given was trained
    generation = _generation(recipe, facts, tokenizer)
    augmentation = _augmentation(recipe, tokenizer, generation, corpus.folder)
    labelled = label or store is not None or recipe.method.row.reads_teacher_outputs
    if augmentation is not None and labelled:  # the teacher writes once, before training
        encoded, augmentation = Encoded(*first_pass(*encoded, augmentation, bar)), None
    config = _model_config(recipe, facts, tokenizer, generation)
    if recipe.tokenizer.output_vocabulary == "targets":
        generation = _suppress_unwritten(generation, encoded.targets, tokenizer, config.vocab_size)
    tokens, rows = generation.allowed_ids(config.vocab_size), None if sample else encoded
    reads_model = store is None or _needs_model_besides(recipe, store, rows, tokenizer, teacher, tokens)
    student = _student(recipe, config, teacher)
    return Setup(
        recipe=recipe,
        teacher=teacher if reads_model else None,
        teacher_facts=facts,
        label_store=store,
        tokenizer=tokenizer,
        generation=generation,
        student=student,
        train=encoded,
        augmentation=augmentation,
        dev=dev.examples,
        data=_data_record(dev, corpus.record),
        examples=corpus.record.cleaned,
    )


def _data_record(dev: Corpus, corpus: CorpusRecord) -> DataRecord:
    return DataRecord(
        dev=tuple(dev.fingerprints),
        train=corpus.train,
        mono=corpus.mono,
        report=corpus.report,
        report_text=corpus.report_text,
    )


def _teacher(recipe: Recipe) -> tuple[Teacher | None, LabelStore | None]:
    """Returns the teacher that a recipe names, and its labels. Raises DataError or ModelError."""
    config = recipe.teacher
    if config is None:
        return None, None
    store = LabelStore.open(Path(config.labels)) if config.labels else None
    return (load_teacher(config) if config.path else None), store


def _student(recipe: Recipe, config: ModelConfig, teacher: Teacher | None) -> Seq2SeqModel:
    torch.manual_seed(recipe.training.seed)
    student = build_model(config)
    if recipe.training.initial_run is not None:
        initialize_from_run(student, recipe.training.initial_run, recipe.training.initial_weights)
    elif teacher is not None:
        initialize(student, teacher, recipe.training.initialization)
    return student


def _reads_model(recipe: Recipe, store: LabelStore) -> bool:
    """Returns whether the method reads more of the teacher than the labels have. Raises DataError if it cannot."""
    assert recipe.teacher is not None  # it names the labels
    top_k = store.record.top_k
    if not recipe.method.reads_model(top_k):
        return False
    if not recipe.teacher.path:
        raise DataError(
            f"teacher.labels: {store.folder} has the {top_k} most probable tokens of each position, and the recipe "
            f"compares {recipe.method.teacher_top_k} (method.teacher_top_k): write labels with `compress label --top-k "
            f"{recipe.method.teacher_top_k}`, or give teacher.path, too"
        )
    return True


def _needs_model_besides(
    recipe: Recipe,
    store: LabelStore,
    encoded: Encoded | None,
    tokenizer: Tokenizer,
    teacher: Teacher | None,
    tokens: list[int],
) -> bool:
    """Checks that labels fit, and returns whether the method reads the teacher besides. Raises DataError.

    ``encoded`` is None for a sample of the corpus, ``tokens`` are what the student may write.
    """
    sources, references = encoded or (None, None)
    own = tokenizer if teacher is not None or recipe.tokenizer.path else None
    check_labels(store, recipe, sources=sources, references=references, tokenizer=own, teacher=teacher)
    reads_model = _reads_model(recipe, store)
    if encoded is not None and not reads_model and recipe.method.row.learns_distribution:
        check_tokens(store, tokens)
    return reads_model


def _with_smaller_vocabulary(
    recipe: Recipe,
    teacher: Teacher,
    store: LabelStore | None,
    read: Callable[[Tokenizer, TeacherFacts], TokenizedCorpus],
    bar: Bar,
) -> SubsetTeacher:
    """Returns the teacher with the vocabulary of a given tokenizer, of its labels, or else of the training data.

    What augmentation makes of the data in the first pass counts as data.
    """
    given = _given_tokenizer(recipe)
    if given is None and store is not None:
        given = store.teacher().tokenizer
    if given is not None:
        subset = SubsetTeacher(teacher, given)
    else:
        corpus = read(teacher.tokenizer, teacher)
        rows = [corpus.sources, corpus.targets]
        augmentation = _augmentation(recipe, teacher.tokenizer, teacher.generation, corpus.folder)
        if augmentation is not None:
            rows += first_pass(corpus.sources, corpus.targets, augmentation, bar)
        subset = restrict_to(teacher, set().union(*(side.distinct() for side in rows)))
    bar.say(f"the student has {subset.vocab_size:,} of the teacher's {teacher.vocab_size:,} tokens")
    return subset


def _given_tokenizer(recipe: Recipe) -> Tokenizer | None:
    """Returns the tokenizer that the recipe names, itself or by the run that it starts from. Raises ModelError."""
    initial = recipe.training.initial_run
    if initial is not None and not is_run(initial):
        raise ModelError(f"training.initialization: {initial} is no run: give a folder with {MODEL_FILE}")
    folder = recipe.tokenizer.path or (initial and initial / TOKENIZER_FOLDER)
    return load_tokenizer(Path(folder)) if folder else None


def _tokenizer(recipe: Recipe, teacher: TeacherFacts | None) -> Tokenizer | None:
    """Returns the tokenizer that the recipe names, or the teacher's; None: one is to be trained on the corpus."""
    given = _given_tokenizer(recipe)
    if given is not None and teacher is not None:
        check_vocabularies(teacher, given)
    if teacher is not None and not recipe.tokenizer.path:
        return teacher.tokenizer
    return given


def _augmentation(
    recipe: Recipe, tokenizer: Tokenizer, generation: GenerationConfig, corpus: Path | None
) -> AugmentedPass | None:
    if not recipe.data.augmentation.shares():
        return None
    first_ids = () if generation.forced_bos_id is None else (generation.forced_bos_id,)
    augmentation = Augmentation(recipe.data.augmentation, recipe.data, tokenizer, recipe.training.seed, first_ids)
    return AugmentedPass(augmentation, tokenizer, corpus)


def _generation(recipe: Recipe, teacher: TeacherFacts | None, tokenizer: Tokenizer) -> GenerationConfig:
    """Returns the teacher's generation rules, with the limits of the student and of what it is trained on."""
    longest, longest_output = recipe.student.max_length, recipe.data.max_output_tokens or recipe.data.max_target_tokens
    if teacher is None:
        return GenerationConfig(
            start_id=tokenizer.pad_id,
            eos_id=tokenizer.eos_id,
            pad_id=tokenizer.pad_id,
            suppressed_ids=tuple(sorted({tokenizer.pad_id, *tokenizer.frame.special_ids} - {tokenizer.eos_id})),
            forced_eos_id=tokenizer.eos_id,
            max_new_tokens=longest_output,
            max_source_tokens=min(longest, recipe.data.max_source_tokens),
        )
    limits = {
        "max_new_tokens": min(teacher.generation.max_new_tokens, longest_output),
        "max_source_tokens": min(teacher.generation.max_source_tokens, longest, recipe.data.max_source_tokens),
    }
    return teacher.generation.model_copy(update=limits)


def _suppress_unwritten(
    generation: GenerationConfig, targets: TokenRows, tokenizer: Tokenizer, vocab_size: int
) -> GenerationConfig:
    """Returns the rules with more suppressed tokens: those longer than a character or byte that no target contains."""
    framing = {generation.eos_id, generation.forced_bos_id, generation.forced_eos_id}
    unwritten = set(range(vocab_size)) - fallback_ids(tokenizer.vocab) - framing - targets.distinct()
    return generation.model_copy(update={"suppressed_ids": tuple(sorted(unwritten.union(generation.suppressed_ids)))})


def _model_config(
    recipe: Recipe, teacher: TeacherFacts | None, tokenizer: Tokenizer, generation: GenerationConfig
) -> ModelConfig:
    if tokenizer.has_separate_vocabularies:
        _check_separate(recipe)
    rows = teacher.vocab_size if teacher else tokenizer.vocab_size
    return complete_config(recipe.student, vocab_size=rows, pad_id=generation.pad_id)


def _check_separate(recipe: Recipe) -> None:
    """Raises ConfigError where a recipe wants one embedding for source and target that have other tokens."""
    problems = []
    if recipe.student.tie_embeddings is True:
        problems.append("student.tie_embeddings: true, set it to false")
    if recipe.training.initialization != "random":
        problems.append(f"training.initialization: {recipe.training.initialization}, set it to random")
    if problems:
        raise ConfigError("source and target have separate vocabularies, and so need embeddings of their own", problems)
