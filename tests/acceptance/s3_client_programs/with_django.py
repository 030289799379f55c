"""A Django site whose uploads are in S3 by django-storages: a form, a listing, pictures by presigned URLs.

Arguments: endpoint, id, secret, bucket, region. The site is served to a browser's requests, then asked for them.
"""
# mypy: ignore-errors

import html
import re
import sys
import threading
import urllib.request
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from django.conf import settings
from django.core.files.storage import default_storage
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import path

endpoint, access_key, secret, bucket, region = sys.argv[1:]
settings.configure(
    SECRET_KEY="only for this test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    STORAGES={
        "default": {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {
                "endpoint_url": endpoint,
                "access_key": access_key,
                "secret_key": secret,
                "bucket_name": bucket,
                "region_name": region,
            },
        },
    },
)
django.setup()


def photos(request):
    """The page: a form that uploads, and all pictures."""
    if request.method == "POST":
        default_storage.save(f"photos/{request.FILES['photo'].name}", request.FILES["photo"])
        return HttpResponseRedirect("/")
    names = default_storage.listdir("photos")[1]
    pictures = "".join(f'<img src="{html.escape(default_storage.url(f"photos/{name}"))}">' for name in names)
    form = '<form method="post" enctype="multipart/form-data"><input type="file" name="photo"></form>'
    return HttpResponse(form + pictures)


urlpatterns = [path("", photos)]


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, *_):
        """See WSGIRequestHandler."""


from django.core.wsgi import get_wsgi_application  # noqa: E402 - needs the settings

server = make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()
site = f"http://127.0.0.1:{server.server_port}/"
picture = bytes(range(256)) * 40
form = b'--X\r\nContent-Disposition: form-data; name="photo"; filename="cat 1.png"\r\nContent-Type: image/png\r\n\r\n'
body = form + picture + b"\r\n--X--\r\n"
upload = urllib.request.Request(site, body, {"Content-Type": "multipart/form-data; boundary=X"})
with urllib.request.urlopen(upload) as answer:
    page = answer.read().decode()
(url,) = re.findall(r'<img src="([^"]+)">', page)
with urllib.request.urlopen(html.unescape(url)) as answer:
    assert (answer.read(), answer.headers["Content-Type"]) == (picture, "image/png")
name = "photos/cat 1.png"
assert default_storage.exists(name)
assert default_storage.size(name) == len(picture)
with default_storage.open(name) as file:
    assert file.read() == picture
assert default_storage.get_modified_time(name) is not None
default_storage.delete(name)
assert not default_storage.exists(name)
server.shutdown()
