"""The operating systems of guests: one module each."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from tawara.vm.bases.recipe import Recipe

DEFAULT = "tiny"
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for module in sorted(module.name for module in iter_modules(__path__))
    for recipe in getattr(import_module(f"{__name__}.{module}"), "RECIPES", ())
}
RECIPES = {DEFAULT: RECIPES[DEFAULT]} | RECIPES


def bases_that(can: str) -> str:
    """Return the names of the bases with a capability (`shares`, `grows`, `installs`), for messages."""
    return " or ".join(f'"{name}"' for name, recipe in RECIPES.items() if getattr(recipe, can))
