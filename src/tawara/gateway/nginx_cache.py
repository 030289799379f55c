"""Renders nginx's cache of files by fid, and the server block at which other gateways read it."""

from __future__ import annotations

import re
from typing import Final

from tawara.gateway.nginx_protocol import HeaderField
from tawara.gateway.nginx_text import indent, quoted, variable
from tawara.model.cache_settings import CacheSettings
from tawara.wire.signatures import FIELD as SIGNATURE

DIRECTORY: Final = "cache"
_MIB: Final = 1 << 20
_IGNORED: Final = "Cache-Control Expires Set-Cookie Vary"
"""Fields of a storage node's response that would prevent caching."""


def render_zone(cache: CacheSettings) -> str:
    """Render the cache itself. It keeps 8,000 names in a MiB of memory, here for files of 16 KiB and more."""
    names = max(2, min(512, cache.size >> 27))
    return (
        f"proxy_cache_path {DIRECTORY} levels=1:2 keys_zone=fids:{names}m max_size={max(1, cache.size // _MIB)}m"
        " min_free=512m inactive=1d use_temp_path=off;\n"
    )


def render_lookup(key: str) -> str:
    """Render the directives that send a response through the cache under the name in the variable `key`.

    A file is stored at its second read, and fetched once while several clients wait. nginx looks for a file that is
    being fetched at the end of the lock's time only, so that is short; a client that has waited in vain fetches the
    file itself.
    """
    return f"""\
proxy_cache fids;
proxy_cache_key {key};
proxy_cache_valid 200 365d;
proxy_cache_min_uses 2;
proxy_cache_lock on;
proxy_cache_lock_timeout 50ms;
proxy_force_ranges on;
proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset {_IGNORED};
"""


def render_peer_server(cache: CacheSettings, fetch: str) -> str:
    """Render the server block for other gateways; `fetch`: the directives of a request to a storage node.

    The path is `/FID-LENGTH/ADDRESS:PORT/devN/…/FID.fid`. Only a gateway with the secret may name a storage node.
    """
    if not cache.listen:
        return ""
    field = variable(SIGNATURE)
    node = "(?<tawara_node>[0-9a-f.:\\[\\]]+:[0-9]+)(?<tawara_file>/dev[0-9/]+\\.fid)"
    return f"""\
map $http_{field} $tawara_peer_signature {{
    default -;
    {quoted("~^" + re.escape(cache.secret) + "(?: (?<tawara_node_signature>[!-~]+))?$")} $tawara_node_signature;
}}
server {{
    listen {quoted(cache.listen)};
    location / {{
        return 404;
    }}
    location ~ "^/(?<tawara_content>[0-9]+-[0-9]+)/{node}$" {{
        if ($tawara_peer_signature = -) {{ return 403; }}
        proxy_pass http://$tawara_node$tawara_file;
        proxy_set_header {SIGNATURE} $tawara_peer_signature;
{indent(fetch + render_lookup("$tawara_content"), 8)}
    }}
}}
"""


CONTENT_VARIABLE: Final = f"${variable(HeaderField.CONTENT)}"
"""The variable with the name of a file in the cache."""
