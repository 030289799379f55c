"""The operating systems that guests stand on: one file each."""

from __future__ import annotations

from tawara.vm.bases.debian12 import DEBIAN12
from tawara.vm.bases.recipe import Recipe
from tawara.vm.bases.tiny import CLASSIC, TINY

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (TINY, DEBIAN12, CLASSIC)}
