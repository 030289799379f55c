"""HTTP/1 by hand where a complete library is too slow, and the bounded server that nodes and gateways share."""
