"""Hand-written HTTP/1 for the small requests that are nearly all of the load; aiohttp's server for all others.

* `fast_path`: server connections that answer plain requests and hand all others to the complete server.
* `connections`: the complete server, which is aiohttp's with limits.
* `small_requests`: a client for HEAD and for GET of small files.
* `reply`: a reply as a value, and request fields that both servers parse.

The gain over aiohttp alone justifies the extra code. Measured on 2026-12-01 by `python -m benchmarks.http1`, on a
virtual machine with 2 cores (AMD EPYC, ext4, Python 3.11, uvloop) that other work kept busy, so that only the ratios
count; 32 connections, one process:

====================================  ============  ========  =====
                                      hand-written  aiohttp   ratio
====================================  ============  ========  =====
PUT 1 KiB (fsynced) and HEAD, /s      1322          750       1.76
node, µs of processor per request     275           490       0.56
GET 1 KiB, /s                         3156          1336      2.36
node, µs of processor per request     236           431       0.55
HEAD by the client, µs of processor   102           182       0.56
====================================  ============  ========  =====
"""
