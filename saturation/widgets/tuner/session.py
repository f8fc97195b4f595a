"""Saving and loading of a tuner's states as a JSON file, with the arrays of fitted policies in a file beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from ...atomic import located, writing_together
from ...policies import Arrays, SkipRatios, from_json
from ...policies.serialization import beside, tensors_of
from ...tasks import Example, Task
from .states import DENSE, Asked, Passage, Result, Score, State

_FORMAT = "saturation.tuner 1"


@dataclass(frozen=True)
class Session:
    """The saved content of a tuner.

    Attributes
    ----------
    model
        "name", "revision", "dtype" and "fingerprint" (of the weights) of the measured model.
    asked
        Prompts and task.
    results
        Results of every state visited, in order.
    current
        The state of the controls.
    """

    model: Mapping[str, Any]
    asked: Asked
    results: Sequence[Result]
    current: State

    def save(self, path: str | Path) -> None:
        """Write a JSON file, and the arrays of fitted policies, if any, as a safetensors file of the same name.

        Both are written whole or not at all; OSError where that fails.
        """
        path = located(path)
        states = [result.state for result in self.results] + [self.current]
        tensors = tensors_of({one.digest: one for state in states for one in state.arrays}.values())
        places = [path, path.with_suffix(".safetensors")]
        content = {
            "format": _FORMAT,
            "versions": {name: version(name) for name in ("torch", "transformers")},
            "model": dict(self.model),
            "asked": asdict(self.asked),
            "current": _stated(self.current),
            "results": [_written(result) for result in self.results],
        }
        with writing_together(places if tensors else places[:1], "the session") as parts:
            parts[0].write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
            if tensors:
                save_file(tensors, parts[1])

    @classmethod
    def load(cls, path: str | Path) -> Session:
        """Read a session that `save` wrote; ValueError for any other file, FileNotFoundError where there is none."""
        path = located(path)
        if not path.is_file():
            raise FileNotFoundError(f"expected a session that a tuner saved, but there is no file {path}; correct it")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError(f"its format is {content['format']!r}, not {_FORMAT!r}")
            asked = _asked(content["asked"])
            arrays = beside(path)
            results = [_read(result, asked.chat, arrays) for result in content["results"]]
            model = {name: content["model"][name] for name in ("name", "revision", "dtype", "fingerprint")}
            if any(len(result.passages) != len(asked.prompts) for result in results):
                raise ValueError(f"it has not a text of each of its {len(asked.prompts)} prompts in every state")
            return cls(model, asked, results, _state(content["current"], asked.chat, arrays))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"expected {path} to be a session that a tuner saved, but reading it gave {type(error).__name__}: "
                f"{error}; save one with the tuner's button"
            ) from None

    def check(self, name: str, identity: Callable[[], Mapping[str, Any]], path: str | Path) -> None:
        """Raise ValueError unless the session is of the model with this name and identity."""
        ours = self.model["name"]
        if ours != name:
            raise ValueError(
                f"expected a session of the model {name!r}, but {path} was saved of {ours!r}; load that model, or "
                "start without the session"
            )
        now = identity()
        for what in ("dtype", "fingerprint"):
            if self.model[what] != now[what]:
                raise ValueError(
                    f"expected a session of this very model, but {path} was saved of {ours!r} with {what} "
                    f"{self.model[what]}, and this one has {now[what]}; load that one, or start without the session"
                )


def _written(result: Result) -> dict[str, Any]:
    """A result as JSON data; named tuples become dicts."""
    ratios = {name: getattr(result, name)._asdict() for name in ("predicted", "actual")}
    return asdict(replace(result, state=State(DENSE))) | ratios | {"state": _stated(result.state)}


def _stated(state: State) -> dict[str, Any]:
    """A state as JSON data, without its arrays."""
    return {name: getattr(state, name) for name in ("rule", "json", "chat")}


def _read(given: dict[str, Any], chat: bool, arrays: Sequence[Arrays]) -> Result:
    quality = given["quality"]
    read: dict[str, Any] = {
        "state": _state(given["state"], chat, arrays),
        "passages": tuple(_passage(one) for one in given["passages"]),
        "predicted": SkipRatios(**given["predicted"]),
        "actual": SkipRatios(**given["actual"]),
        "agreement": Score(**given["agreement"]),
        "divergence": tuple(given["divergence"]),
        "quality": None if quality is None else Score(**quality),
    }
    return Result(**(given | read))


def _state(given: dict[str, Any], chat: bool, arrays: Sequence[Arrays]) -> State:
    """A state from JSON data; older files have no `chat` per state and use that of the session."""
    return State.of(from_json(given["json"], arrays) if given["json"] else None, given.get("chat", chat))


def _passage(given: dict[str, Any]) -> Passage:
    return Passage(tuple(given["ids"]), tuple(given["pieces"]), tuple(map(tuple, given["skipped"])))


def _asked(given: dict[str, Any]) -> Asked:
    task = given["task"]
    if task is not None:
        task = Task(**(task | {"examples": tuple(_example(one) for one in task["examples"])}))
    return Asked(**(given | {"prompts": tuple(given["prompts"]), "task": task}))


def _example(given: dict[str, Any]) -> Example:
    read: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return Example(**read)
