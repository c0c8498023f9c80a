"""Adds measured robustness to a bundle that was exported before."""

from __future__ import annotations

from pathlib import Path

from compressor.bundle import CARD_FILE, MANIFEST_FILE, dump_manifest, file_record, open_bundle
from compressor.bundle_records import Robustness
from compressor.exporters.model_card import model_card
from compressor.files import write_atomic


def record_robustness(folder: Path, robustness: Robustness) -> None:
    """Writes the figures into a bundle's manifest and model card, which is made anew; the bundle's digest changes.

    Raises:
        BundleError: the bundle is incomplete or altered.
        StorageError: the folder cannot be written.
    """
    manifest = open_bundle(folder).model_copy(update={"robustness": robustness})
    write_atomic(folder / CARD_FILE, model_card(manifest))
    files = {**manifest.files, CARD_FILE: file_record(folder / CARD_FILE)}
    write_atomic(folder / MANIFEST_FILE, dump_manifest(manifest.model_copy(update={"files": files})))
