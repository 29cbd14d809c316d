"""A small file system: folders that may be missing, and for each file its size there, or `-` where it is not.

    home/ note 7 plan -, docs- note - plan -

All folders list the same files, so that each has its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from jepalm.data.worlds.base import Draw, Said, State, World
from jepalm.data.worlds.combinations import Combinations, check_names

FOLDERS = ("home", "docs", "temp", "work", "play", "arts", "bins", "libs")
FILES: tuple[str, ...] = ("note", "plan", "todo", "data", "logs", "main", "test", "conf")
FILES += ("page", "blog", "mail", "menu", "poem", "task", "keys", "cart")
VERBS = ("make", "delete", "move", "copy")
ABSENT = "-"
NEW = "0"
"""Size of a file just made."""
SIZES = "123456789"
_NAMES = Combinations(FOLDERS, FILES, (*VERBS, "", "", "", ""))
_FOLDER = re.compile(r"(\w{4})([/-])((?: \w{4} [0-9-])+)")
_FILE = re.compile(r" (\w{4}) ([0-9-])")


@dataclass(frozen=True, slots=True)
class FilesState(State):
    """One moment on a disk."""

    folders: tuple[str, ...]
    exists: tuple[bool, ...]
    """By folder."""
    files: tuple[str, ...]
    sizes: tuple[str, ...]
    """By folder a text with one sign a file: its size there, a digit, or `-`."""


class Files(World[FilesState]):
    """`size` counts the folders."""

    name = "files"
    sizes = range(2, 5)
    object_counts = range(1, 7)
    size_means = "folders"
    default_size = 2
    default_objects = 3
    random_facts: ClassVar[Mapping[str, Sequence[str]]] = {
        "cpu": ("low", "max", "mid", "off"),
        "net": ("bad", "low", "off", "top"),
        "fan": ("low", "max", "mid", "off"),
        "ups": ("bad", "low", "mid", "top"),
    }
    still_facts: ClassVar[Mapping[str, Sequence[str]]] = {
        "env": ("dev", "lab", "ops", "web"),
        "tty": ("one", "six", "ten", "two"),
        "key": ("dsa", "elg", "gpg", "rsa"),
        "log": ("all", "err", "off", "std"),
    }

    def sample(self, rng: Random, draw: Draw = "seen") -> FilesState:
        """Draw a disk."""
        noise, still = self._draw_noise(rng), self._draw_still(rng)
        folders, files = _NAMES.draw(rng, draw, self.size, self.objects)
        exists = tuple(rng.random() < 0.75 for _ in folders)
        sizes = tuple(
            "".join(rng.choice(SIZES) if here and rng.random() < 0.5 else ABSENT for _ in files)
            for here in exists
        )
        return FilesState(noise, still, folders, exists, files, sizes)

    def actions(self, state: FilesState) -> list[str]:
        """Make, delete, move, copy."""
        paths = [f"{folder}/{file}" for folder in state.folders for file in state.files]
        said = [f"{verb} {what}" for verb in ("make", "delete") for what in (*state.folders, *paths)]
        return said + [
            f"{verb} {path} to {folder}"
            for verb in ("move", "copy")
            for path in paths
            for folder in state.folders
            if not path.startswith(folder)
        ]

    def effect(self, state: FilesState, action: str) -> FilesState | None:
        """The state after the action; None where it is illegal. What is moved or copied replaces."""
        match action.split(" "):
            case ["make" | "delete" as verb, name] if name in state.folders:
                return _folder_changed(state, verb, state.folders.index(name))
            case ["make" | "delete" as verb, path] if place := _place(state, path):
                folder, file = place
                if (state.sizes[folder][file] == ABSENT) == (verb == "make") and state.exists[folder]:
                    return _written(state, folder, file, NEW if verb == "make" else ABSENT)
            case ["move" | "copy" as verb, path, "to", name] if name in state.folders:
                if place := _place(state, path):
                    return _carried(state, verb, *place, state.folders.index(name))
        return None

    def n_objects(self, state: FilesState) -> int:
        """Its files, wherever they are."""
        return len(state.files)

    def unseen_state(self, state: FilesState) -> bool:
        """A folder beside the one it never stands beside, or a file on a disk with its folder."""
        return _NAMES.unseen(state.folders, state.files)

    def unseen_action(self, state: FilesState, action: str) -> bool:
        """A file made, deleted, moved or copied that training never does this to."""
        verb, _, rest = action.partition(" ")
        return _NAMES.unseen_verb(verb, rest.partition(" ")[0].rpartition("/")[2])

    def _said(self, state: FilesState) -> list[Said]:
        said = []
        comma = ""
        for folder, exists, sizes in zip(state.folders, state.exists, state.sizes, strict=True):
            said.append(Said(f"{comma}{folder}", folder, "/" if exists else ABSENT))
            said += [
                Said(f" {file} ", f"{folder}/{file}", size)
                for file, size in zip(state.files, sizes, strict=True)
            ]
            comma = ", "
        return said

    def _parse(self, text: str, noise: tuple[str, ...], still: tuple[str, ...]) -> FilesState:
        matches = [_FOLDER.fullmatch(part) for part in text.split(", ")]
        read = [match.groups() for match in matches if match]
        if len(read) < len(matches) or len(read) != self.size:
            raise ValueError(f"it does not list {self.size} folders with their files")
        folders = tuple(folder for folder, _, _ in read)
        listed = [_FILE.findall(files) for _, _, files in read]
        files = tuple(file for file, _ in listed[0])
        if any(tuple(file for file, _ in files_there) != files for files_there in listed):
            raise ValueError("its folders do not list the same files")
        check_names("folder", folders, FOLDERS)
        check_names("file", files, FILES)
        sizes = tuple("".join(size for _, size in files_there) for files_there in listed)
        exists = tuple(sign == "/" for _, sign, _ in read)
        if any(not here and set(found) != {ABSENT} for here, found in zip(exists, sizes, strict=True)):
            raise ValueError("a folder that is missing has files")
        return FilesState(noise, still, folders, exists, files, sizes)


def _place(state: FilesState, path: str) -> tuple[int, int] | None:
    folder, _, file = path.partition("/")
    if folder not in state.folders or file not in state.files:
        return None
    return state.folders.index(folder), state.files.index(file)


def _folder_changed(state: FilesState, verb: str, folder: int) -> FilesState | None:
    if state.exists[folder] == (verb == "make") or set(state.sizes[folder]) != {ABSENT}:
        return None
    exists = (*state.exists[:folder], verb == "make", *state.exists[folder + 1 :])
    return replace(state, exists=exists)


def _carried(state: FilesState, verb: str, folder: int, file: int, to: int) -> FilesState | None:
    size = state.sizes[folder][file]
    if to == folder or size == ABSENT or not state.exists[to]:
        return None
    copied = _written(state, to, file, size)
    return copied if verb == "copy" else _written(copied, folder, file, ABSENT)


def _written(state: FilesState, folder: int, file: int, size: str) -> FilesState:
    row = state.sizes[folder]
    row = row[:file] + size + row[file + 1 :]
    return replace(state, sizes=(*state.sizes[:folder], row, *state.sizes[folder + 1 :]))
