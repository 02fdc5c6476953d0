"""`python -m quorate_api`: write the CRD YAML of this repository from the models; `--check` says whether it has drifted.

The same manifest is written twice: plain in `crds/`, for people who apply it themselves, and as a template of the chart.
Never reads a cluster.
"""

import argparse
import sys
from pathlib import Path

import yaml

from quorate_api.schema import KINDS, crd

PLAIN = Path("crds")
CHART = Path("charts/quorate/templates/crds")
_NOTE = "# Generated from crds/quorate_api by `make generate`; edit the models instead.\n"


def generated() -> dict[Path, str]:
    """Every generated file, by its path in the repository."""
    files: dict[Path, str] = {}
    for model in KINDS:
        manifest = crd(model)
        name = f"{model.PLURAL}.yaml"
        files[PLAIN / name] = _NOTE + _dump(manifest)
        # Helm would delete a CRD, and every object of it, with the release.
        manifest["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
        files[CHART / name] = _NOTE + "{{- if .Values.crds.install }}\n" + _dump(manifest) + "{{- end }}\n"
    return files


def _dump(manifest: dict[str, object]) -> str:
    return yaml.dump(manifest, Dumper=_Plain, sort_keys=False, width=140, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """YAML without anchors: kubectl reads them, people should not have to."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m quorate_api", description="Write the CRD YAML from the models.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2], help="the repository (default: where this module lives)")
    chosen = parser.parse_args(arguments)
    root: Path = chosen.root
    if not (root / "pyproject.toml").is_file():
        print(f"quorate: {root} is not the repository; give it with --root", file=sys.stderr)
        return 1
    files = generated()
    drifted = [str(path) for path, text in files.items() if not (root / path).is_file() or (root / path).read_text() != text]
    if chosen.check:
        if drifted:
            print(f"quorate: {', '.join(drifted)} does not match the models; run `make generate` and commit the result", file=sys.stderr)
        return 1 if drifted else 0
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    print(f"quorate: {len(files)} files written, {len(drifted)} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
