"""The journal: preallocated, recycled, append-only files that make records durable.

`format` says how bytes lie on disk, `state` what the journal notes about itself, `scan` reads files
back, `planner` lays out what is appended (its books are in `files`), `recovery` starts from what
a `folder` holds, `execute` carries a disk operation out.
No module here does I/O of its own or reads a clock: operations go through `corfu.ports.Disk`.
"""
