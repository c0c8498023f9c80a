"""The files of deploy/ fit the schemas of Compose and Kubernetes, and their settings are the server's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from serving.settings import Settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


def named(kind: str) -> dict[str, Any]:
    (item,) = [item for item in OBJECTS if item["kind"] == kind]
    return item


@pytest.mark.parametrize("item", OBJECTS, ids=lambda item: item["kind"])
def test_each_object_fits_the_schema_of_kubernetes(item: dict[str, Any]) -> None:
    kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)


def test_the_compose_file_fits_its_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(DEPLOY / "compose.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_settings_are_the_servers(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(named("ConfigMap")["data"]["settings.yaml"])
    for path in (file, DEPLOY / "settings.yaml"):
        settings = Settings(config=path)  # type: ignore[call-arg]
        assert (settings.host, settings.port) == ("0.0.0.0", 8000)
        grace = named("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace > settings.grace_seconds + settings.drain_seconds


def test_probes_and_the_scaler_name_what_there_is() -> None:
    (container,) = named("Deployment")["spec"]["template"]["spec"]["containers"]
    probes = [container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")]
    assert probes == ["/readyz", "/readyz", "/healthz"]
    assert named("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == named("Deployment")["metadata"]["name"]
