"""Text of the configuration for an nginx that is not ours: applications behind it send files of the store."""

from __future__ import annotations

from typing import Final

from tawara.gateway.nginx_text import quoted

UPSTREAM: Final = "tawara"
SETTINGS: Final = """\
merge_slashes off;
recursive_error_pages on;
default_type "";
types { }
proxy_http_version 1.1;
proxy_buffer_size 16k;
proxy_buffers 8 64k;
proxy_busy_buffers_size 128k;
proxy_max_temp_file_size 0;
proxy_next_upstream off;
"""


def render_upstream(gateway: str) -> str:
    """Render where the gateway answers."""
    return f"upstream {UPSTREAM} {{\n    server {quoted(gateway)} max_fails=0;\n    keepalive 64;\n}}\n"


def head(key_file: str) -> str:
    """Render the comment at the beginning."""
    return f"""\
# Made by `tawara nginx-config`. To be included in the block http, for example in /etc/nginx/conf.d/.
# {key_file} has the access key, which may read the domains of these applications, in one line:
#     proxy_set_header Authorization "Bearer ID:SECRET";
# It is read by nginx's master process only, so it belongs to root and has mode 0600.
variables_hash_max_size 2048;  # remove these two where the block http has its own
variables_hash_bucket_size 128;
"""
