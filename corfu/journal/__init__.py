"""The journal: preallocated, recycled, append-only files that make records durable.

`format` says how bytes lie on disk, `scan` reads them back, `planner` lays out what is appended,
`recovery` starts from what a folder holds, `execute` carries a disk operation out.
No module here does I/O of its own or reads a clock: operations go through `corfu.ports.Disk`.
"""
