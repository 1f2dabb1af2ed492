"""Where the data that ships with the product lies, in a wheel and in an editable install."""

import sysconfig
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = _PACKAGE / "_data"
_CHECKOUT = {
    "yang": _PACKAGE.parent / "models" / "yang",
    "ontology": _PACKAGE.parent / "ontology",
    "examples": _PACKAGE.parent / "examples",
}


def data_folder(name: str) -> Path:
    """The folder of shipped data called `name`: `yang`, `ontology` or `examples`.

    Raises FileNotFoundError where the installation lacks it.
    """
    for folder in (_SHIPPED / name, _CHECKOUT[name]):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the installation lacks its {name} data ({_SHIPPED / name}): reinstall fedtwin")


def standard_yang_folders() -> tuple[Path, ...]:
    """Folders of the IETF and IANA modules that come with pyang's wheel.

    Raises FileNotFoundError where pyang was installed without its share folder.
    """
    roots = (Path(sysconfig.get_path("data")), Path(sysconfig.get_path("data", "posix_user")))
    for root in roots:
        modules = root / "share" / "yang" / "modules"
        if modules.is_dir():
            return tuple(sorted(p for p in modules.iterdir() if p.is_dir()))
    raise FileNotFoundError(
        f"no share/yang/modules under {', '.join(map(str, roots))}: reinstall pyang from its wheel"
    )
