"""`tawara nginx-config`: prints the configuration for an nginx that is not the gateway's own."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from tawara.model.applications import ANY, number_applications
from tawara.model.errors import UsageError


def nginx_config(
    *applications: str,
    gateway: Annotated[str, Parameter(help="ADDRESS:PORT of the setting gateway.balancers.")] = "127.0.0.1:7084",
    listen: Annotated[str, Parameter(help="Port or ADDRESS:PORT at which that nginx listens.")] = "80",
    key_file: Annotated[
        str, Parameter(help="File with the access key, in nginx's form.")
    ] = "/etc/nginx/tawara-key.conf",
) -> None:
    """Print the configuration by which another nginx sends files of the store for applications behind it.

    Each application is HOST=UPSTREAM: the name by which clients reach it, and HOST:PORT or unix:PATH at which it
    listens. It answers with `X-Accel-Redirect: /_tawara/DOMAIN/KEY`, and nginx fetches the file from the storage nodes.
    nginx 1.19.5 or newer will do, without further modules.

    Examples:
        tawara nginx-config photos.example=127.0.0.1:8000 > /etc/nginx/conf.d/tawara.conf
        tawara nginx-config photos.example=unix:/run/photos.sock --gateway 10.0.0.1:7084 --listen 8080

    Exit codes: 0 done, 2 wrong usage.
    """
    from tawara.gateway.nginx_configuration import render_for_balancer
    from tawara.gateway.nginx_parameters import Listener, NginxConfiguration
    from tawara.model import addresses
    from tawara.model.limits import Limits

    if not applications:
        raise UsageError("Name an application: tawara nginx-config photos.example=127.0.0.1:8000")
    if not key_file.startswith("/"):
        raise UsageError(f"--key-file {key_file}: write an absolute path")
    wanted = []
    for each in applications:
        host, equals, upstream = each.partition("=")
        if not equals or host.startswith("/"):
            raise UsageError(f"{each}: write HOST=UPSTREAM, for example photos.example=127.0.0.1:8000")
        wanted.append((host, upstream, [ANY], False))
    try:
        found = number_applications(wanted)
        address, port = addresses.listening(gateway)
        host, number = addresses.listening(listen if ":" in listen else f"0.0.0.0:{listen}")
    except ValueError as error:
        raise UsageError(str(error)) from None
    limits = Limits()
    conf = NginxConfiguration(
        listeners=[
            Listener(listen if listen.isdigit() else f"[{host}]:{number}" if ":" in host else f"{host}:{number}")
        ],
        applications=found,
        as_root=False,
        workers=1,
        connections=limits.connections,
        header=limits.header,
        headers=limits.headers,
        header_time=limits.header_time,
        stalled_body=limits.stalled_body,
        node_connect=limits.node_connect,
        node_answer=limits.node_answer,
        upload=limits.upload,
    )
    shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    sys.stdout.write(render_for_balancer(conf, shown, key_file))
