"""Django's storage on a real store: a project whose uploads go there, by Django's own test client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection, models
from django.http import FileResponse, HttpRequest, HttpResponse
from django.test import Client as Browser
from django.urls import path

from tawara.django import BUFFER, TawaraStorage
from tests.acceptance.cluster import DOMAIN, run


def upload(request: HttpRequest) -> HttpResponse:
    """Save the uploaded file in a model; answer its URL."""
    return HttpResponse(photo_model().objects.create(picture=request.FILES["picture"]).picture.url)


def download(request: HttpRequest, number: int) -> FileResponse:
    """Send the file of a model."""
    return FileResponse(photo_model().objects.get(pk=number).picture.open())


def photo_model() -> Any:
    """The model of the project, which needs Django to be set up."""
    from django.apps import apps

    if "photos" in apps.all_models and "photo" in apps.all_models["photos"]:
        return apps.all_models["photos"]["photo"]

    class Photo(models.Model):
        """A photo."""

        picture = models.FileField(upload_to="photos/%Y")

        class Meta:
            app_label = "photos"

    return Photo


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A project of Django with a store: its settings, its tables."""
    with run(tmp_path_factory.mktemp("store"), hosts=1) as store:
        options: dict[str, object] = {"domain": DOMAIN, "trackers": store.trackers}
        backends: dict[str, dict[str, object]] = {
            "default": {"base_url": "https://files.example/d/"},
            "below": {"location": "/app/", "storage_class": "one", "allow_overwrite": True},
        }
        settings.configure(
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            ROOT_URLCONF=(path("upload", upload), path("photo/<int:number>", download)),
            ALLOWED_HOSTS=["testserver"],
            USE_TZ=True,
            STORAGES={
                name: {"BACKEND": "tawara.django.TawaraStorage", "OPTIONS": options | more}
                for name, more in backends.items()
            },
        )
        django.setup()
        with connection.schema_editor() as editor:
            editor.create_model(photo_model())
        yield
        for name in ("default", "below"):
            storages[name].client.close()
        connection.close()


@pytest.fixture
def storage(project: None) -> TawaraStorage:
    """The default storage of the project."""
    found = storages["default"]
    assert isinstance(found, TawaraStorage)
    return found


def test_uploads_by_a_form(storage: TawaraStorage, tmp_path: Path) -> None:
    """A FileField's upload is in the store, has a URL, is sent back; a second one of the same name gets another."""
    data = os.urandom(3 * BUFFER)
    picture = tmp_path / "my cat.jpg"
    picture.write_bytes(data)
    names = []
    for number in (1, 2):
        with picture.open("rb") as file:
            url = Browser().post("/upload", {"picture": file}).content.decode()
        name = photo_model().objects.get(pk=number).picture.name
        assert url == f"https://files.example/d/{name}"
        assert storage.client.get(DOMAIN, name) == data
        answer: Any = Browser().get(f"/photo/{number}")
        assert (answer.status_code, int(answer["Content-Length"])) == (200, len(data))
        assert b"".join(answer.streaming_content) == data
        answer.close()
        names.append(name)
    assert names[0].startswith(f"photos/{datetime.now(UTC).year}/my_cat")
    assert names[0] != names[1]
    photo = photo_model().objects.get(pk=1)
    photo.picture.delete()
    assert not storage.exists(names[0])


def test_the_methods_of_a_storage(storage: TawaraStorage) -> None:
    """Files are saved, opened, listed, measured, dated and deleted, as Django's documentation describes it."""
    assert storage.save("a/b.txt", ContentFile("text äöü")) == "a/b.txt"
    assert storage.save("a/c/d.bin", ContentFile(b"bytes")) == "a/c/d.bin"
    assert storage.listdir("a") == storage.listdir("a/") == (["c"], ["b.txt"])
    assert "a" in storage.listdir("")[0]
    assert storage.size("a/b.txt") == len("text äöü".encode())
    with storage.open("a/b.txt") as file:
        file.seek(5)
        assert (file.read().decode(), file.size) == ("äöü", storage.size("a/b.txt"))
    age = datetime.now(UTC) - storage.get_modified_time("a/b.txt")
    assert 0 <= age.total_seconds() < 100
    assert storage.get_created_time("a/b.txt") == storage.get_modified_time("a/b.txt")
    assert storage.url("a/ü 1.txt") == "https://files.example/d/a/%C3%BC%201.txt"
    storage.delete("a/b.txt")
    storage.delete("a/b.txt")
    assert not storage.exists("a/b.txt")
    for call in (storage.open, storage.size, storage.get_modified_time, storage.listdir):
        with pytest.raises(FileNotFoundError):
            call("a/b.txt")
    for name in ("../x", "a/../../x", "/etc/passwd"):
        with pytest.raises(SuspiciousFileOperation):
            storage.exists(name)
    with pytest.raises(ValueError, match="name must be given"):
        storage.delete("")
    storage.delete("a/c/d.bin")


def test_a_location_and_overwriting(storage: TawaraStorage) -> None:
    """A storage may be a prefix of a domain, have a class, and replace files; without base_url it has no URLs."""
    below = storages["below"]
    for content in (b"one", b"two"):
        assert below.save("x.txt", ContentFile(content)) == "x.txt"
    info = storage.client.info(DOMAIN, "app/x.txt")
    assert (info.length, info.storage_class, below.open("x.txt").read()) == (3, "one", b"two")
    assert below.listdir("") == ([], ["x.txt"])
    with pytest.raises(ValueError, match="base_url"):
        below.url("x.txt")
    with below.open("written", "wb") as file:
        file.write(b"12")
        file.write("ü")
        assert not below.exists("written")
    assert storage.client.get(DOMAIN, "app/written") == "12ü".encode()
    with pytest.raises(ZeroDivisionError), below.open("half", "wb") as file:
        raise ZeroDivisionError
    assert not below.exists("half")
    with pytest.raises(ValueError, match="never changed"):
        below.open("x.txt", "ab")


def test_a_replaced_file_is_not_mixed(storage: TawaraStorage) -> None:
    """A file that is replaced while it is read raises an error instead of yielding bytes of both."""
    storage.store("big", b"1" * (2 * BUFFER))
    with storage.open("big") as file:
        assert file.read(10) == b"1" * 10
        storage.store("big", b"2" * (2 * BUFFER))
        with pytest.raises(OSError, match="replaced while it was open"):
            file.read()
        with pytest.raises(OSError, match="before the start"):
            file.seek(-1)


def test_migrations_can_name_it(storage: TawaraStorage) -> None:
    """The storage of a field is written into migrations by its path and arguments."""
    assert TawaraStorage("d", location="x").deconstruct() == ("tawara.django.TawaraStorage", ("d",), {"location": "x"})
