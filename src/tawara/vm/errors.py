"""Errors of packaged machines, each with its exit code and what to do next."""

from __future__ import annotations

from dataclasses import dataclass

from tawara.model.errors import ConfigurationError, ConflictError, CorruptError, NotFoundError, TawaraError


@dataclass(frozen=True, order=True)
class Mistake:
    """One mistake in a description: where it is, what it is, and how to correct it."""

    line: int
    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.where}: {self.what}. {self.remedy}"


class SpecError(ConfigurationError):
    """A machine description has mistakes."""

    code = "vm_spec"
    message = "The description of the machine has mistakes"
    hint = None

    def __init__(self, path: str, mistakes: list[Mistake]) -> None:
        self.path = path
        self.mistakes = sorted(set(mistakes))  # what several guests inherit is wrong once
        lines = "\n".join(f"  {each}" for each in self.mistakes)
        count = "1 mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        super().__init__(f"{path}: {count}\n{lines}")

    @staticmethod
    def plain(what: str, remedy: str) -> ConfigurationError:
        """Return a mistake that is in no file, such as one on the command line."""
        return ConfigurationError(what, hint=remedy)


class BuildError(TawaraError):
    """A package could not be built."""

    code = "vm_build"
    message = "The package could not be built"
    hint = None


class MissingProgramError(TawaraError):
    """A program that this step needs is not installed."""

    code = "vm_missing_program"
    message = "A program that this step needs is not installed"
    hint = None


class ImageError(CorruptError):
    """An image is damaged or of another kind."""

    code = "vm_image"
    message = "The image is not what it should be"
    hint = None


class HostError(TawaraError):
    """The virtual machine host refused an operation."""

    code = "vm_host"
    message = "The virtual machine host refused"
    hint = "`virsh -c qemu:///system list --all` shows whether libvirt answers."


class SwitchedOffError(TawaraError):
    """The guest was switched off because it did not shut down in time."""

    code = "vm_switched_off"
    message = "The guest did not shut down in time and was switched off"
    hint = "What it had not written is lost, as in a power cut. `--timeout SECONDS` gives it longer."


class NoSuchInstanceError(NotFoundError):
    """No instance has this name."""

    code = "vm_no_instance"
    message = "No such instance"
    hint = "`tawara vm list` shows those that there are."


class TakenError(ConflictError):
    """A name or address is used already."""

    code = "vm_taken"
    message = "The name or address is taken"
    hint = None
