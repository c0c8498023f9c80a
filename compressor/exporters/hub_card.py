"""Writes the model card of a Hugging Face folder: the hub's YAML header, use, quality, terms and origin."""

from __future__ import annotations

import re
from typing import Any

import yaml

from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel, count_parameters
from compressor.run_folder import RunRecord
from compressor.teachers.conversion.layout import Family
from compressor.text.tokenizer import Tokenizer

HUB_LICENCES = (
    "apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0",
)  # fmt: skip
"""Identifiers that the hub knows; other terms are ``other`` there, and stand in the card in words."""

USE = """```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForSeq2SeqLM.from_pretrained(FOLDER)
batch = tokenizer([{prefix}text], return_tensors="pt", truncation=True)
print(tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True))
```

For CTranslate2: `ct2-transformers-converter --model FOLDER --output_dir OUT`. It takes no search options from
there: give `translate_batch` the beams, and {options}."""

FAMILIES: dict[Family, str] = {"marian": "MarianMT", "bart": "BART"}
"""How a family is called."""


def hub_card(
    model: Seq2SeqModel, generation: GenerationConfig, record: RunRecord, tokenizer: Tokenizer, family: Family
) -> str:
    """Returns the text of README.md.

    Args:
        model: The exported model.
        generation: Its search rules.
        record: What is known of its training.
        tokenizer: Its tokenizer.
        family: The family whose classes load it.
    """
    prefix, options = tokenizer.frame.text_prefix, _ctranslate2_options(generation, tokenizer)
    use = USE.format(prefix=f"{prefix!r} + " if prefix else "", options=", ".join(options))
    head = _head(model, generation, record, family)
    parts = [_header(record, family), head, use, _quality(record), _terms(record), _origin(record)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _ctranslate2_options(generation: GenerationConfig, tokenizer: Tokenizer) -> list[str]:
    """Returns the arguments of ``translate_batch`` that stand for the search rules."""
    limit = generation.max_new_tokens - (generation.forced_eos_id is not None)  # it does not force the end
    names = {index: token for token, index in tokenizer.vocab.items()}
    first = None if generation.forced_bos_id is None else names[generation.forced_bos_id]
    given = {
        "max_decoding_length": limit,
        "min_decoding_length": generation.min_new_tokens,
        "no_repeat_ngram_size": generation.no_repeat_ngram_size,
    }
    options = [f"`{name}={value}`" for name, value in given.items() if value]
    return [*options, f'`target_prefix=[["{first}"]] * len(batch)`'] if first else options


def _header(record: RunRecord, family: Family) -> str:
    languages = list(dict.fromkeys(code for code in (record.source_language, record.target_language) if code))
    licence = _hub_licence(record.licence)
    fields: dict[str, Any] = {
        "language": languages or None,
        "license": licence,
        "license_name": "see-model-card" if licence == "other" else None,
        "library_name": "transformers",
        "pipeline_tag": record.task,
        "tags": [family, *(["knowledge-distillation"] if record.teacher else [])],
    }
    given = {name: value for name, value in fields.items() if value is not None}
    return f"---\n{yaml.safe_dump(given, sort_keys=False)}---"


def _hub_licence(terms: str | None) -> str | None:
    """Returns the hub's identifier of a licence, ``other`` for terms that it does not know, None for none."""
    if not terms:
        return None
    identifier = re.sub(r"[\s_]+", "-", terms.strip().lower())
    return identifier if identifier in HUB_LICENCES else "other"


def _head(model: Seq2SeqModel, generation: GenerationConfig, record: RunRecord, family: Family) -> str:
    languages = " to ".join(code for code in (record.source_language, record.target_language) if code)
    config = model.config
    return (
        f"# {(record.task or 'translation').capitalize()}{f', {languages}' if languages else ''}\n\n"
        f"A Transformer in {FAMILIES[family]}'s layout with {count_parameters(model):,} parameters: "
        f"{config.encoder_layers} encoder and {config.decoder_layers} decoder layers, width {config.d_model}, "
        f"vocabulary {config.vocab_size:,}. Sources have at most {generation.max_source_tokens} tokens."
    )


def _quality(record: RunRecord) -> str:
    if record.dev is None:
        return ""
    scores = record.dev.model_dump(exclude={"signature"}, exclude_none=True)
    names = {"bleu": "BLEU", "chrf": "chrF", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rouge_l": "ROUGE-L"}
    listed = ", ".join(f"{names[name]} {value:.1f}" for name, value in scores.items())
    return f"## Quality\n\nGreedy search on the development set: {listed} ({record.dev.signature})." if listed else ""


def _terms(record: RunRecord) -> str:
    return "## Terms\n\n" + (
        f"Of these weights: {record.licence}."
        if record.licence
        else "No licence was recorded for these weights. Ask whoever trained them before you use or pass them on."
    )


def _origin(record: RunRecord) -> str:
    teacher, data = record.teacher, record.data
    size = f", {teacher.parameters:,} parameters" if teacher and teacher.parameters else ""
    lines = [
        f"- Method: {record.method}" if record.method else "",
        f"- Teacher: {teacher.name}{size}" if teacher else "",
        f"- Data: {', '.join(part.name for part in (*data.train, *data.mono))}" if data else "",
        "- `run.json` has scores, fingerprints of the data and provenance.",
    ]
    return "## Origin\n\n" + "\n".join(line for line in lines if line)
