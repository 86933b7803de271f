"""What a disk may hold after a crash, at any operation of the store.

After a kill, everything that was done is there. After a power cut, what was not synced may be there or not:

* the content of a file, until the file is synced: nothing of it, half of it, zeros of its length, or all of it;
* each change of the names in a folder (a new file or folder, a rename, a removal), until that folder is synced: any
  subset of the changes since, though no real file system is as unkind as that (what real ones do: Pillai et al. 2014,
  "All file systems are not created equal").

A rename is one change. Syncing a file does not make its name durable, as POSIX has it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, combinations, product
from pathlib import Path
from typing import Any

from pricing.files.filesystem import FileSystem

Operation = tuple[str, Path, Any]


class RecordingDisk(FileSystem):
    """A disk that remembers, relative to `base`, what it was asked for."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self.operations: list[Operation] = []

    def make_folder(self, path: Path) -> None:
        self._record("make_folder", path)
        super().make_folder(path)

    def write(self, path: Path, data: bytes) -> None:
        self._record("write", path, data)
        super().write(path, data)

    def sync(self, path: Path) -> None:
        self._record("sync", path)
        super().sync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._record("rename", source, target.relative_to(self._base))
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        for inner in sorted(path.rglob("*"), reverse=True):  # a crash may come between any two
            self._record("remove", inner)
        if path.exists():
            self._record("remove", path)
        super().remove(path)

    def _record(self, name: str, path: Path, argument: object = None) -> None:
        self.operations.append((name, path.relative_to(self._base), argument))


@dataclass
class File:
    """Content as it is, and the last that was synced; None when none ever was."""

    content: bytes
    synced: bytes | None = None

    def survivors(self) -> list[bytes]:
        """What may be there after a power cut."""
        if self.synced is not None:
            return [self.synced]
        size = len(self.content)
        return [b"", self.content[: size // 2], bytes(size), self.content]


@dataclass
class Folder:
    """Names as they are, those that were synced, and the changes since."""

    entries: "dict[str, File | Folder]" = field(default_factory=dict)
    synced: "dict[str, File | Folder]" = field(default_factory=dict)
    changes: "list[dict[str, File | Folder | None]]" = field(default_factory=list)

    def change(self, names: "dict[str, File | Folder | None]") -> None:
        """Add names, and remove those that are None."""
        self.changes.append(names)
        apply(self.entries, names)

    def survivors(self) -> "Iterator[dict[str, File | Folder]]":
        """Names that may be there after a power cut."""
        every = range(len(self.changes) + 1)
        for kept in chain.from_iterable(combinations(self.changes, count) for count in every):
            names = dict(self.synced)
            for change in kept:
                apply(names, change)
            yield names


def apply(names: "dict[str, File | Folder]", change: "dict[str, File | Folder | None]") -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def folder_of(path: Path) -> Folder:
    """What is on disk now, as durable."""
    entries: dict[str, File | Folder] = {
        inner.name: folder_of(inner) if inner.is_dir() else File(inner.read_bytes(), inner.read_bytes())
        for inner in path.iterdir()
    }
    return Folder(dict(entries), dict(entries))


def after(base: Folder, operations: list[Operation], *, syncs: bool = True) -> None:
    """Do operations to a model of a disk; without `syncs` it is one that only says that it has synced."""
    for name, path, argument in operations:
        parent = find(base, path.parent)
        if name == "make_folder":
            parent.change({path.name: Folder()})
        elif name == "write":
            parent.change({path.name: File(argument)})
        elif name == "rename":
            parent.change({path.name: None, argument.name: parent.entries[path.name]})
        elif name == "remove":
            parent.change({path.name: None})
        elif syncs:
            sync(base if path == Path() else parent.entries[path.name])


def find(base: Folder, path: Path) -> Folder:
    for part in path.parts:
        inner = base.entries[part]
        assert isinstance(inner, Folder)
        base = inner
    return base


def sync(node: File | Folder) -> None:
    if isinstance(node, File):
        node.synced = node.content
    else:
        node.synced, node.changes = dict(node.entries), []


State = dict[Path, bytes | None]


def killed(base: Folder, at: Path = Path()) -> State:
    """Every path with its content after a kill, None for a folder."""
    state: State = {}
    for name, node in base.entries.items():
        state[at / name] = node.content if isinstance(node, File) else None
        if isinstance(node, Folder):
            state |= killed(node, at / name)
    return state


def cut(base: Folder, at: Path = Path()) -> Iterator[State]:
    """The same after a power cut, for everything that may be left."""
    for names in base.survivors():
        inner = [list(cut_node(node, at / name)) for name, node in names.items()]
        for states in product(*inner):
            yield {path: content for state in states for path, content in state.items()}


def cut_node(node: File | Folder, at: Path) -> Iterator[State]:
    if isinstance(node, File):
        for content in node.survivors():
            yield {at: content}
    else:
        for state in cut(node, at):
            yield {at: None, **state}


def half(operation: Operation) -> list[Operation]:
    """What an operation may have done when it was killed in the middle, beside nothing and all."""
    name, path, argument = operation
    return [(name, path, argument[: len(argument) // 2]), (name, path, b"")] if name == "write" else []


def restore(state: State, base: Path) -> None:
    """Make a folder what a disk was left as."""
    for path, content in sorted(state.items()):
        if content is None:
            (base / path).mkdir(parents=True)
        else:
            (base / path).write_bytes(content)


def states(base: Path, done: list[Operation], *, syncs: bool = True) -> Iterator[State]:
    """Everything that may be on disk when operations are ended by a kill or a power cut, at any of them."""
    seen: set[int] = set()
    for at in range(len(done) + 1):
        endings = [[], *([part] for part in half(done[at]))] if at < len(done) else [[]]
        for ending in endings:
            model = folder_of(base)
            after(model, [*done[:at], *ending], syncs=syncs)
            for state in (killed(model), *cut(model)):
                content = hash(frozenset(state.items()))
                if content not in seen:
                    seen.add(content)
                    yield state
