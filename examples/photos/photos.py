"""A photo album over Tawara: accounts, private originals, public thumbnails, uploads and videos.

All state is in the domain `photos` of the store; the bytes of pictures and videos are sent by the balancer. To run it:
docs/applications.md.
"""

import io
import os
import secrets
from datetime import timedelta

from flask import Flask, abort, redirect, render_template_string, request, session, url_for
from PIL import Image, ImageOps, UnidentifiedImageError
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.utils import secure_filename

from tawara.client import Client
from tawara.client.wsgi import WsgiFiles, tawara_file
from tawara.model.errors import NotFoundError

DOMAIN = "photos"
PAGE = """<!doctype html><meta charset=utf-8><title>Photos</title><h1>Photos of {{ user or "nobody yet" }}</h1>
{% if user %}<form method=post action="{{ url_for("upload") }}" enctype=multipart/form-data>
<input type=file name=file required><button>Upload</button></form>
{% for name in names %}<a href="{{ url_for("original", owner=user, name=name) }}">
{% if name in videos %}<video controls preload=metadata src="{{ url_for("original", owner=user, name=name) }}"></video>
{% else %}<img alt="{{ name }}" src="{{ url_for("thumbnail", owner=user, name=name) }}">{% endif %}</a>{% endfor %}
<form method=post action="{{ url_for("leave") }}"><button>Log out</button></form>
{% else %}<form method=post action="{{ url_for("enter") }}"><input name=user required pattern="[a-z0-9]+">
<input name=password type=password required><button>Log in, or open an account</button></form>{% endif %}"""

app = Flask(__name__)
app.secret_key = os.environ.get("PHOTOS_SECRET") or secrets.token_bytes(32)
app.config.update(
    SESSION_COOKIE_SAMESITE="Lax", MAX_CONTENT_LENGTH=1 << 30, PERMANENT_SESSION_LIFETIME=timedelta(days=9)
)
client = Client()  # the trackers in TAWARA_TRACKERS
app.wsgi_app = WsgiFiles(app.wsgi_app, balancer="PHOTOS_BALANCER" in os.environ, client=client)


def send(key):
    """Let the file be sent; browsers ask each time whether it has changed, which costs no bytes."""
    return "", {**tawara_file(DOMAIN, key), "Content-Type": "", "Cache-Control": "private, no-cache"}


@app.get("/")
def album():
    user = session.get("user")
    names = [key.split("/", 2)[2] for key in client.list_keys(DOMAIN, f"originals/{user}/")] if user else []
    videos = [name for name in names if name.rsplit(".", 1)[-1] in ("webm", "mp4")]
    return render_template_string(PAGE, user=user, names=names, videos=videos)


@app.post("/enter")
def enter():
    user, password = request.form["user"], request.form["password"]
    if not (user.isascii() and user.isalnum() and user == user.lower()):
        abort(400)
    try:
        known = client.get(DOMAIN, f"accounts/{user}").decode()
    except NotFoundError:
        known = generate_password_hash(password)
        client.put(DOMAIN, f"accounts/{user}", known.encode())
    if not check_password_hash(known, password):
        abort(403)
    session["user"] = user
    return redirect(url_for("album"))


@app.post("/leave")
def leave():
    session.clear()
    return redirect(url_for("album"))


@app.post("/upload")
def upload():
    user, file = session.get("user") or abort(403), request.files["file"]
    name = secure_filename(file.filename or "") or abort(400)
    client.put(DOMAIN, f"originals/{user}/{name}", file.stream, content_type=file.mimetype)
    if file.mimetype.startswith("image/"):
        try:
            file.stream.seek(0)
            small = ImageOps.exif_transpose(Image.open(file.stream)).convert("RGB")
        except (UnidentifiedImageError, OSError):
            abort(415)
        small.thumbnail((256, 256))
        small.save(data := io.BytesIO(), "JPEG")
        client.put(DOMAIN, f"thumbnails/{user}/{name}", data.getvalue(), content_type="image/jpeg")
    return redirect(url_for("album"))


@app.get("/<owner>/<name>")
def original(owner, name):
    return send(f"originals/{owner}/{name}") if session.get("user") == owner else abort(403)


@app.get("/<owner>/<name>/thumbnail")
def thumbnail(owner, name):
    return send(f"thumbnails/{owner}/{name}")
