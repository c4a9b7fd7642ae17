"""Compiles the mapping's fast path when the package is built; where that cannot be done, the package does without.

It is an accelerator: `otelbridge/mapping/record_encoder.py` maps every event without it, to the same bytes. A
machine with no C compiler or no Python headers gets a working bridge, and a line that says what is missing.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULES = {
    "otelbridge.flood_window": ".py",
    "otelbridge.mapping.fastpath": ".pyx",
    "otelbridge.mapping.fastpath_wire": ".pyx",
    "otelbridge.mapping.process_tree": ".py",
    "otelbridge.mapping.process_spans": ".py",
}
"""And the ending of each source; one in Python has its C types in a `.pxd` beside it."""
DIRECTIVES = {"annotation_typing": False, "language_level": 3}
"""Annotations are for readers and type checkers: where C types are meant, a `.pxd` says so."""
FLAGS = ("-O2", "-fPIC", "-shared", "-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-fno-strict-aliasing")


class CustomBuildHook(BuildHookInterface[Any]):
    """Hatchling looks for this name."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Puts the compiled module into the wheel; beside its source, too, where the package is installed editable."""
        if self.target_name != "wheel":
            return  # a source distribution holds the source
        built = compile_fastpath(Path(self.root))
        if not built:
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        if version != "editable":
            build_data["force_include"].update((str(path), str(path.relative_to(self.root))) for path in built)


def compile_fastpath(root: Path) -> list[Path]:
    """The compiled modules beside their sources; none where one cannot be compiled, with the reason on stderr."""
    sources = [root / Path(*module.split(".")).with_suffix(ending) for module, ending in MODULES.items()]
    built = [source.with_suffix(sysconfig.get_config_var("EXT_SUFFIX")) for source in sources]
    _remove(built)  # old ones would be another version's
    try:
        for module, source, path in zip(MODULES, sources, built, strict=True):
            _compile(module, source, path)
    except (ImportError, OSError, subprocess.CalledProcessError) as error:
        _remove(built)
        detail = getattr(error, "stderr", "") or str(error)
        print(
            f"otelbridge: the fast path is not compiled, events cost more: {detail.strip()[-500:]}\n"
            "otelbridge: it needs a C compiler and Python's headers (Debian: gcc, libc6-dev, python3-dev).",
            file=sys.stderr,
        )
        return []
    return built


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _compile(module: str, source: Path, built: Path) -> None:
    from Cython.Compiler.Main import compile as translate  # noqa: PLC0415 - without Cython the package still builds

    with tempfile.TemporaryDirectory() as folder:
        c_file = Path(folder) / f"{source.stem}.c"
        result = translate(  # type: ignore[no-untyped-call]
            str(source), output_file=str(c_file), full_module_name=module, compiler_directives=DIRECTIVES
        )
        if result.num_errors:
            raise ImportError(f"{source.name} does not translate")
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
        command = [*compiler, *FLAGS, f"-I{sysconfig.get_path('include')}", str(c_file), "-o", str(built)]
        subprocess.run(command, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(not compile_fastpath(Path(__file__).parent))
